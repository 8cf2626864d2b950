"""Local workers that do not end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import curidask as cf
from curidask.clusters.local import local
from curidask.clusters.tls import security_of_a_run
from curidask.execution.dask import connection as silent_workers
from tests.conftest import Project
from tests.processes import wait_for


def test_workers_that_do_not_end_in_time_are_killed_and_the_run_is_none_the_worse() -> None:
    with local(2) as connection:
        pids = [nanny.pid for nanny in connection.cluster.workers.values()]
        os.kill(pids[0], signal.SIGSTOP)  # as on a machine that gives it no time
    wait_for(lambda: not any(map(is_alive, pids)), 30, "the workers to end")


def test_workers_that_dask_fails_to_end_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the worker is not told anything")

    with local(2) as connection:
        pids = [nanny.pid for nanny in connection.cluster.workers.values()]
        # Seen on a busy machine, where nothing brings it about at will; workers and nannies are real.
        monkeypatch.setattr("distributed.nanny.WorkerProcess.kill", fail)
    wait_for(lambda: not any(map(is_alive, pids)), 10, "the workers to end")


def test_nobody_else_on_the_machine_talks_to_local_workers() -> None:
    """A scheduler runs the code of whoever reaches it, and every user of a machine reaches its loopback."""
    from distributed import Client

    with local(1) as connection:
        address = connection.client.scheduler.address
        (worker,) = connection.client.nthreads()
        (nanny,) = connection.cluster.workers.values()
        for place in (address, worker, nanny.address):
            assert place.startswith("tls://127.0.0.1:")
            strangers = ((place.replace("tls://", "tcp://"), None), (place, security_of_a_run()))
            for asked, security in strangers:
                with pytest.raises((OSError, TimeoutError)):
                    Client(asked, security=security, timeout=1, set_as_default=False)
        for pid in (os.getpid(), nanny.pid):
            for file in ("cmdline", "environ"):
                assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/{file}").read_bytes()
        assert connection.client.submit(lambda: 2).result() == 2


def test_workers_that_come_and_go_leave_nothing_in_the_driver() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "churn.py"
    done = subprocess.run(
        [sys.executable, script, "--joins", "60"], capture_output=True, text=True, timeout=160, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 workers joined and left" in done.stdout


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


QUEUED = """
import os
import time
from pathlib import Path

import curidask as cf


@cf.stage(None, ["value"])
def load(record):
    calls = Path(__file__).parents[1] / "calls"
    calls.mkdir(exist_ok=True)
    is_first = not list(calls.glob(f"*_{os.getpid()}"))
    (calls / f"{record.params.name}_{os.getpid()}").touch()
    time.sleep(2 if is_first else 0.05)
    return record.params.name


@cf.aggregate(["value"], ["values"])
def gather(record, records, value):
    return sorted(value.values())


def get_params():
    return [cf.ExperimentParameters(f"set{i}") for i in range(12)]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
    return gather(cf.Record(manager, None)).state["values"]
"""


def test_what_waits_on_a_worker_that_is_stopped_goes_to_others(
    in_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_project.write("experiments/queued.py", QUEUED)
    monkeypatch.setattr(silent_workers, "SILENT_SECONDS", 2.0)
    calls = in_project.root / "calls"

    def begun() -> list[list[str]]:
        """Set and process of each call."""
        return [path.name.split("_") for path in calls.iterdir()] if calls.exists() else []

    def stop_one() -> None:
        wait_for(lambda: len({pid for _, pid in begun()}) == 2)
        time.sleep(1)  # it says that it lives, and what it runs
        victim = begun()[0][1]
        os.kill(int(victim), signal.SIGSTOP)
        try:
            # One more may stay with it, where it had no time to say what it runs.
            wait_for(lambda: len({name for name, _ in begun()}) >= 11, 40, "what waited there to be done by others")
        finally:
            os.kill(int(victim), signal.SIGCONT)

    thread = threading.Thread(target=stop_one)
    thread.start()
    values, manager = cf.run_experiment("queued", parallel=2, report=False, mngr=True)
    thread.join()
    assert values == sorted(f"set{i}" for i in range(12))
    assert len(begun()) <= 13
    assert any("has said nothing for" in text for text in manager.run_record.warnings)


class InLine:
    """A task as the scheduler keeps it."""

    actor = False

    def __init__(self, key: str) -> None:
        self.key = key
        self.priority = (key,)


class Worker:
    """A worker as the scheduler keeps it."""

    def __init__(self, executing: str, nthreads: int) -> None:
        tasks = [InLine(key) for key in "dcab"]
        self.processing = dict.fromkeys(tasks, 1.0)
        self.executing = {task: 1.0 for task in tasks if task.key in executing}
        self.nthreads = nthreads


@pytest.mark.parametrize(
    ("executing", "nthreads", "left"), [("b", 1, "dca"), ("", 1, "cb"), ("", 2, ""), ("a", 2, "c"), ("ab", 2, "dc")]
)
def test_what_a_silent_worker_may_have_begun_stays_with_it(executing: str, nthreads: int, left: str) -> None:
    assert "".join(task.key for task in silent_workers._in_line(Worker(executing, nthreads))) == left
