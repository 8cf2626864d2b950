"""Jobs on dask workers: sent as chained futures, heard of when they end, begun anew when the scheduler is lost."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection
from curidask.clusters.preflight import Admission, admit
from curidask.core.spec import StageSpec
from curidask.errors import CuridaskError
from curidask.execution.base import (
    MADE,
    Environment,
    ErrorInfo,
    Executor,
    Job,
    JobResult,
    Kind,
    Outcome,
    ValueGoneError,
)
from curidask.execution.dask.chains import Chain, InFlight, undone
from curidask.execution.dask.connection import ClusterConnection
from curidask.execution.dask.plugins import Hear, listen, unheard
from curidask.execution.dask.resources import Demands, Unmet
from curidask.execution.dask.submission import Sender, is_blob
from curidask.execution.dask.worker_deaths import DeathPolicy, Deaths
from curidask.execution.dask.worker_tasks import value_of
from curidask.execution.project.project_files import ProjectFiles
from curidask.execution.returned_paths import unpack
from curidask.execution.tracebacks import describe_error

PULSE_SECONDS = 0.5
"""How long a wait for results lasts at most."""

LINGER_SECONDS = 0.05
"""How long a wait goes on for more once something has ended, while the workers have enough to do."""

ENOUGH = 8
"""Chains a worker that keep it busy for longer than a linger."""

SOON_SECONDS = 0.1
"""How long a wait for results lasts at most while it is still to be found out why a worker died."""


class _Lost(Exception):
    """The connection to the scheduler is gone, and with it all that was sent there."""


class DaskExecutor(Executor):
    """Runs jobs through a dask client.

    Parameters
    ----------
    connection : contextlib.AbstractContextManager of Connection
        Entered now, left by `close`.
    files : ProjectFiles, optional
        The project's; those of the current folder by default.
    reopen : callable, optional
        Gives a context manager like `connection`, to go on with when the scheduler is lost.
    restarts : int
        How often to go on.
    hear : callable, optional
        Given what stages say while they run, in a thread of dask's.

    Raises
    ------
    ClusterError
        When the cluster does not come up, or cannot run the project.
    """

    def __init__(
        self,
        connection: AbstractContextManager[Connection],
        env: Environment,
        *,
        files: ProjectFiles | None = None,
        reopen: Callable[[], AbstractContextManager[Connection]] | None = None,
        restarts: int = 0,
        hear: Hear = unheard,
    ) -> None:
        self._env = env
        self._hear = hear
        self._files = files or ProjectFiles(Path.cwd())
        self._guilty: set[int] = set()
        self._waiting: list[Outcome] = []
        self._is_closed = False
        self._link = ClusterConnection(connection, self._admit, reopen=reopen, restarts=restarts)
        self._begin()

    def _begin(self) -> None:
        """Start with nothing sent."""
        run = uuid.uuid4().hex
        self._demands = Demands(self._client)
        self._deaths = Deaths(run, self._demands.largest_memory)
        listen(self._client, run, self._hear, self._deaths)
        self._demands.largest_memory()  # remembered, for when one of them has just died
        self._link.on_death = self._deaths.removed
        self._ended: queue.SimpleQueue[tuple[Chain, str, Any]] = queue.SimpleQueue()
        self._under_way = InFlight()
        self._sender = Sender(self._link, run, self._env, self._files, self._under_way, self._listen)
        self._aftermath = DeathPolicy(
            run, self._deaths, self._under_way, self._sender.send_again, self._env.store, self._guilty
        )

        self._unmet = Unmet(self._demands, self._under_way, self._link, self._aftermath.failed)

    def _admit(self, connection: Connection) -> Admission:
        packages = self._files.imported().packages
        return admit(connection, self._env.store, packages, self._files.root)

    @property
    def n_workers(self) -> int:  # type: ignore[override]  # it changes by itself here
        """How many workers there are now."""
        return self._link.n_workers

    @property
    def description(self) -> str:
        """The cluster and its dashboard."""
        return self._link.description

    @property
    def _client(self) -> Any:
        return self._link.client

    def check(self, specs: Iterable[StageSpec]) -> None:
        """Refuse stages that no worker can run."""
        self._demands.check(specs, self._link.description)

    # --- submission --------------------------------------------------------------------------------------------------
    def submit(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> None:
        """Send a batch as one graph."""
        jobs = self._with_values(jobs, after)
        if jobs:
            self._sender.send(jobs, after)

    def _with_values(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[Job]:
        """The jobs without those that have nothing to run on.

        Those that were called with something that was changed since fail; those whose values in memory are gone, with a
        lost scheduler, go back.
        """
        back: set[int] = set()
        sent: list[Job] = []
        known = self._under_way.chains.keys() | {job.id for job in jobs}
        looked_at: dict[Any, str] = {}
        for job in jobs:
            lost = tuple(task for task in job.passed if task not in known)
            try:
                job.check_unchanged(looked_at)
            except CuridaskError as error:
                back.add(job.id)
                self._waiting.append(Outcome(job.id, Kind.FAILED, error=describe_error(error, portable=False)))
                continue
            if lost or not back.isdisjoint(after.get(job.id, ())):
                back.add(job.id)
                self._waiting.append(Outcome(job.id, Kind.INPUT_LOST if lost else Kind.INPUT_UNAVAILABLE, lost=lost))
            else:
                sent.append(job)
        return sent

    # --- results -----------------------------------------------------------------------------------------------------
    def poll(self, timeout_seconds: float | None = None) -> list[Outcome]:
        """Wait for jobs to end.

        Raises
        ------
        ClusterError
            When the scheduler is lost and no restart is left, or no worker has been there for too long.
        """
        outcomes, self._waiting = self._waiting, []
        if outcomes:
            return outcomes
        try:
            self._poll(timeout_seconds, outcomes)
        except _Lost:
            outcomes += self._resume()
        if not outcomes:
            self._link.require_workers()
            outcomes += self._unmet.look()
        return outcomes

    def _poll(self, timeout_seconds: float | None, outcomes: list[Outcome]) -> None:
        """Add what ended to the outcomes."""
        if self._sender.is_lost:
            raise _Lost
        finished: list[tuple[Chain, Any]] = []
        for chain, future in self._wait(timeout_seconds):
            status = future.status
            if status in ("lost", "pending"):
                # Its worker died after it had ended; the scheduler runs it again, and it will be heard of again.
                self._listen(chain)
                continue
            self._aftermath.end_trial(chain)
            if status == "finished":
                finished.append((chain, future))
            else:
                outcomes += self._broken(chain, future, status)
        for chain, results in self._gather(finished, outcomes):
            ended = [self._advised(result.outcome if isinstance(result, JobResult) else result) for result in results]
            self._under_way.settle(chain, keep=chain.holds_values and any(outcome.kind in MADE for outcome in ended))
            outcomes += ended
        outcomes += self._aftermath.decide()

    def _advised(self, outcome: Outcome) -> Outcome:
        """The outcome, with what only the driver can tell: that what is missing there lies here."""
        error, admission = outcome.error, self._link.admission
        if error is None or error.fix or admission is None or admission.sees_project:
            return outcome
        return replace(outcome, error=replace(error, fix=self._files.advice(error.exception)))

    def _resume(self) -> list[Outcome]:
        """Go on with another scheduler: what was under way goes back, what was held in memory is lost.

        Raises
        ------
        ClusterError
            When there is no other.
        """
        held = {task for task, chain in self._under_way.chains.items() if chain.has_ended}
        outcomes = [undone(job, held) for job in self._under_way.open_jobs()]
        self._link.restart()
        self._begin()
        return outcomes

    def _listen(self, chain: Chain) -> None:
        key = chain.key
        chain.heard.add_done_callback(lambda ended: self._ended.put((chain, key, ended)))

    def _wait(self, timeout_seconds: float | None) -> list[tuple[Chain, Any]]:
        """What ended. Late reports of attempts that were given up are left out."""
        ended: list[tuple[Chain, str, Any]] = []
        left = SOON_SECONDS if self._aftermath.is_waiting else PULSE_SECONDS
        left = left if timeout_seconds is None else min(left, timeout_seconds)
        with contextlib.suppress(queue.Empty):
            ended.append(self._ended.get(timeout=left))
            # Each look fetches all that ended with one request a worker, so a moment's patience saves many.
            busy = self._under_way.n_open > ENOUGH * self.n_workers
            until = time.monotonic() + (LINGER_SECONDS if busy else 0.0)
            while True:
                ended.append(self._ended.get(timeout=max(0.0, until - time.monotonic())))
        return [(c, future) for c, key, future in ended if c.key == key and self._under_way.is_known(c)]

    def _gather(self, finished: list[tuple[Chain, Any]], outcomes: list[Outcome]) -> Iterator[tuple[Chain, list[Any]]]:
        """What the chains gave; one that turns out broken adds to the outcomes instead.

        Race: a chain ends, its worker dies before the result is fetched, dask runs the chain again and then blames
        it for the deaths of others.
        """
        if not finished:
            return
        try:
            yield from zip((c for c, _ in finished), self._ask_for([f for _, f in finished]), strict=True)
        except _Lost:
            raise
        except Exception:
            for chain, future in finished:
                results = self._gather_one(chain, future, outcomes)
                if results is not None:
                    yield chain, results

    def _gather_one(self, chain: Chain, future: Any, outcomes: list[Outcome]) -> list[Any] | None:
        """What a chain gave; None when it is broken, or has to be asked for again."""
        try:
            (results,) = self._ask_for([future])
        except _Lost:
            raise
        except Exception as error:
            if future.status in ("error", "cancelled"):
                outcomes += self._broken(chain, future, future.status)
            elif isinstance(error, OSError):
                self._listen(chain)  # a connection broke, and the scheduler is there still
            else:
                raise
            return None
        found: list[Any] = results
        return found

    def _ask_for(self, futures: list[Any]) -> list[Any]:
        """What futures hold, however long its way takes, unless the scheduler is lost meanwhile.

        Not with a timeout of dask's, which begins the transfer anew each time; nor without end, for dask tries for long
        to reach a scheduler that has died.
        """
        asked = self._client.gather(futures, asynchronous=True)
        answer = asyncio.run_coroutine_threadsafe(asked, self._client.loop.asyncio_loop)
        while not wait([answer], timeout=PULSE_SECONDS).done:
            if not self._link.is_up:
                answer.cancel()
                raise _Lost
            self._link.require_workers()
        found: list[Any] = answer.result()
        return found

    def _broken(self, chain: Chain, future: Any, status: str) -> list[Outcome]:
        """The outcomes of a chain that dask itself could not bring to an end; none yet if it gets another chance."""
        if status == "cancelled":
            raise _Lost
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            return self._aftermath.failed(chain, chain.tasks[0], _outside_of_a_stage(error))
        if is_blob(error.task):
            return self._without_bytes(chain)
        self._aftermath.bereave(chain, error.last_worker.address, was_there=error.task == chain.key)
        return []

    def _without_bytes(self, chain: Chain) -> list[Outcome]:
        """Give back a chain whose bytes dask has lost too often, for new ones: each worker that held them died.

        To dask they are a task like any other, which it gives up after some deaths, although none was its fault.
        """
        self._sender.load_cargo()
        return self._under_way.give_back(chain)

    def fetch(self, task: int, index: int) -> Any:
        """Fetch a value that a worker holds.

        Raises
        ------
        ValueGoneError
            When it was released, or lost with the scheduler.
        ClusterError
            As `poll`.
        """
        chain = self._under_way.chains.get(task)
        if chain is None:
            raise ValueGoneError(task)
        try:
            future = self._client.submit(value_of, chain.result, task, index, pure=False)
            (value,) = self._ask_for([future])
            return unpack(value, shared=False)
        except CuridaskError:
            raise
        except _Lost:
            pass
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                self._under_way.forget([task])
                raise ValueGoneError(task) from None
            if self._link.is_up and type(error).__name__ not in ("FutureCancelledError", "CancelledError"):
                raise
        self._waiting += self._resume()
        raise ValueGoneError(task)

    def release(self, tasks: Iterable[int]) -> None:
        """Let the workers forget values: a chain's when all of them are released."""
        self._under_way.forget(tasks)

    # --- the cluster -------------------------------------------------------------------------------------------------
    def warnings(self) -> list[str]:
        """What happened to the workers since the last call."""
        return self._link.news() + self._deaths.news(is_last=self._is_closed)

    def load(self) -> str:
        """The number of workers and their memory, some seconds old."""
        return self._link.load()

    def close(self, *, now: bool = False) -> None:
        """Leave the cluster, ending the workers it started for this run."""
        if now:
            self._link.kill()
        self._under_way.clear()
        self._link.close()
        self._deaths.take()
        self._is_closed = True


def _outside_of_a_stage(error: Any) -> ErrorInfo:
    """What went wrong before a stage was called, such as a package that the worker does not have."""
    if isinstance(error, CuridaskError):
        return ErrorInfo(type(error).__name__, error.what, fix=error.fix)
    fix = "compare the worker with this machine: `curidask cluster check`" if isinstance(error, ImportError) else ""
    return ErrorInfo(type(error).__name__, str(error), fix=fix)
