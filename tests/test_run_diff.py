"""``curidask diff`` tells what differs between two runs, and only that; what is damaged hides nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curidask.session.explain.run_diff import Output, Side, differences
from tests.conftest import Project
from tests.test_explaining import CLEAN, EXPERIMENT, edit


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after three runs, before the last of which much was edited."""
    project = Project(tmp_path_factory.mktemp("diff") / "project")
    project.write("curidask.toml", "")
    project.write("experiments/e.py", EXPERIMENT)
    project.write("text/__init__.py", "")
    project.write("text/clean.py", CLEAN)
    assert project.experiment("e", "--parallel", "0", "--no-report").returncode == 0
    assert project.experiment("e", "--parallel", "0", "--no-report").returncode == 0
    edit(project, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    edit(project, "experiments/e.py", "lr: float = 0.1", "lr: float = 0.5")
    edit(project, "experiments/e.py", "depth=2", "depth=3")
    edit(project, "experiments/e.py", "range(3)", "range(1, 4)")
    assert project.experiment("e", "--parallel", "0", "--no-report").returncode == 0
    return project.root


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(first, tmp_path / "project")))


def diff(project: Project, *arguments: str) -> list[str]:
    done = project.command("curidask", "diff", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def record_of(project: Project, number: int) -> Path:
    (path,) = (project.root / "data" / "runs").glob(f"e_{number}_*/run.json")
    return path


def files(project: Project) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.suffix != ".pyc"}


def test_all_that_differs_is_told_and_nothing_is_changed(made: Project) -> None:
    old, new = (record_of(made, number).parent.name for number in (1, 3))
    before = files(made)
    head, *lines = diff(made, "e_1", "latest")
    assert files(made) == before
    assert [part.split(" ")[0] for part in head.split("  ->  ")] == [old, new]
    assert lines == [
        "parameters:",
        "  lr: 0.1 -> 0.5: set1, set2",
        f"  sets of {old} only: set0",
        f"  sets of {new} only: set3",
        "code:",
        "  constant text.clean.LIMIT changed: load",
        "      @@ -1 +1 @@",
        "      -LIMIT = 10",
        "      +LIMIT = 20",
        "packages: the same",
        "arguments and inputs:",
        "  fit: argument depth is another: set1, set2",
        "  table: 1 more records (set3): None",
        "  table: 1 fewer (set0): None",
        "  table: input model has other contents: None",
        "outputs:",
        "  load.rows: 2 the same under another key: set1, set2",
        f"  load.rows: 1 of {new} only: set3",
        f"  load.rows: 1 of {old} only: set0",
        "  fit.model: 2 with other contents: set1, set2",
        f"  fit.model: 1 of {new} only: set3",
        f"  fit.model: 1 of {old} only: set0",
        "  table.table: 1 the same under another key: None",
    ]


def test_runs_that_do_not_differ(made: Project) -> None:
    assert diff(made, "e_1", "e_2")[1:] == [
        *(f"{title}: the same" for title in ("parameters", "code", "packages", "arguments and inputs")),
        "outputs:",
        "  load.rows: 3 the same",
        "  fit.model: 3 the same",
        "  table.table: 1 the same",
    ]


def test_packages_and_an_experiment_for_its_last_run(made: Project) -> None:
    path = record_of(made, 1)
    record = json.loads(path.read_text())
    record["packages"] |= {"numpy": "1.0\x1b[2J", "python": "2.7"}
    path.write_text(json.dumps(record))
    lines = diff(made, "e_1", "e")
    assert record_of(made, 3).parent.name in lines[0]
    assert any(line.startswith("  python 2.7 -> 3.") for line in lines)
    assert any(line.startswith("  numpy 1.0") for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("asked", ["f_1", "latst", "", "..", "../../x"])
def test_a_run_that_is_not_there_is_told_with_near_ones(made: Project, asked: str) -> None:
    done = made.command("curidask", "diff", "e_1", asked)
    assert done.returncode == 2
    assert f"There is no run {asked!r}." in done.stderr
    assert record_of(made, 1).parent.name in done.stderr
    assert not done.stdout


def test_a_damaged_record_is_told_and_the_cache_tells_the_rest(made: Project) -> None:
    whole = diff(made, "e_1", "e_3")
    record_of(made, 1).write_text("{")
    (record_of(made, 1).parent / "status.json").unlink()
    _, problem, *lines = diff(made, record_of(made, 1).parent.name, "e_3")
    assert "The run record is damaged" in problem
    assert [line for line in lines if "sets of" not in line] == [line for line in whole[1:] if "sets of" not in line]
    shutil.rmtree(record_of(made, 1).parent)
    assert "There is no run record" in diff(made, "e_1", "e_3")[1]


def test_artifacts_that_are_gone_or_damaged_are_told(made: Project) -> None:
    whole = diff(made, "e_1", "e_3")
    rows = json.loads(record_of(made, 1).read_text())["tasks"]
    stems = [row["artifacts"][0] for row in rows if row["stage"] == "fit"]
    (made.cache / f"{stems[1]}_metadata.json").unlink()
    (made.cache / f"{stems[2]}_metadata.json").write_text("{")
    lines = diff(made, "e_1", "e_3")
    (told,) = (line for line in lines if "!" in line)
    assert "! 2 artifacts of e_1_" in told
    assert [line for line in whole if "depth" not in line] == [line for line in lines if line != told]
    shutil.rmtree(made.cache)
    lines = diff(made, "e_1", "e_3")
    assert "  lr: 0.1 -> 0.5: set1, set2" in lines
    assert "  fit.model: 2 with other contents: set1, set2" in lines


def side(reference: str, outputs: dict[str, Output], **record: Any) -> Side:
    return Side(reference, {"tasks": [], **record}, "", {("fit", name, "m", 0): out for name, out in outputs.items()})


def test_each_way_in_which_outputs_compare() -> None:
    old = {
        "a": Output("s1.000000000001", "k1", "d1"),
        "b": Output("s2.000000000002", "k2", "d2"),
        "c": Output("s3.000000000003", "k3", ""),
        "d": Output("", "k4", ""),
        "e": Output("", "k5", ""),
        "f": Output("s6.000000000006", "k6", "d6"),
    }
    new = {
        "a": Output("s1.000000000001", "k1", "d9"),
        "b": Output("s9.000000000009", "k9", "d2"),
        "c": Output("s8.000000000008", "k8", "d3"),
        "d": Output("", "k4", ""),
        "e": Output("", "k6", ""),
        "other set": Output("s6.000000000006", "k6", "d6"),
    }
    lines = [line.strip() for line in differences(side("r1", old), side("r2", new)) if "fit.m" in line]
    assert lines == [
        "fit.m: 1 with the same key and other contents: a",
        "fit.m: 1 the same under another key: b",
        "fit.m: 2 made in another way, of contents that are not known: c, e",
        "fit.m: 2 the same",
    ]


def test_nested_values_by_their_path() -> None:
    sets = [{"x": {"name": "p", "values": {"name": "p", "data": {"seed": n, "size": 1}, "new": n}}} for n in (1, 2)]
    del sets[0]["x"]["values"]["new"]
    lines = list(differences(side("r1", {}, param_sets=sets[0]), side("r2", {}, param_sets=sets[1])))
    assert lines[1:4] == ["parameters:", "  data.seed: 1 -> 2: p", "  new: (none) -> 2: p"]
