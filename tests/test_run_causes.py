"""Before a run stands why it computes what was computed before: a line a cause, and nothing where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.errors import CacheError
from curidask.session.explain import run_causes
from curidask.session.explain.run_causes import RunCauses
from tests.conftest import Project
from tests.s3proxy import S3Proxy
from tests.test_explaining import CLEAN, EXPERIMENT, edit


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a run, of which the errors are kept."""
    project = Project(tmp_path_factory.mktemp("causes") / "project")
    project.write("curidask.toml", "")
    project.write("experiments/e.py", EXPERIMENT)
    project.write("text/__init__.py", "")
    project.write("text/clean.py", CLEAN)
    (project.root / ".git").mkdir()
    project.write("errors", project.experiment("e", "--parallel", "0", "--no-report").stderr)
    return project.root


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(first, tmp_path / "project")))


def before_run(project: Project, *flags: str) -> list[str]:
    """What is said before the run goes on."""
    done = project.experiment("e", "--parallel", "0", "--no-report", *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    return lines[: lines.index("running in this process")] if "running in this process" in lines else lines


def test_nothing_is_said_of_a_first_run_and_where_all_is_cached(made: Project) -> None:
    assert (made.root / "errors").read_text().startswith("running in this process\n")
    assert before_run(made)[0].startswith("stage ")


def test_causes_are_told_and_not_what_follows_from_them(made: Project) -> None:
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    assert before_run(made) == ["load: constant text.clean.LIMIT changed: 3 tasks"]
    edit(made, "experiments/e.py", "lr: float = 0.1", "lr: float = 0.5")
    assert before_run(made) == ["fit: parameter lr: 0.1 -> 0.5: 3 tasks"]
    edit(made, "experiments/e.py", "depth=2", "depth=3")
    assert before_run(made, "-n", "set1") == [
        "fit: argument depth is another: 1 task",
        "table: 2 fewer records (set0, set2): 1 task",
    ]


def test_one_cause_of_several_stages_and_with_several_values(made: Project) -> None:
    edit(made, "experiments/e.py", "seed=i)", "seed=i + 10)")
    assert before_run(made) == ["load, fit: parameter seed is another: 6 tasks"]


def test_quiet_runs_say_nothing(made: Project) -> None:
    edit(made, "text/clean.py", "LIMIT = 10", "LIMIT = 20")
    done = made.experiment("e", "--parallel", "0", "--no-report", "--quiet")
    assert done.stderr == ""


def test_of_many_causes_some_are_told(made: Project) -> None:
    names = [f"N{n}" for n in range(7)]
    made.write("text/clean.py", CLEAN + "\n".join(f"{name} = 1" for name in names) + "\n")
    edit(made, "text/clean.py", "return rows[:LIMIT]", f"return rows[:LIMIT], {', '.join(names)}")
    before_run(made)
    text = (made.root / "text" / "clean.py").read_text()
    made.write("text/clean.py", text.replace(" = 1\n", " = 2\n"))
    lines = before_run(made)
    assert len(lines) == 6
    assert lines[-1] == "and 2 more: curidask explain e"


# --- at what cost ----------------------------------------------------------------------------------------------------
@dataclass
class Number(cf.ExperimentParameters):
    number: int = 0


def stage_of(version: int) -> Any:
    """A stage of one name, whatever the version is."""

    @cf.stage(None, ["value"], [JsonCacher], version=version)
    def make(record: cf.Record) -> int:
        return int(record.params.number)

    return make


def traced(cache: str, version: int, n_sets: int, **options: Any) -> cf.ArtifactManager:
    manager = cf.ArtifactManager("many", cache=cache, live=False, parallel=0, **options)
    make = stage_of(version)
    for number in range(n_sets):
        make(cf.Record(manager, Number(f"n{number}", number=number)))
    return manager


def test_a_bounded_part_of_a_bucket_is_looked_at(s3: str, s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    n_sets = 30
    with traced(s3, 1, n_sets) as manager:
        manager.finish()
    edited = traced(s3, 2, n_sets, dry=True)
    plan = edited.plan()
    monkeypatch.setattr(run_causes, "MOST_TASKS", 5)
    told = ["make: version 1 -> version 2: about 30 tasks"]
    for most_listed, said in ((5000, told), (20, told), (1, [])):
        monkeypatch.setattr(run_causes, "MOST_LISTED", most_listed)
        lines: list[str] = []
        s3_proxy.counts.clear()
        causes = RunCauses(edited.store, lambda: edited.codes.by_key, lambda some, n, to=lines: to.extend(some))
        causes.planned(edited.graph, plan)
        assert s3_proxy.counts["list"] <= 1
        assert s3_proxy.counts["get"] <= 5
        assert lines == said


def test_a_look_at_a_cache_that_cannot_be_listed_stops_nothing(tmp_path: Path) -> None:
    manager = traced(str(tmp_path / "cache"), 1, 3, dry=True)
    plan = manager.plan()

    def refused(prefix: str = "") -> Iterator[Any]:
        raise CacheError("The cache is gone.")

    manager.store.objects.entries = refused  # type: ignore[method-assign]
    lines: list[str] = []
    causes = RunCauses(manager.store, lambda: manager.codes.by_key, lambda some, n: lines.extend(some))
    causes.planned(manager.graph, plan)
    assert lines == []


def test_a_run_that_is_planned_again_and_again_is_looked_at_a_few_times(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with traced(cache, 1, 3) as manager:
        manager.finish()
    edited = traced(cache, 2, 3, dry=True)
    told: list[str] = []
    causes = RunCauses(edited.store, lambda: edited.codes.by_key, lambda some, n: told.extend(some))
    looks = 0
    listed = edited.store.objects.entries

    def entries(prefix: str = "") -> Iterator[Any]:
        nonlocal looks
        looks += 1
        return listed(prefix)

    edited.store.objects.entries = entries  # type: ignore[method-assign]
    for _ in range(10):
        causes.planned(edited.graph, edited.plan())
    assert (told, looks) == (["make: version 1 -> version 2: 3 tasks"], 1)
