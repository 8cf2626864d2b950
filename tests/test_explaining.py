"""``curidask explain`` names what changed: parameter, code, argument, upstream, records; and nothing that did not."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import curidask as cf
from curidask.cli.commands import cli
from curidask.core.artifact_names import CODE
from curidask.session.explain.code_store import read_code
from curidask.session.explain.differences import Candidates
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest
from tests.conftest import Project

EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher
import text.clean

@dataclass
class Params(cf.ExperimentParameters):
    lr: float = 0.1
    seed: int = 0

@cf.stage(None, ["rows"], [JsonCacher], params=["seed"])
def load(record):
    return text.clean.strip([record.params.seed])

@cf.stage(["rows"], ["model"], [JsonCacher])
def fit(record, rows, depth=1):
    return [rows, record.params.lr, depth]

@cf.aggregate(["model"], ["table"], [JsonCacher])
def table(record, records, model):
    return len(model)

def get_params():
    return [Params(f"set{i}", seed=i) for i in range(3)]

def run(param_sets, manager):
    records = [fit(load(cf.Record(manager, p)), depth=2) for p in param_sets]
    table(cf.Record(manager, None), records)
"""

CLEAN = "LIMIT = 10\n\n\ndef strip(rows):\n    return rows[:LIMIT]\n"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a run."""
    project = Project(tmp_path_factory.mktemp("explain") / "project")
    project.write("curidask.toml", "")
    project.write("experiments/e.py", EXPERIMENT)
    project.write("text/__init__.py", "")
    project.write("text/clean.py", CLEAN)
    assert project.experiment("e", "--parallel", "0", "--no-report").returncode == 0
    return project.root


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(first, tmp_path / "project")))


def explained(project: Project, *arguments: str) -> str:
    done = project.command("curidask", "explain", "e", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(project: Project, path: str, old: str, new: str) -> None:
    text = (project.root / path).read_text()
    assert text.count(old) == 1
    project.write(path, text.replace(old, new))


def test_what_is_in_the_cache_needs_no_reason(made: Project) -> None:
    assert explained(made).splitlines() == ["load: 3 not needed", "fit: 3 not needed", "table: 1 reused"]


AGAIN = ["  input rows, which load makes, is another: set0, set1, set2"]
TABLE = ["table: 1 to run", "  input model, which fit makes, is another: None"]


def test_an_edit_of_code_is_named_with_its_diff(made: Project) -> None:
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20  # more")
    assert explained(made).splitlines() == [
        "load: 3 to run",
        "  constant text.clean.LIMIT changed: set0, set1, set2",
        "      @@ -1 +1 @@",
        "      -LIMIT = 10",
        "      +LIMIT = 20  # more",
        "fit: 3 to run",
        *AGAIN,
        *TABLE,
    ]


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("text/clean.py", "rows[:LIMIT]", "rows[1:LIMIT]", "function text.clean.strip changed: set0, set1, set2"),
        ("experiments/e.py", "return text.clean", "return text . clean", ""),
        ("text/clean.py", "def strip", "# why\ndef strip", ""),
        ("experiments/e.py", "lr: float = 0.1", "lr: float = 0.5", "parameter lr: 0.1 -> 0.5: set0, set1, set2"),
        ("experiments/e.py", "depth=2", "depth=3", "argument depth is another: set0, set1, set2"),
        ("experiments/e.py", "seed=i", "seed=i + 10", "parameter seed: 2 -> 10: set0"),
        ("experiments/e.py", "return len(model)", "return -len(model)", "function experiments.e.table changed: None"),
        (
            "experiments/e.py",
            "records, model):",
            "records, model, more=1):",
            "function experiments.e.table changed: None",
        ),
        ("experiments/e.py", "range(3)", "range(4)", "1 more records (set3): None"),
        ("experiments/e.py", '["seed"])', '["seed"], version=3)', "its code -> version 3: set0, set1, set2"),
        ("experiments/e.py", '["seed"])', '["seed"], code="ignore")', "code counted, and does not now: set0"),
        (
            "experiments/e.py",
            '"rows"], [JsonCacher]',
            '"rows", "x"], [JsonCacher] * 2',
            "its outputs are listed otherwise",
        ),
    ],
)
def test_each_kind_of_change_is_named(made: Project, path: str, old: str, new: str, said: str) -> None:
    edit(made, path, old, new)
    lines = explained(made)
    assert said in lines
    assert ("to run" in lines) == bool(said)


def test_one_stage_and_some_sets(made: Project) -> None:
    edit(made, "experiments/e.py", "depth=2", "depth=3")
    assert explained(made, "--stage", "fit", "-n", "set1").splitlines() == [
        "fit: 1 to run",
        "  argument depth is another: set1",
    ]
    wrong = made.command("curidask", "explain", "e", "--stage", "fti")
    assert wrong.returncode == 2
    assert "the experiment calls: fit, load, table" in wrong.stderr


def test_what_was_never_computed_and_what_is_gone(made: Project) -> None:
    (artifact,) = [p for p in (made.root / "data" / "cache").glob("*_table_*.json") if "metadata" not in p.name]
    artifact.unlink()
    assert "never computed" in explained(made, "--prefix", "other")
    assert "table: 1 to run" in explained(made)


def test_what_cannot_be_followed_is_told(made: Project) -> None:
    edit(made, "text/clean.py", "return rows[:LIMIT]", "return eval('rows[:LIMIT]')")
    assert "  not followed: eval in text.clean.strip" in explained(made, "--stage", "load")


def test_code_is_kept_once(made: Project) -> None:
    folder = made.root / "data" / "cache" / CODE
    assert len(list(folder.iterdir())) == 3
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    edit(made, "experiments/e.py", "range(3)", "range(5)")
    made.experiment("e", "--parallel", "0", "--no-report")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"parts": 1}', b'{"parts": [[1, 2, 3, 4]]}', b'{"parts": [["a"]]}'])
def test_kept_code_of_another_form_is_none(tmp_path: Path, content: bytes) -> None:
    store = ArtifactStore.open(tmp_path)
    store.objects.write(f"{CODE}{'0' * 64}.json", content)
    assert read_code(store, ["0" * 64, "../../x", "", "version 1"]) == {}


def test_kept_code_does_not_control_the_terminal(made: Project) -> None:
    for path in (made.root / "data" / "cache" / CODE).iterdir():
        kept = json.loads(path.read_text())
        kept["parts"] = [[name, kind, "0" * 64, source + "\x1b[2J"] for name, kind, _, source in kept["parts"]]
        path.write_text(json.dumps(kept))
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    edit(made, "experiments/e.py", "return len(model)", "return -len(model)")
    assert "\x1b" not in explained(made)


def test_another_stage_whose_name_ends_alike_is_another(made: Project) -> None:
    text = (made.root / "experiments/e.py").read_text()
    made.write("experiments/e.py", text.replace("def fit(", "def re_fit(").replace("fit(load", "re_fit(load"))
    made.experiment("e", "--parallel", "0", "--no-report", "--prefix", "other")
    made.write("experiments/e.py", text)
    assert "never computed" in explained(made, "--prefix", "other", "--stage", "fit")


def test_versions_that_are_others_now_are_told_and_make_nothing_run(made: Project) -> None:
    store = ArtifactStore.open(made.cache)
    for path in made.cache.glob("*_metadata.json"):
        manifest = store.manifest(path.name.removesuffix("_metadata.json"))
        assert manifest is not None
        packages = {"python": "2.7\x1b[2J", "no_such_package": "1", "curidask": manifest.packages["curidask"]}
        path.write_bytes(replace(manifest, packages=packages).to_bytes())
    (told,) = (line for line in explained(made).splitlines() if "package" in line)
    assert re.fullmatch(r"  package python 2\.7\S+ -> 3\.\S+ since then; versions do not count", told)
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    lines = explained(made, "--stage", "load").splitlines()
    assert (lines[0], lines[-1]) == ("load: 3 to run", told)


def test_values_that_are_many_are_told_together(made: Project) -> None:
    edit(made, "experiments/e.py", "range(3)", "range(10, 30)")
    lines = explained(made, "--stage", "load").splitlines()
    assert lines == [
        "load: 20 to run",
        "  parameter seed is another, with 20 pairs of values: set10, set11, set12, set13 and 16 more",
    ]


def manifest_of(created: int, code: str, params: str, values: dict[str, Any], inputs: dict[str, str]) -> Manifest:
    components = {"code": code, "params": params, "kwargs": {}, "inputs": inputs}
    return Manifest(
        key=f"{created}", stem="", prefix="", stage="", output="", params_hash="", components=components, params=values,
        created=f"{created}",
    )  # fmt: skip


def test_the_nearest_artifact_is_the_one_with_the_fewest_differences() -> None:
    @dataclass
    class Params(cf.ExperimentParameters):
        a: int = 1
        b: int = 2
        c: int = 3

    def nearest(*candidates: tuple[str, str, dict[str, Any], dict[str, str]]) -> str:
        components = {"code": "x", "params": "p", "kwargs": {}, "inputs": {"i": "k"}}
        record = SimpleNamespace(params=Params("n"), used_names=("a", "b", "c"))
        task: Any = SimpleNamespace(components=components, record=record)
        made = [manifest_of(n, *each) for n, each in enumerate(candidates)]
        found = Candidates(made).nearest(task)
        return "" if found is None else found.key

    same, other = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "c": 9}
    assert nearest() == ""
    assert nearest(("x", "q", same, {}), ("x", "q", other, {})) == "0"
    assert nearest(("x", "q", {"a": 1, "b": 9, "c": 9}, {}), ("x", "q", {"a": 9, "b": 2, "c": 3}, {})) == "1"
    assert nearest(("y", "p", other, {}), ("x", "q", same, {"i": "k"})) == "0"  # the same parameters go first
    assert nearest(("x", "p", same, {"i": "k"}), ("y", "p", same, {"i": "k"}), ("y", "p", same, {"i": "j"})) == "0"
    assert nearest(("y", "p", same, {}), ("y", "p", same, {})) == "1"  # else the last
    assert nearest(*[("y", "q", {"a": n, "b": n, "c": n}, {}) for n in range(100)]) == "3"


def test_help_says_what_it_does() -> None:
    shown = CliRunner().invoke(cli, ["explain", "--help"]).output
    assert "Nothing is computed" in shown


def test_gc_removes_the_code_of_what_it_removed(made: Project) -> None:
    folder = made.root / "data" / "cache" / CODE
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    made.experiment("e", "--parallel", "0", "--no-report")
    assert len(list(folder.iterdir())) == 4
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    for options, n_left in ((["--unused", "1d"], 4), (["--keep-runs", "1", "--grace", "0s"], 3)):
        done = made.command("curidask", "cache", "gc", *options)
        assert done.returncode == 0, done.stderr
        assert len(list(folder.iterdir())) == n_left
