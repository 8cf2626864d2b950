"""Who runs outside of a git repository is told so once: nothing says then which code made the results."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import curidask as cf
from curidask.runs import record as run_records
from tests.conftest import DEMO, Project

NOTICE = "the project is in no git repository"
IN_REPORT = "this ran in no git repository"


@pytest.fixture
def outside() -> Iterator[Project]:
    """A project that no folder above puts into a repository, whatever the tests lie in."""
    with tempfile.TemporaryDirectory(prefix="curidask-no-repository-") as folder:
        project = Project(Path(folder).resolve())
        project.write("curidask.toml", "")
        project.write("experiments/demo.py", DEMO)
        yield project


def log_of(project: Project, run: dict[str, str]) -> str:
    return (project.root / "logs" / f"{run['reference']}.log").read_text()


def page_of(project: Project, run: dict[str, str]) -> str:
    return (project.root / "reports" / run["reference"] / "index.html").read_text()


def test_a_run_says_once_that_there_is_no_repository(outside: Project) -> None:
    done = outside.experiment("demo", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(NOTICE) == 1
    run = outside.last_run()
    assert log_of(outside, run).count(NOTICE) == 1
    assert page_of(outside, run).count(IN_REPORT) == 1
    assert run["warnings"] == []  # it is about no result
    assert outside.experiment("demo", "--quiet", "--parallel", "0").stderr == ""


@pytest.mark.parametrize("flags", [["--map"], ["--hashes"], ["--paths"]])
def test_who_only_looks_is_told_nothing(outside: Project, flags: list[str]) -> None:
    assert NOTICE not in outside.experiment("demo", *flags).stderr


def test_a_project_below_the_folder_of_a_repository_is_in_it(outside: Project) -> None:
    subprocess.run(["git", "init", "-q", outside.root], check=True)
    below = Project(outside.root / "below")
    below.write("curidask.toml", "")
    below.write("experiments/demo.py", DEMO)
    done = below.experiment("demo", "--parallel", "0")
    assert NOTICE not in done.stderr
    assert IN_REPORT not in page_of(below, below.last_run())


def test_another_place_of_the_repository_counts(outside: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_records.in_repository(outside.root)
    monkeypatch.setenv("GIT_DIR", str(outside.root / "elsewhere"))
    assert run_records.in_repository(outside.root)


def test_a_live_session_has_it_in_log_and_report_only(
    outside: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(outside.root)

    @cf.stage(None, ["a"])
    def make(record: cf.Record) -> int:
        return 1

    with cf.ArtifactManager("session") as manager:
        assert not list((outside.root / "logs").glob("*"))
        for _ in range(2):
            make(cf.Record(manager, None))
        manager.generate_report()
    run = outside.last_run()
    assert log_of(outside, run).count(NOTICE) == 1
    assert page_of(outside, run).count(IN_REPORT) == 1
    assert NOTICE not in "".join(capfd.readouterr())


def test_a_dry_session_says_and_writes_nothing(
    outside: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(outside.root)

    @cf.stage(None, ["a"])
    def make(record: cf.Record) -> int:
        return 1

    with cf.ArtifactManager("session", dry=True) as manager:
        make(cf.Record(manager, None))
    assert NOTICE not in "".join(capfd.readouterr())
    assert sorted(path.name for path in outside.root.iterdir()) == ["curidask.toml", "experiments"]
