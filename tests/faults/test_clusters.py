"""Local workers that do not end by themselves."""

from __future__ import annotations

import os
import signal
import time

from curidask import clusters


def test_workers_that_do_not_end_in_time_are_killed_and_the_run_is_none_the_worse() -> None:
    with clusters.local(2) as connection:
        pids = [nanny.pid for nanny in connection.cluster.workers.values()]
        os.kill(pids[0], signal.SIGSTOP)  # as on a machine that gives it no time
    left = pids
    end = time.monotonic() + 30
    while left and time.monotonic() < end:
        left = [pid for pid in left if is_alive(pid)]
    assert not left


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
