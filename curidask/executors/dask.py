"""Jobs on dask workers: chained futures, one graph message a batch, code and parameters as opaque bytes.

For each batch the graph holds the code (once a run), the batch's jobs as bytes, and one task a job. A job's task gets
the results of the jobs it follows; where those are stored it needs only to know that they ended well. A job that holds
values has a second, tiny task that gives its outcome alone, so that the driver never fetches the values.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from dask._task_spec import DataNode, List, Task, TaskRef

from curidask.clusters.base import Connection
from curidask.clusters.checks import Admission, admit
from curidask.errors import CuridaskError
from curidask.executors import shipping
from curidask.executors.autopsy import Death
from curidask.executors.base import ErrorInfo, Executor, Job, JobResult, Kind, Outcome
from curidask.executors.cargo import Cargo, is_blob
from curidask.executors.chains import (
    Bereaved,
    Chain,
    annotated,
    hex32,
    linear_chains,
    outcome_key,
    waiting_for,
)
from curidask.executors.dask_worker import FINISHED, outcomes_of, run_shipped, value_of
from curidask.executors.deaths import AGAIN, Deaths, Verdict, What
from curidask.executors.demands import Demands
from curidask.executors.environment import Environment
from curidask.executors.hearing import Hear, listen, unheard
from curidask.executors.link import Link
from curidask.executors.project_files import ProjectFiles
from curidask.executors.values import unpack
from curidask.staging import StageSpec

PULSE_SECONDS = 0.5
"""How long a wait for results lasts at most."""

LINGER_SECONDS = 0.05
"""How long a wait goes on for more once something has ended, while the workers have enough to do."""

FUSE_FROM = 32
"""Chains a worker, in one batch, from which on a chain's jobs go to dask as one task."""

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
    env : Environment
    modules : callable
        Gives the project's modules, whose contents go by value.
    files : ProjectFiles, optional
        What workers on other machines need beside; the current folder's by default.
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
        modules: Callable[[], Sequence[ModuleType]],
        *,
        files: ProjectFiles | None = None,
        reopen: Callable[[], AbstractContextManager[Connection]] | None = None,
        restarts: int = 0,
        hear: Hear = unheard,
    ) -> None:
        self._env = env
        self._hear = hear
        self._modules = modules
        self._files = files or ProjectFiles(Path.cwd())
        self._attempts: dict[int, int] = {}
        self._guilty: set[int] = set()
        self._waiting: list[Outcome] = []
        self._is_closed = False
        self._link = Link(connection, self._admit, reopen=reopen, restarts=restarts)
        self._begin()

    def _begin(self) -> None:
        """Start with nothing sent."""
        self._run = uuid.uuid4().hex
        self._demands = Demands(self._client)
        self._deaths = Deaths(self._run, self._demands.largest_memory)
        self._bereaved: list[Bereaved] = []
        listen(self._client, self._run, self._hear, self._deaths)
        self._demands.largest_memory()  # remembered, for when one of them has just died
        self._link.on_death = self._deaths.removed
        self._load_cargo()
        self._blobs: dict[str, Any] = {}
        self._in_batch: dict[str, int] = {}
        self._chains: dict[int, Chain] = {}
        self._ended: queue.SimpleQueue[tuple[Chain, str, Any]] = queue.SimpleQueue()
        self._suspects: list[Chain] = []
        self._on_trial: Chain | None = None
        self._is_lost = False

    def _load_cargo(self) -> None:
        """Let the code go along with the next jobs, under keys that dask does not know."""
        env = replace(self._env, session=self._run)
        self._cargo = Cargo(uuid.uuid4().hex, env, self._modules, self._files, self._link.admission)

    def _admit(self, connection: Connection) -> Admission:
        packages = self._files.imported(self._modules()).packages
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
        if not jobs:
            return
        graph: dict[str, Any] = {}
        self._cargo.add(jobs, graph)
        batch_key = f"curidask_batch-{uuid.uuid4().hex}"
        packed = shipping.pack_jobs(jobs, after, self._cargo.code_id, self._cargo.places, self._modules)
        graph[batch_key] = DataNode(batch_key, packed)
        places = {job.id: place for place, job in enumerate(jobs)}
        chains = []
        for chained in self._split(jobs, after):
            own = {job.id for job in chained}
            before = [t for job in chained for t in after.get(job.id, ()) if t not in own]
            at = [places[job.id] for job in chained]
            code = TaskRef(self._cargo.code_key(self._cargo.code_id))
            files = self._cargo.files_arg
            chain = Chain(self._new_key(chained), chained, batch_key, self._cargo.code_id, code, files, at, before)
            self._chains.update((task, chain) for task in chain.tasks)
            chains.append(chain)
        self._in_batch[batch_key] = len(chains)
        self._send(chains, graph)

    def _with_values(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[Job]:
        """The jobs without those whose values in memory are gone, with a lost scheduler; they go back."""
        back: set[int] = set()
        sent: list[Job] = []
        known = self._chains.keys() | {job.id for job in jobs}
        for job in jobs:
            lost = tuple(task for task in job.passed if task not in known)
            if lost or not back.isdisjoint(after.get(job.id, ())):
                back.add(job.id)
                self._waiting.append(Outcome(job.id, Kind.INPUT_LOST if lost else Kind.INPUT_UNAVAILABLE, lost=lost))
            else:
                sent.append(job)
        return sent

    def _send(self, chains: Sequence[Chain], graph: dict[str, Any]) -> None:
        blobs = list(graph)
        for chain in chains:
            self._add_to(graph, chain)
        keys = list(graph)
        try:
            futures = dict(zip(keys, self._client.get(annotated(graph, chains), keys, sync=False), strict=True))
        except Exception:
            if self._link.is_up:
                raise
            self._is_lost = True
            return
        self._blobs.update((key, futures[key]) for key in blobs)
        for chain in chains:
            chain.result = futures[chain.key]
            chain.heard = futures[outcome_key(chain.key)] if chain.holds_values else chain.result
            self._listen(chain, chain.heard)

    def _add_to(self, graph: dict[str, Any], chain: Chain) -> None:
        # What has ended and is stored needs no reference any more; a key that is let go must not be named.
        before = dict.fromkeys(self._chains[task].key for task in chain.before if task in self._chains)
        graph[chain.key] = Task(
            chain.key,
            run_shipped,
            chain.code_id,
            chain.code,
            chain.files,
            chain.batch,
            TaskRef(chain.batch),
            chain.places,
            List(*map(TaskRef, before)),
        )
        if chain.holds_values:
            graph[outcome_key(chain.key)] = Task(outcome_key(chain.key), outcomes_of, TaskRef(chain.key))

    def _split(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[list[Job]]:
        """The jobs as chains, each to be one dask task.

        A dask task costs more than a short stage. With many records in a batch, a record's jobs that can only run one
        after the other go together; with few, each goes alone, so that each is heard of when it ends.
        """
        chains = linear_chains(jobs, after)
        if len(chains) < FUSE_FROM * self.n_workers:
            return [[job] for job in jobs]
        return chains

    def _new_key(self, jobs: Sequence[Job]) -> str:
        # A key that dask knows already is never computed again, so run and attempt are part of it; dask groups keys by
        # what stands before the 32 digits, so the stages' names come first.
        for job in jobs:
            self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        last = jobs[-1]
        name = "+".join(job.spec.name for job in jobs)
        return f"{name}-{hex32(self._run, last.key, str(last.id), str(self._attempts[last.id]))}"

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
        return outcomes

    def _poll(self, timeout_seconds: float | None, outcomes: list[Outcome]) -> None:
        """Add what ended to the outcomes."""
        if self._is_lost:
            raise _Lost
        finished: list[tuple[Chain, Any]] = []
        for chain, future in self._wait(timeout_seconds):
            status = future.status
            if chain is self._on_trial and status not in ("lost", "pending"):
                self._on_trial = None
            if status == "finished":
                finished.append((chain, future))
            elif status in ("lost", "pending"):
                # Its worker died after it had ended; the scheduler runs it again, and it will be heard of again.
                self._listen(chain, future)
            else:
                outcomes += self._broken(chain, future, status)
        for chain, results in self._gather(finished, outcomes):
            ended = [result.outcome if isinstance(result, JobResult) else result for result in results]
            self._settle(chain, keep=chain.holds_values and any(outcome.kind in FINISHED for outcome in ended))
            outcomes += ended
        outcomes += self._after_deaths()

    def _resume(self) -> list[Outcome]:
        """Go on with another scheduler: what was under way goes back, what was held in memory is lost.

        Raises
        ------
        ClusterError
            When there is no other.
        """
        held = {task for task, chain in self._chains.items() if chain.has_ended}
        outcomes = []
        for job in [job for chain in dict.fromkeys(self._chains.values()) if not chain.has_ended for job in chain.jobs]:
            lost = tuple(task for task in job.passed if task in held)
            outcomes.append(Outcome(job.id, Kind.INPUT_LOST if lost else Kind.INPUT_UNAVAILABLE, lost=lost))
        self._link.restart()
        self._begin()
        return outcomes

    def _listen(self, chain: Chain, future: Any) -> None:
        key = chain.key
        future.add_done_callback(lambda ended: self._ended.put((chain, key, ended)))

    def _wait(self, timeout_seconds: float | None) -> list[tuple[Chain, Any]]:
        """What ended. Late reports of attempts that were given up are left out."""
        ended: list[tuple[Chain, str, Any]] = []
        left = SOON_SECONDS if self._bereaved or self._deaths.is_waiting() else PULSE_SECONDS
        left = left if timeout_seconds is None else min(left, timeout_seconds)
        with contextlib.suppress(queue.Empty):
            ended.append(self._ended.get(timeout=left))
            # Each look fetches all that ended with one request a worker, so a moment's patience saves many.
            busy = sum(self._in_batch.values()) > ENOUGH * self.n_workers
            until = time.monotonic() + (LINGER_SECONDS if busy else 0.0)
            while True:
                ended.append(self._ended.get(timeout=max(0.0, until - time.monotonic())))
        return [(c, future) for c, key, future in ended if c.key == key and self._chains.get(c.tasks[-1]) is c]

    def _gather(self, finished: list[tuple[Chain, Any]], outcomes: list[Outcome]) -> Iterator[tuple[Chain, list[Any]]]:
        """What the chains gave; one that turns out broken adds to the outcomes instead.

        Race: a chain ends, its worker dies before the result is fetched, dask runs the chain again and then blames
        it for the deaths of others.
        """
        if not finished:
            return
        try:
            yield from zip((c for c, _ in finished), self._client.gather([f for _, f in finished]), strict=True)
        except Exception:
            for chain, future in finished:
                try:
                    results = future.result()
                except Exception:
                    outcomes += self._broken(chain, future, future.status)
                else:
                    yield chain, results

    def _broken(self, chain: Chain, future: Any, status: str) -> list[Outcome]:
        """The outcomes of a chain that dask itself could not bring to an end; none yet if it gets another chance."""
        if status == "cancelled":
            raise _Lost
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            return self._failed(chain, chain.tasks[0], _outside_of_a_stage(error))
        if is_blob(error.task):
            return self._without_bytes(chain)
        self._bereaved.append(Bereaved(chain, chain.key, error.last_worker.address, error.task == chain.key))
        return []

    def _without_bytes(self, chain: Chain) -> list[Outcome]:
        """Give back a chain whose bytes dask has lost too often, for new ones: each worker that held them died.

        To dask they are a task like any other, which it gives up after some deaths, although none was its fault.
        """
        self._load_cargo()
        self._settle(chain, keep=False)
        return [Outcome(task, Kind.INPUT_UNAVAILABLE) for task in chain.tasks]

    def _failed(self, chain: Chain, guilty: int, info: ErrorInfo, death: Death | None = None) -> list[Outcome]:
        self._settle(chain, keep=False)
        self._guilty.update(task for task in chain.tasks if task >= guilty)
        kinds = {task: Kind.FOUND if task < guilty else Kind.INPUT_UNAVAILABLE for task in chain.tasks}
        worker, peak = (death.worker, death.peak_bytes) if death is not None else ("", 0)
        failed = Outcome(guilty, Kind.FAILED, worker=worker, error=info, peak_bytes=peak)
        return [failed if task == guilty else Outcome(task, kind) for task, kind in kinds.items()]

    def _first_undone(self, chain: Chain) -> int:
        """The job of a chain that was running when its worker died: the first whose outputs are not in the store."""
        for job in chain.jobs[:-1]:
            stems = {output.stem for output in job.outputs}
            if not stems or "" in stems or self._env.store.present(stems) != stems:
                return job.id
        return chain.tasks[-1]

    # --- deaths ------------------------------------------------------------------------------------------------------
    def _after_deaths(self) -> list[Outcome]:
        """Decide on what was running or queued where a worker died, in the order of the graph.

        dask blames a death on all that was queued on the worker, and passes the blame on to what waits for those. So
        each waits for the word on those before it: what runs again is sent behind what it waits for.
        """
        outcomes = [outcome for death in self._deaths.take() for outcome in self._at_once(death)]
        again: list[Chain] = []
        left: list[Bereaved] = []
        for lost in sorted(self._bereaved, key=lambda lost: lost.chain.tasks[0]):
            chain = lost.chain
            if chain.key != lost.key or self._chains.get(chain.tasks[-1]) is not chain:
                continue  # decided meanwhile
            if gone := self._gone_values(chain):
                outcomes += self._without_values(chain, gone)
            elif any(self._is_blamed(task) and self._chains[task] not in again for task in chain.before):
                left.append(lost)
            elif self._guilty.intersection(chain.before):
                self._settle(chain, keep=False)
                outcomes += [Outcome(task, Kind.INPUT_UNAVAILABLE) for task in chain.tasks]
            else:
                outcomes += self._carry_out(self._verdict(lost), lost, again, left)
        self._bereaved = left
        self._again(again)
        return outcomes + self._try_suspects()

    def _gone_values(self, chain: Chain) -> list[int]:
        """The jobs whose values a chain reads that had ended well, and that dask could not run again after a death."""
        before = [task for task in chain.before if task in self._chains]
        return [task for task in before if self._chains[task].has_ended and self._is_blamed(task)]

    def _without_values(self, chain: Chain, gone: Sequence[int]) -> list[Outcome]:
        """Give back a chain whose values in memory are gone: nothing more will be heard of the jobs that made them."""
        self._settle(chain, keep=False)
        for task in [task for lost in gone for task in self._chains[lost].tasks]:
            self._chains.pop(task, None)
        outcomes = []
        for job in chain.jobs:
            lost = tuple(task for task in job.passed if task in gone)
            outcomes.append(Outcome(job.id, Kind.INPUT_LOST if lost else Kind.INPUT_UNAVAILABLE, lost=lost))
        return outcomes

    def _verdict(self, lost: Bereaved) -> Verdict | None:
        if not lost.was_there:
            return AGAIN
        waited = time.monotonic() - lost.since
        return self._deaths.judge(lost.chain.tasks, lost.worker, waited, was_alone=lost.chain.was_tried)

    def _carry_out(
        self, verdict: Verdict | None, lost: Bereaved, again: list[Chain], left: list[Bereaved]
    ) -> list[Outcome]:
        chain = lost.chain
        if verdict is None:
            left.append(lost)
        elif verdict.what is What.FAILED:
            guilty = verdict.task if verdict.task >= 0 else self._first_undone(chain)
            assert verdict.error is not None
            return self._failed(chain, guilty, verdict.error, verdict.death)
        elif verdict.what is What.ALONE:
            self._suspects.append(chain)
        else:
            chain.memory_bytes = max(chain.memory_bytes, verdict.memory_bytes)
            again.append(chain)
        return []

    def _at_once(self, death: Death) -> list[Outcome]:
        """Act on a death before dask gives up; a scheduler that others started runs what died elsewhere, several times.

        It would hang or die there too. So it is taken back; what is running there by now runs on, unheard.
        """
        outcomes = []
        for job in death.running:
            chain = self._chains.get(job.task)
            if job.session != self._run or chain is None or chain.has_ended:
                continue
            verdict = self._deaths.of_guilty(job.task, death)
            if verdict.what is What.FAILED and verdict.error is not None:
                outcomes += self._failed(chain, job.task, verdict.error, death) + self._taken_back(chain)
            elif verdict.what is What.MORE_MEMORY:
                chain.memory_bytes = verdict.memory_bytes
                outcomes += self._taken_back(chain)
                self._again([chain])
        return outcomes

    def _taken_back(self, chain: Chain) -> list[Outcome]:
        """Take a chain back, and all that waits for it, since that was sent behind a key which is no more."""
        known = sorted(dict.fromkeys(self._chains.values()), key=lambda other: other.tasks[0])
        waiting = [other for other in waiting_for(chain, known) if not other.has_ended]
        for other in reversed(waiting):
            self._settle(other, keep=False)
            other.take_back()
        chain.take_back()
        return [Outcome(task, Kind.INPUT_UNAVAILABLE) for other in waiting for task in other.tasks]

    def _again(self, chains: list[Chain]) -> None:
        for chain in chains:
            chain.key = self._new_key(chain.jobs)
        if chains:
            self._send(chains, {})

    def _try_suspects(self) -> list[Outcome]:
        """Send the chains again whose worker died too often for a reason that nobody knows, one at a time.

        Alone it shows who kills workers. In the order of the graph, so what one waits for is cleared or guilty by then.
        """
        outcomes: list[Outcome] = []
        self._suspects.sort(key=lambda chain: chain.tasks[0])
        while self._suspects and self._on_trial is None:
            chain = self._suspects[0]
            if gone := self._gone_values(chain):
                del self._suspects[0]
                outcomes += self._without_values(chain, gone)
                continue
            if any(self._is_blamed(task) for task in chain.before):
                break  # dask's word about that one is still on its way
            del self._suspects[0]
            if self._guilty.intersection(chain.before):
                self._settle(chain, keep=False)
                outcomes += [Outcome(task, Kind.INPUT_UNAVAILABLE) for task in chain.tasks]
                continue
            chain.was_tried = True
            self._on_trial = chain
            self._again([chain])
        return outcomes

    def _is_blamed(self, task: int) -> bool:
        chain = self._chains.get(task)
        return chain is not None and chain.result.status == "error"

    def _settle(self, chain: Chain, *, keep: bool) -> None:
        self._in_batch[chain.batch] -= 1
        if not self._in_batch[chain.batch]:
            del self._in_batch[chain.batch]
            # The batch's bytes stay known to dask as long as a chain that holds values may have to run again.
            self._blobs.pop(chain.batch)
        chain.has_ended = True
        if not keep:
            for task in chain.tasks:
                del self._chains[task]

    def fetch(self, task: int, index: int) -> Any:
        """Fetch a value that a worker holds; a KeyError when it was lost with the scheduler.

        Raises
        ------
        ClusterError
            As `poll`.
        """
        try:
            future = self._client.submit(value_of, self._chains[task].result, task, index, pure=False)
            return unpack(self._wait_for(future), shared=False)
        except CuridaskError:
            raise
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                self._chains.pop(task, None)
                raise KeyError(task) from None
            if self._link.is_up and type(error).__name__ not in ("FutureCancelledError", "CancelledError"):
                raise
        self._waiting += self._resume()
        raise KeyError(task)

    def _wait_for(self, future: Any) -> Any:
        while True:
            try:
                return future.result(timeout=PULSE_SECONDS)
            except TimeoutError:
                self._link.require_workers()

    def release(self, tasks: Iterable[int]) -> None:
        """Let the workers forget values: a chain's when all of them are released."""
        for task in tasks:
            self._chains.pop(task, None)

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
        self._chains.clear()
        self._blobs.clear()
        self._link.close()
        self._deaths.take()
        self._is_closed = True


def _outside_of_a_stage(error: Any) -> ErrorInfo:
    """What went wrong before a stage was called, such as a package that the worker does not have."""
    if isinstance(error, CuridaskError):
        return ErrorInfo(type(error).__name__, error.what, fix=error.fix)
    fix = "compare the worker with this machine: `curidask cluster check`" if isinstance(error, ImportError) else ""
    return ErrorInfo(type(error).__name__, str(error), fix=fix)
