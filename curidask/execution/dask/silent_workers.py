"""Workers of which the scheduler has not heard for long: what they hold in line goes to others.

A worker process that is stopped, or whose machine is, keeps its connection, so dask takes it for alive; and dask takes
nothing from a worker that does not answer. The same is true of a stage that holds the interpreter for minutes. What
such a worker runs stays with it: it may well end. What waits behind that is what others can do.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from distributed import Status
from distributed.scheduler import heartbeat_interval

TOPIC = "curidask-silence"

SILENT_SECONDS = 30.0
"""After how long without a word a worker gets nothing more to do, and hands on what waits."""
LOOK_SHARE = 6.0
"""How many looks there are in that time."""
MISSED_SIGNS = 4
"""Signs of life that must be missing in any case: of many workers, each sends them less often."""


class Watch:
    """Looks, in the scheduler's own loop, for workers of which nothing was heard.

    Parameters
    ----------
    scheduler : distributed.Scheduler
    seconds : float
        See `SILENT_SECONDS`.
    """

    def __init__(self, scheduler: Any, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._paused: set[str] = set()
        self._looked = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds between two looks."""
        return self._seconds / LOOK_SHARE

    def look(self) -> None:
        """Find the silent workers, and those that are heard again."""
        late = time.monotonic() - self._looked
        self._looked = time.monotonic()
        if late > self._seconds / 2:
            return  # this process itself was stopped or busy: what workers sent meanwhile is not read yet
        workers = self._scheduler.workers
        since = time.time() - max(self._seconds, MISSED_SIGNS * heartbeat_interval(len(workers)))
        silent = {worker for worker in workers.values() if worker.last_seen < since}
        for worker in [workers[address] for address in self._paused if address in workers]:
            if worker not in silent:
                self._set(worker, Status.running)
        self._paused = {worker.address for worker in silent if self._hand_on(worker, silent)}

    def _hand_on(self, worker: Any, silent: Collection[Any]) -> bool:
        """Give what waits there to others, if there are any; whether the worker gets nothing more."""
        others = self._scheduler.running.difference(silent)
        if not others:
            return False
        if worker.status is Status.running:
            self._set(worker, Status.paused)
        elif worker.address not in self._paused:
            return False
        waiting = [task for task in _in_line(worker) if self._others_can(task, others, silent)]
        if waiting:
            self._scheduler.transitions({task.key: "released" for task in waiting}, f"curidask-silent-{time.time()}")
            text = f"worker {worker.name} has said nothing for {time.time() - worker.last_seen:.0f} s"
            self._scheduler.log_event(TOPIC, f"{text}; of the tasks that wait there, others get {len(waiting)}")
        return True

    def _others_can(self, task: Any, others: Collection[Any], silent: Collection[Any]) -> bool:
        valid = self._scheduler.valid_workers(task)
        can_run = valid is None or not valid.isdisjoint(others)
        return can_run and all(dependency.who_has.difference(silent) for dependency in task.dependencies)

    def _set(self, worker: Any, status: Status) -> None:
        self._scheduler.handle_worker_status_change(status, worker, f"curidask-silent-{time.time()}")


def _in_line(worker: Any) -> list[Any]:
    """What a worker was given and has not begun, as far as the scheduler knows.

    The last sign of life named what ran then. What was begun since is what came first, to a worker that had nothing,
    or what goes first.
    """
    begun = {task for task in worker.executing if task in worker.processing}
    n_unknown = max(0, worker.nthreads - len(begun))
    came = [task for task in worker.processing if task not in begun]
    begun.update(came[:n_unknown], sorted(came, key=lambda task: task.priority)[:n_unknown])
    return [task for task in came if task not in begun and not task.actor]
