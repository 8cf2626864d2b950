"""``curidask explain ARTIFACT`` tells what made an artifact, and all that it was made from; and what is wrong there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curidask.core.artifact_names import manifest_name
from curidask.runs.lineage import Lineage, tree
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest
from tests.conftest import Project

EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

LIMIT = 3

@dataclass
class Params(cf.ExperimentParameters):
    lr: float = 0.1
    seed: int = 0

@cf.stage(None, ["rows"], [JsonCacher], params=["seed"])
def load(record):
    with open(record.get_path("notes.txt"), "w") as file:
        file.write("x")
    return list(range(LIMIT))

@cf.stage(["rows"], ["scaled"])
def scale(record, rows):
    return [record.params.lr * row for row in rows]

@cf.stage(["rows", "scaled", "given"], ["model"], [JsonCacher])
def fit(record, rows, scaled, given, depth=1):
    return [rows, scaled, depth]

@cf.aggregate(["model"], ["table"], [JsonCacher])
def table(record, records, model):
    return len(model)

def get_params():
    return [Params(f"set{i}", lr=0.1 + i) for i in range(2)]

def run(param_sets, manager):
    records = []
    for params in param_sets:
        record = cf.Record(manager, params)
        record.state["given"] = 7
        records.append(fit(scale(load(record)), depth=2))
    table(cf.Record(manager, None), records)
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a run."""
    project = Project(tmp_path_factory.mktemp("lineage") / "project")
    project.write("curidask.toml", "")
    project.write("experiments/e.py", EXPERIMENT)
    done = project.experiment("e", "--parallel", "0", "--no-report")
    assert done.returncode == 0, done.stderr
    return project.root


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(first, tmp_path / "project")))


def explained(project: Project, *arguments: str) -> list[str]:
    done = project.command("curidask", "explain", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def stem_of(project: Project, part: str) -> str:
    """The first artifact with a part in its name."""
    return sorted(p.name.removesuffix("_metadata.json") for p in project.cache.glob(f"*{part}*_metadata.json"))[0]


def test_what_made_it_and_its_whole_lineage(made: Project) -> None:
    stem = stem_of(made, "table_table")
    lines = explained(made, stem)
    assert lines[0] == stem
    text = "\n".join(lines)
    for said in (
        "output table of stage table",
        "run e_1_",
        "by JsonCacher",
        "function experiments.e.table",
        "python 3",
    ):
        assert said in text
    below = lines[lines.index("  made from") + 1 :]
    load, fits = stem_of(made, "load_rows"), [line for line in below if ": fit of " in line]
    assert [line.split("  ")[-2].strip(" ├└─") for line in fits] == ["model: fit of set0", "model: fit of set1"]
    (once,) = (line for line in below if load in line and "(see above)" not in line)
    assert once.endswith(f"rows: load of set0  {load}")
    assert sum(": scale of " in line and line.endswith("(not stored)") for line in below) == 2
    assert sum(line.endswith("given: (a value that the experiment gave itself)") for line in below) >= 1


def test_parameters_arguments_and_constants(made: Project) -> None:
    stem = stem_of(made, "fit_model")
    text = "\n".join(explained(made, stem))
    assert "  param      lr = " in text
    assert "  argument   depth, of digest " in text
    assert "  code       " in text
    assert "             constant experiments.e.LIMIT" in "\n".join(explained(made, stem_of(made, "load_rows")))


@pytest.mark.parametrize(
    "name",
    [
        lambda stem: stem,
        lambda stem: f"data/cache/{stem}_metadata.json",
        lambda stem: f"./data/cache/{stem}.json",
        lambda stem: stem[:-4],
        lambda stem: stem[-12:],
    ],
)
def test_it_may_be_named_by_a_path_or_a_part(made: Project, name: Callable[[str], str]) -> None:
    stem = stem_of(made, "table_table")
    assert explained(made, name(stem))[0] == stem


def test_a_file_beside_the_outputs_leads_to_what_it_goes_with(made: Project) -> None:
    (path,) = (p for p in made.cache.rglob("*notes.txt*"))
    assert explained(made, str(path))[0] == stem_of(made, "load_rows")


def test_an_experiment_goes_first(made: Project) -> None:
    assert explained(made, "e")[0].startswith("load: ")
    assert explained(made, "e.py")[0].startswith("load: ")


def test_what_cannot_be_meant_is_told_with_near_names(made: Project) -> None:
    stem = stem_of(made, "table_table")
    unknown = made.command("curidask", "explain", "tabel_tabel")
    assert unknown.returncode == 2
    assert stem in unknown.stderr
    several = made.command("curidask", "explain", "fit_model")
    assert several.returncode == 2
    assert "2 artifacts have 'fit_model' in their names" in several.stderr
    assert "did you mean e?" in made.command("curidask", "explain", "ee").stderr
    flag = made.command("curidask", "explain", stem, "--stage", "fit")
    assert (flag.returncode, "no name of a module" in flag.stderr or "no experiment" in flag.stderr) == (2, True)


def test_where_there_is_no_cache(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("curidask.toml", "")
    done = project.command("curidask", "explain", "x")
    assert done.returncode == 2
    assert "neither an experiment nor an artifact 'x'" in done.stderr
    assert not project.cache.exists()


def test_what_is_damaged_or_gone_is_told_and_the_rest_is_shown(made: Project) -> None:
    fit, other = sorted(p.name for p in made.cache.glob("*_fit_model.*_metadata.json"))
    load = stem_of(made, "load_rows")
    (made.cache / fit).write_text("{")
    (made.cache / f"{load}.json").write_text("[1]")
    lines = explained(made, stem_of(made, "table_table"))
    text = "\n".join(lines)
    assert "! A manifest is cut off or changed" in text
    assert f"! damaged: its file {load}.json has another size" in text
    assert other.removesuffix("_metadata.json") in text
    (made.cache / f"{load}.json").unlink()
    (made.cache / f"{load}_metadata.json").unlink()
    (made.cache / other).unlink()
    text = "\n".join(explained(made, stem_of(made, "table_table")))
    assert f"{load}, which is not in the cache any more" in text
    shutil.rmtree(made.root / "data" / "runs")
    assert "which is not in the cache: removed, not stored" in "\n".join(explained(made, stem_of(made, "table_table")))
    alone = explained(made, fit.removesuffix("_metadata.json"))
    assert alone[1].startswith("  problem    A manifest is cut off or changed")


def rewrite(store: ArtifactStore, stem: str, **values: object) -> Manifest:
    """Another manifest in the place of one."""
    manifest, _ = Lineage([store], lambda run: ()).manifest(stem)
    assert manifest is not None
    changed = replace(manifest, **values)  # type: ignore[arg-type]
    store.objects.write(manifest_name(stem), changed.to_bytes())
    return changed


def test_other_contents_than_it_was_made_from_are_told(made: Project) -> None:
    store = ArtifactStore.open(made.cache)
    manifest, _ = Lineage([store], lambda run: ()).manifest(stem_of(made, "fit_model"))
    assert manifest is not None
    rows = [{**row, "digest": "0" * 64 if row["name"] == "rows" else ""} for row in manifest.inputs]
    rewrite(store, manifest.stem, inputs=tuple(rows))
    assert "! what it was made from had other contents (00000000) than this has now" in "\n".join(
        explained(made, manifest.stem)
    )


def test_what_holds_is_told_without_a_warning(made: Project) -> None:
    assert not [line for line in explained(made, stem_of(made, "fit_model")) if "! " in line]


def test_what_strangers_wrote_moves_no_cursor_and_goes_round_once(made: Project) -> None:
    store = ArtifactStore.open(made.cache)
    fit, load = stem_of(made, "fit_model"), stem_of(made, "load_rows")
    manifest, _ = Lineage([store], lambda run: ()).manifest(fit)
    assert manifest is not None
    circle = ({"name": "round\x1b[2J", "key": manifest.key, "digest": ""},)
    rewrite(store, load, inputs=circle, set_name="a\x1b[2J\nb", packages={"x\x1b[2J": "1"})
    rewrite(store, fit, params={"lr\x1b[2J": "\x1b[2J"}, components={"code": "version \x1b[2J", "kwargs": {"\x1b": 1}})
    lines = explained(made, fit)
    assert "\x1b" not in "".join(lines)
    assert len(lines) < 30


def test_long_chains_and_shared_sources() -> None:
    from curidask.runs.lineage import Source

    root = Manifest(
        key="0", stem="s", prefix="p", stage="t", output="o", params_hash="h", inputs=({"name": "a", "key": "k0"},)
    )
    sources = {f"k{n}": Source(f"t{n}", (), ((f"a{n}", f"k{n + 1}", ""), ("b", "k5000", ""))) for n in range(5000)}
    sources["k5000"] = Source("end", (), (("c", "end", ""),))
    sources["end"] = Source("last")
    lines = list(tree(root, sources))
    assert sum("end (see above)" in line for line in lines) == 5000
    assert max(map(len, lines)) < 400
