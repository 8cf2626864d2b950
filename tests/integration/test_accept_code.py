"""``--accept-code``: results of other code are taken as made by today's, where the user says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import curidask as cf
from curidask.errors import SelectionError
from curidask.store.manifest import Manifest
from tests.conftest import Project

EXPERIMENT = """
import curidask as cf
from curidask.caching import JsonCacher

def called(what):
    with open("calls", "a") as file:
        file.write(what + "\\n")

@cf.stage(None, ["n", "m"], [JsonCacher, JsonCacher])
def begin(record):
    called("begin")
    return 1, 2

@cf.stage(["n"], ["a"], [JsonCacher])
def middle(record, n):
    called("middle")
    return n + 1

@cf.stage(["a"], ["b"])
def between(record, a):
    called("between")
    return a

@cf.stage(["b"], ["c"], [JsonCacher])
def end(record, b):
    called("end")
    return b * 10

def get_params():
    return [cf.ExperimentParameters("p"), cf.ExperimentParameters("q")]

def run(param_sets, manager):
    records = [end(between(middle(begin(cf.Record(manager, params))))) for params in param_sets[:1]]
    if not manager.map_mode:
        print("VALUE", records[0].state["c"])
"""


def run(project: Project, *arguments: str, code: int = 0) -> tuple[list[str], str]:
    (project.root / "calls").write_text("")
    where = () if "--parallel" in arguments else ("--parallel", "0")
    done = project.experiment("e", "--no-report", *where, *arguments)
    assert done.returncode == code, done.stderr
    return (project.root / "calls").read_text().split(), done.stdout + done.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
def test_results_of_accepted_stages_are_taken_over(project: Project, workers: str) -> None:
    project.write("experiments/e.py", EXPERIMENT)
    run(project)
    edited = EXPERIMENT.replace("return 1, 2", "return 11, 12").replace("return n + 1", "return n + 2")
    project.write("experiments/e.py", edited)
    flags = ("--parallel", workers, "--accept-code", "begin", "--accept-code", "middle", "--yes")
    calls, told = run(project, *flags)
    assert calls == ["between", "end"]  # what is behind one that stores nothing is not compared
    assert "VALUE 20" in told
    for stage in ("begin", "middle"):
        start = f"results of the stage '{stage}' that other code has made (e_1_"
        lines = [line for line in told.splitlines() if start in line]
        assert len(lines) == 1
        assert lines[0].endswith(") are taken as made by today's (--accept-code)")
    assert run(project)[0] == []
    noted = [
        stage for path in (project.root / "data/cache").glob("e_*_metadata.json")
        if (stage := Manifest.from_bytes(path.read_bytes())).components.get("accepted code of")
    ]  # fmt: skip
    assert sorted(manifest.output for manifest in noted) == ["a", "m", "n"]


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("how", ["lost", "overwritten"])
def test_what_was_made_from_other_contents_is_not_accepted(project: Project, workers: str, how: str) -> None:
    text = EXPERIMENT.replace("return 1, 2", "return int(open('world').read()), 2")
    project.write("experiments/e.py", text)
    (project.root / "world").write_text("1")
    assert "VALUE 20" in run(project)[1]
    (project.root / "world").write_text("6")
    if how == "lost":
        for file in (project.root / "data/cache").glob("*_begin_n.*"):
            file.unlink()
    else:
        run(project, "--no-dag", "--overwrite-stage", "begin")
    project.write("experiments/e.py", text.replace("return n + 1", "return 1 + n"))
    calls, told = run(project, "--parallel", workers, "--accept-code", "middle", "--yes")
    assert calls == ["begin"] * (how == "lost") + ["middle", "between", "end"]
    assert "VALUE 70" in told
    assert run(project)[0] == []


def test_all_may_be_accepted_and_nothing_else_is(project: Project) -> None:
    project.write("experiments/e.py", EXPERIMENT)
    run(project)
    project.write("experiments/e.py", EXPERIMENT.replace("return n + 1", "return n + 2").replace("b * 10", "b * 100"))
    calls, told = run(project, "--accept-code", "middle", "--yes")
    assert calls == ["between", "end"]
    assert "VALUE 200" in told
    project.write(
        "experiments/e.py", EXPERIMENT.replace("return n + 1", "return n + 3").replace("return 1,", "return 3,")
    )
    calls, told = run(project, "--accept-code", "all", "--yes")
    assert "begin" not in calls
    assert "middle" not in calls


def test_it_asks_and_names_are_checked(project: Project) -> None:
    project.write("experiments/e.py", EXPERIMENT)
    run(project)
    project.write("experiments/e.py", EXPERIMENT.replace("return n + 1", "return n + 2"))
    _, told = run(project, "--accept-code", "middle", code=2)
    assert "give --yes as well" in told
    _, told = run(project, "--accept-code", "midle", "--yes", code=2)
    assert "no stage 'midle'" in told
    assert "did you mean 'middle'" in told
    assert run(project, "--accept-code", "middle", "--yes")[0] == ["between", "end"]


def test_what_was_stored_before_code_counted_is_taken_over_once_with_a_warning(project: Project) -> None:
    project.write("experiments/e.py", EXPERIMENT)
    run(project)
    cache = project.root / "data/cache"
    for path in list(cache.glob("e_*")):
        stem = path.name[: path.name.index(".") + 13]
        other = cache / path.name.replace(stem, f"{stem[:-12]}{'0' * 12}")
        path.rename(other)
    for path in cache.glob("e_*_metadata.json"):
        age(path)
    calls, told = run(project, "--parallel", "0")
    assert calls == ["between"]
    assert told.count("results from before code counted are taken as made by today's code") == 1
    calls, told = run(project)
    assert calls == []
    assert "before code counted" not in told


def age(path: Path) -> None:
    """Make a manifest into one of the time before code, and the order of outputs, were parts of keys."""
    old = Manifest.from_bytes(path.read_bytes(), where=path.name)
    components = {name: value for name, value in old.components.items() if name not in ("code", "outputs")}
    values = {name: getattr(old, name) for name in Manifest.__dataclass_fields__}
    stem = path.name.removesuffix("_metadata.json")
    aged = Manifest(**{**values, "components": components, "stem": stem, "key": "0" * 64})
    path.write_bytes(aged.to_bytes())


def test_a_session_takes_them_over_too(tmp_path: Path) -> None:
    def session(value: int, **options: object) -> int:
        @cf.stage(None, ["x"], [cf.caching.JsonCacher])
        def give(record: cf.Record) -> int:
            return value

        with cf.ArtifactManager("s", cache=tmp_path, suppress_live_log=True, **options) as manager:
            return int(give(cf.Record(manager, None)).state["x"])

    assert session(1) == 1
    assert session(2, accept_code=["give"]) == 1
    assert session(3) == 3
    with pytest.raises(SelectionError, match="give"):
        session(4, accept_code=["giv"])
    assert session(4) == 4
