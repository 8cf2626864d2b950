"""How runs and sessions begin and end: each has a name of its own, and each step of the end is done."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import curidask as cf
from curidask import cli
from curidask.clusters.fork_server import METHOD
from curidask.runs import record as run_records
from curidask.session.at_exit import close_abandoned
from curidask.session.cache import RunCache
from tests.conftest import Project
from tests.processes import wait_for


# --- references ------------------------------------------------------------------------------------------------------
def reserve(runs: str) -> tuple[int, str]:
    return run_records.new_reference("demo", Path(runs), reserve=True)


def test_64_processes_get_64_references(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(16) as pool:
        found = pool.map(reserve, [str(tmp_path / "runs")] * 64, chunksize=1)
    assert sorted(number for number, _ in found) == list(range(1, 65))
    assert {reference for _, reference in found} == {path.name for path in (tmp_path / "runs").iterdir()}


def test_without_locks_references_differ_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curidask.store.backends.local.fcntl", None)
    with multiprocessing.get_context("fork").Pool(16) as pool:
        found = pool.map(reserve, [str(tmp_path / "runs")] * 64, chunksize=1)
    assert len({reference for _, reference in found}) == 64


def test_runs_that_start_together_have_a_record_each(project: Project) -> None:
    runs = [project.start("demo", "--parallel", "0", "--no-report") for _ in range(6)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    records = [json.loads(path.read_text()) for path in project.root.glob("data/runs/*/run.json")]
    assert sorted(record["number"] for record in records) == [1, 2, 3, 4, 5, 6]
    assert {record["status"] for record in records} == {"done"}


def test_a_session_in_which_nothing_happens_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cf.ArtifactManager("nothing", parallel=0):
        assert len(list((tmp_path / "data" / "runs").iterdir())) == 1
    assert list((tmp_path / "data" / "runs").iterdir()) == []


# --- the end ---------------------------------------------------------------------------------------------------------
@cf.stage(None, ["n"], [cf.caching.JsonCacher])
def one(record: Any) -> int:
    return 1


@cf.stage(None, ["n"])
def interrupt(record: Any, how: Path) -> int:
    if how.exists():
        how.unlink()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    return 2


@cf.stage(None, ["n"])
def wait(record: Any, how: Path) -> int:
    while how.exists():
        time.sleep(0.01)
    return 2


def run_record(root: Path) -> dict[str, Any]:
    (path,) = root.glob("data/runs/*/run.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_each_step_of_the_end_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def broken(self: RunCache, *_: Any) -> None:
        raise OSError("the disk is gone")

    manager = cf.ArtifactManager("ends", parallel=0)
    one(cf.Record(manager, None))
    for step in ("remove_work", "end_use"):
        monkeypatch.setattr(RunCache, step, broken)
    with pytest.raises(OSError, match="the disk is gone"):
        manager.close()
    assert run_record(tmp_path)["status"] == "done"
    assert run_record(tmp_path)["seconds"] > 0
    manager.close()  # once is enough


def test_a_session_that_is_bound_anew_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    monkeypatch.chdir(tmp_path)
    manager = cf.ArtifactManager("bound", parallel=0)
    assert one(cf.Record(manager, None)).state["n"] == 1
    first = manager.reference
    manager = cf.ArtifactManager("bound", parallel=0)
    gc.collect()
    close_abandoned()
    record = json.loads((tmp_path / "data" / "runs" / first / "run.json").read_text())
    assert record["status"] == "done"
    manager.close()


def test_an_interrupted_cell_leaves_the_session_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = tmp_path / "interrupted"
    with cf.ArtifactManager("cells", parallel=0) as manager:
        before = one(cf.Record(manager, None))
        how.touch()
        with pytest.raises(KeyboardInterrupt):
            interrupt(cf.Record(manager, None), how=how).state["n"]
        assert interrupt(cf.Record(manager, None), how=how).state["n"] == 2
        assert before.state["n"] == 1
    assert run_record(tmp_path)["status"] == "done"


def test_an_interrupted_cell_with_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = tmp_path / "waits"
    how.touch()
    with cf.ArtifactManager("cells", parallel=1) as manager:
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            wait(cf.Record(manager, None), how=how).state["n"]
        how.unlink()
        assert wait(cf.Record(manager, None), how=how).state["n"] == 2


SWALLOWS = """
import os, signal, time
import curidask as cf

@cf.stage(None, ["n"])
def fails(record):
    raise ValueError("of another record")

@cf.stage(None, ["n"])
def interrupted(record):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    for stage in (fails, interrupted, interrupted, fails):
        try:
            stage(cf.Record(manager, param_sets[0])).state["n"]
        except BaseException as error:
            print(type(error).__name__)
"""


def test_after_an_interrupt_that_run_swallowed_nothing_runs(project: Project) -> None:
    project.write("experiments/swallows.py", SWALLOWS)
    done = project.experiment("swallows", "--parallel", "0", timeout=60)
    assert done.stdout.split() == ["StageFailedError", *["KeyboardInterrupt"] * 3]
    assert done.returncode == 130, done.stderr


# --- workers that start ----------------------------------------------------------------------------------------------
def processes_of(session: int) -> dict[int, int]:
    """The workers of a run and what they are forked from, each with its parent; all have the same command."""
    listed = subprocess.run(["ps", "-wweo", "sid=,pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    named = ("forkserver import main", "spawn_main")
    return {
        int(pid): int(parent)
        for sid, pid, parent, command in rows
        if int(sid) == session and any(name in command for name in named)
    }


def starting_workers_of(session: int) -> list[int]:
    found = processes_of(session)
    return [pid for pid, parent in found.items() if parent in found or METHOD == "spawn"]


def starting_workers(run: subprocess.Popen[str]) -> list[int]:
    """The processes of a run's workers, as soon as there are some."""
    wait_for(lambda: starting_workers_of(run.pid))
    return starting_workers_of(run.pid)


@pytest.mark.parametrize(
    ("sent", "later"), [(signal.SIGINT, 0.0), (signal.SIGINT, 0.1), (signal.SIGINT, 0.4), (signal.SIGTERM, 0.1)]
)
def test_an_interrupt_while_workers_start_says_so_and_no_more(
    project: Project, sent: signal.Signals, later: float
) -> None:
    run = project.start("demo", "--parallel", "2")
    wait_for(lambda: starting_workers_of(run.pid) if later else processes_of(run.pid))
    time.sleep(later)
    os.killpg(run.pid, sent) if sent == signal.SIGINT else run.send_signal(sent)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "interrupted; what had finished is in the cache" in errors
    assert "Traceback" not in errors
    assert "distributed" not in errors


def test_a_worker_that_dies_while_it_starts_is_replaced(project: Project) -> None:
    run = project.start("demo", "--parallel", "2")
    os.kill(starting_workers(run)[0], signal.SIGKILL)
    _, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert "warning" not in errors


def test_workers_leave_no_folder_and_remove_those_of_the_dead(project: Project, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    folders = temporary / f"curidask-{os.getuid()}"
    killed = project.start("demo", "--parallel", "2", env=env)
    wait_for(lambda: folders.exists() and any((folder / "owner").exists() for folder in folders.iterdir()))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not starting_workers_of(killed.pid))
    assert list(folders.iterdir())
    run = project.start("demo", "--parallel", "2", "--overwrite", env=env)
    _, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize("start", [cli.main, cli.curidask_main])
def test_an_interrupt_before_anything_has_begun_is_no_traceback(
    start: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 130
    assert capfd.readouterr().err == ""
