"""Local workers that do not end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from curidask.clusters.certificates import security_of_a_run
from curidask.clusters.local import local
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
