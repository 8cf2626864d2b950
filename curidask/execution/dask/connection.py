"""The way to the workers: opens the cluster, hears of workers that come and go, and opens it anew when it is lost."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any

from distributed import Status
from distributed.scheduler import heartbeat_interval

from curidask.clusters.base import Connection, counted
from curidask.clusters.preflight import Admission
from curidask.errors import ClusterError, CuridaskError

# --- workers of which the scheduler has not heard for long -----------------------------------------------------------
# What they hold in line goes to others.
#
# A worker process that is stopped, or whose machine is, keeps its connection, so dask takes it for alive; and dask
# takes nothing from a worker that does not answer. The same is true of a stage that holds the interpreter for minutes.
# What such a worker runs stays with it: it may well end. What waits behind that is what others can do.

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


# --- connection ------------------------------------------------------------------------------------------------------
Check = Callable[[Connection], Admission]

LOAD_SECONDS = 2.0
ASKED_AT_MOST = 64
"""Workers whose memory is asked for: more would make the answer long."""


class ClusterConnection:
    """A connection that can be opened again.

    Parameters
    ----------
    connection : context manager of Connection
        Entered now.
    check : callable
        Looks at a cluster that others set up, before it is used.
    reopen : callable, optional
        Gives a context manager like the first.
    restarts : int
        How often to use it.

    Attributes
    ----------
    has_lost_workers : bool
        Whether a worker has gone since somebody set this to False.
    admission : Admission or None
        What the check found; None for workers that this process started on its own machine.
    on_death : callable
        Told of each worker that died, and of how many tasks it had; in a thread of dask's.
    """

    def __init__(
        self,
        connection: AbstractContextManager[Connection],
        check: Check,
        *,
        reopen: Callable[[], AbstractContextManager[Connection]] | None = None,
        restarts: int = 0,
    ) -> None:
        self.admission: Admission | None = None
        self.has_lost_workers = False
        self._check = check
        self._reopen = reopen
        self._restarts = restarts if reopen is not None else 0
        self.on_death: Callable[[str, int], None] = lambda worker, n_running: None
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = False
        self._load = ""
        self._memory = ""
        self._asking = False
        self._load_at = 0.0
        self._lock = threading.Lock()
        self._open(connection)

    def _open(self, connection: AbstractContextManager[Connection]) -> None:
        self._workers: set[str] = set()
        # Race: the scheduler lists a worker, it goes, we hear of that, and then the list arrives.
        self._gone: set[str] = set()
        self._is_counting = True
        self._empty_since = time.monotonic()
        with contextlib.ExitStack() as stack:
            self._connection = stack.enter_context(connection)
            try:
                self._prepare()
            except CuridaskError:
                raise
            except OSError as error:  # what dask raises when it loses a connection is one
                raise ClusterError(
                    f"The cluster was lost while it was being checked: {error}",
                    where=self._connection.description,
                    fix="run the same command again",
                ) from error
            stack.enter_context(_first_death_counts(self._connection.cluster))
            self._stack = stack.pop_all()

    def _prepare(self) -> None:
        if not self._connection.is_here:
            self.admission = self._check(self._connection)
            for finding in self.admission.findings:
                self._news.put(f"{finding.what} ({finding.fix})")
        for text in self._connection.warnings:
            self._news.put(text)
        self.client.subscribe_topic("all", self._on_event)
        with self._lock:
            self._workers.update(set(self.client.nthreads()) - self._gone)
            self._gone.clear()
            self._is_counting = False

    @property
    def client(self) -> Any:
        """The client of dask."""
        return self._connection.client

    @property
    def is_up(self) -> bool:
        """Whether the client is connected."""
        return bool(self.client.status == "running")

    @property
    def n_workers(self) -> int:
        """How many workers there are now, 1 at least."""
        return max(1, len(self._workers))

    @property
    def description(self) -> str:
        """The cluster and its dashboard."""
        return f"on {self._connection.description} (dashboard {self.client.dashboard_link})"

    @property
    def wait_seconds(self) -> float:
        """How long to wait for workers."""
        return self._connection.wait_seconds

    def tell(self, text: str) -> None:
        """Add to the `news`."""
        self._news.put(text)

    def load(self) -> str:
        """The number of workers and, of not too many, the memory that they take; asked for now and then."""
        now = time.monotonic()
        if now - self._load_at > LOAD_SECONDS and self.is_up:
            self._load_at = now
            n_workers = len(self._workers)
            if 0 < n_workers <= ASKED_AT_MOST and not self._asking:
                self._asking = True
                self.client.loop.add_callback(self._ask_memory)
            self._load = counted(n_workers) + self._memory
        return self._load

    async def _ask_memory(self) -> None:
        # Nobody waits for the answer: over a link that is cut it never comes.
        try:
            workers = (await self.client.scheduler.identity()).get("workers", {}).values()
            memory = sum(worker.get("metrics", {}).get("memory", 0) for worker in workers)
            self._memory = f", {memory / 2**30:.1f} GiB of memory"
        except Exception:
            self._memory = ""  # the connection is lost, which shows elsewhere
        finally:
            self._asking = False

    # --- workers -----------------------------------------------------------------------------------------------------
    def news(self) -> list[str]:
        """What happened since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._news.get_nowait())
        return found

    def require_workers(self) -> None:
        """Give up when no worker has been there for too long.

        Raises
        ------
        ClusterError
            With what the cluster itself says.
        """
        waited = time.monotonic() - self._empty_since
        if self._workers or waited < self._connection.wait_seconds:
            return
        words = "".join(f"\n    {line}" for line in self._connection.trouble().splitlines())
        raise ClusterError(
            f"All workers are gone, and none came back within {self._connection.wait_seconds:g} s.{words}",
            where=self._connection.description,
            fix="start workers, or look at why they ended; the same command does the rest",
        )

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if not isinstance(message, dict) or self._closing:
            return
        worker = str(message.get("worker"))
        if message.get("action") == "add-worker":
            with self._lock:
                self._workers.add(worker)
        elif message.get("action") == "remove-worker":
            with self._lock:
                if self._is_counting:
                    self._gone.add(worker)
                self._workers.discard(worker)
                self._empty_since = time.monotonic()
                self.has_lost_workers = True
            running = len(message.get("processing-tasks", ()))
            if not message.get("expected"):
                self.on_death(worker, running)

    # --- the end -----------------------------------------------------------------------------------------------------
    def restart(self) -> None:
        """Open the cluster again after it was lost.

        Raises
        ------
        ClusterError
            When that was not asked for, was done as often as asked, or does not work.
        """
        description = self._connection.description
        if not self._restarts:
            raise ClusterError(
                "The connection to the dask scheduler was lost.",
                where=description,
                fix="run the same command again: what had finished is in the cache (`--restart 1` does that by itself)",
            )
        self._restarts -= 1
        self._news.put(
            f"the connection to the scheduler of {description} was lost; the run goes on with a new one, and what had "
            f"finished is in the cache (restarts left: {self._restarts})"
        )
        self._leave()
        assert self._reopen is not None
        self._open(self._reopen())

    def kill(self) -> None:
        """End at once, in the middle of their jobs, the workers that were started on this machine."""
        self._closing = True
        self._connection.kill()

    def close(self) -> None:
        """Leave the cluster, ending the workers that were started for it."""
        self._closing = True
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # of a cluster that is gone, there is nothing to end
            self._stack.close()


@contextlib.contextmanager
def _first_death_counts(cluster: Any) -> Iterator[None]:
    """Let the scheduler of a cluster that was started for us give back at once what was on a worker that died.

    By itself it runs all that again elsewhere, the stage that kills workers too, before anybody can find out which one
    that is. A scheduler that others started stays as it is.
    """
    scheduler = getattr(cluster, "scheduler", None)
    before = getattr(scheduler, "allowed_failures", None)
    if scheduler is None or before is None:
        yield
        return
    scheduler.allowed_failures = 0
    try:
        yield
    finally:
        scheduler.allowed_failures = before
