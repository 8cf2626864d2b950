"""Jobs on dask workers: chained futures, one graph message a batch, code and parameters as opaque bytes.

For each batch the graph holds the code (once a run), the batch's jobs as bytes, and one task a job. A job's task gets
the results of the jobs it follows; where those are stored it needs only to know that they ended well. A job that holds
values has a second, tiny task that gives its outcome alone, so that the driver never fetches the values.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from dask._task_spec import DataNode, List, Task, TaskRef

from curidask.clusters import Connection
from curidask.errors import ClusterError
from curidask.executors import shipping
from curidask.executors.base import ErrorInfo, Executor, Job, JobResult, Keep, Kind, Outcome
from curidask.executors.describe import worker_name
from curidask.executors.values import unpack
from curidask.executors.worker import Environment, run_job
from curidask.staging import StageSpec

PULSE_SECONDS = 0.5
"""How long a wait for results lasts at most."""

LINGER_SECONDS = 0.05
"""How long a wait goes on for more once something has ended, while the workers have enough to do."""

FUSE_FROM = 32
"""Chains a worker, in one batch, from which on a chain's jobs go to dask as one task."""

ENOUGH = 8
"""Chains a worker that keep it busy for longer than a linger."""

FINISHED = (Kind.DONE, Kind.FOUND)


# --- on the worker ---------------------------------------------------------------------------------------------------
def run_shipped(
    code_id: str, code: bytes, batch_id: str, batch: bytes, places: Sequence[int], before: list[list[JobResult]]
) -> list[JobResult]:
    """Run a chain of jobs of a batch on a worker, each whatever became of the one before it."""
    env = shipping.load_code(code_id, code).env
    jobs = shipping.load_jobs(batch_id, batch)
    known = {result.outcome.task: result for results in before for result in results}
    results = []
    for place in places:
        job, after = jobs[place]
        waited_for = [known[task] for task in after if task in known]
        if any(result.outcome.kind not in FINISHED for result in waited_for):
            result = JobResult(Outcome(job.id, Kind.INPUT_UNAVAILABLE, worker=worker_name()))
        else:
            result = run_job(job, env, {r.outcome.task: r.values for r in waited_for})
        known[job.id] = result
        results.append(result)
    return results


def outcomes_of(results: list[JobResult]) -> list[Outcome]:
    """The outcomes alone, for the driver."""
    return [result.outcome for result in results]


def value_of(results: list[JobResult], task: int, index: int) -> Any:
    """One packed value alone, for the driver."""
    return next(result for result in results if result.outcome.task == task).values[index]


# --- on the driver ---------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Chain:
    """Jobs that were sent as one dask task.

    Attributes
    ----------
    key : str
        The dask key.
    jobs : list of Job
        In order.
    batch : str
        Key of the bytes that hold them.
    places : list of int
        Their places in those bytes.
    before : list of int
        Jobs of other chains that it waits for.
    result : Future
    was_tried : bool
        Whether it was sent again, alone, since its worker had died too often.
    """

    key: str
    jobs: list[Job]
    batch: str
    places: list[int]
    before: list[int]
    result: Any = None
    was_tried: bool = False

    @property
    def tasks(self) -> list[int]:
        """Its jobs' tasks."""
        return [job.id for job in self.jobs]

    @property
    def holds_values(self) -> bool:
        """Whether the result holds values, so that it is kept until they are released."""
        return any(output.keep is not Keep.COMMIT for job in self.jobs for output in job.outputs)


class DaskExecutor(Executor):
    """Runs jobs through a dask client.

    Parameters
    ----------
    connection : contextlib.AbstractContextManager of Connection
        Entered now, left by `close`.
    env : Environment
    modules : callable
        Gives the project's modules, whose contents go by value.
    """

    def __init__(
        self,
        connection: contextlib.AbstractContextManager[Connection],
        env: Environment,
        modules: Callable[[], Sequence[ModuleType]],
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._connection = self._stack.enter_context(connection)
        self._client = self._connection.client
        self._env = env
        self._modules = modules
        self._run = uuid.uuid4().hex
        self._code_id = ""
        self._places: dict[int, int] = {}
        self._specs: list[StageSpec] = []
        self._blobs: dict[str, Any] = {}
        self._in_batch: dict[str, int] = {}
        self._chains: dict[int, _Chain] = {}
        self._attempts: dict[int, int] = {}
        self._ended: queue.SimpleQueue[tuple[_Chain, str, Any]] = queue.SimpleQueue()
        self._suspects: list[_Chain] = []
        self._on_trial: _Chain | None = None
        self._guilty: set[int] = set()
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = False
        self.n_workers = self._connection.n_workers
        self._client.subscribe_topic("all", self._on_cluster_event)

    @property
    def description(self) -> str:
        """The cluster and its dashboard."""
        return f"on {self._connection.description} (dashboard {self._client.dashboard_link})"

    # --- submission --------------------------------------------------------------------------------------------------
    def submit(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> None:
        """Send a batch as one graph."""
        graph: dict[str, Any] = {}
        code_key = self._add_code(jobs, graph)
        batch_key = f"curidask_batch-{uuid.uuid4().hex}"
        packed = shipping.pack_jobs(jobs, after, self._code_id, self._places, self._modules)
        graph[batch_key] = DataNode(batch_key, packed)
        places = {job.id: place for place, job in enumerate(jobs)}
        chains = []
        for chained in self._split(jobs, after):
            own = {job.id for job in chained}
            before = [t for job in chained for t in after.get(job.id, ()) if t not in own]
            chain = _Chain(self._new_key(chained), chained, batch_key, [places[job.id] for job in chained], before)
            self._chains.update((task, chain) for task in chain.tasks)
            chains.append(chain)
        self._in_batch[batch_key] = len(chains)
        self._send(chains, graph, code_key)

    def _send(self, chains: Iterable[_Chain], graph: dict[str, Any], code_key: str) -> None:
        blobs = list(graph)
        for chain in chains:
            self._add_to(graph, chain, code_key)
        keys = list(graph)
        futures = dict(zip(keys, self._client.get(graph, keys, sync=False), strict=True))
        self._blobs.update((key, futures[key]) for key in blobs)
        for chain in chains:
            chain.result = futures[chain.key]
            self._listen(chain, futures[_outcome_key(chain.key)] if chain.holds_values else chain.result)

    def _add_to(self, graph: dict[str, Any], chain: _Chain, code_key: str) -> None:
        # What has ended and is stored needs no reference any more; a key that is let go must not be named.
        before = dict.fromkeys(self._chains[task].key for task in chain.before if task in self._chains)
        graph[chain.key] = Task(
            chain.key,
            run_shipped,
            self._code_id,
            TaskRef(code_key),
            chain.batch,
            TaskRef(chain.batch),
            chain.places,
            List(*map(TaskRef, before)),
        )
        if chain.holds_values:
            graph[_outcome_key(chain.key)] = Task(_outcome_key(chain.key), outcomes_of, TaskRef(chain.key))

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
        return f"{name}-{_hex32(self._run, last.key, str(last.id), str(self._attempts[last.id]))}"

    def _add_code(self, jobs: Sequence[Job], graph: dict[str, Any]) -> str:
        """The key of code that has the stages of these jobs; a new one joins the graph when some are new."""
        unknown = {id(job.spec): job.spec for job in jobs if id(job.spec) not in self._places}
        if unknown:
            self._specs.extend(unknown.values())
            self._places = {id(spec): place for place, spec in enumerate(self._specs)}
            self._code_id, data = shipping.pack_code(self._specs, self._env, self._modules())
            key = self._code_key()
            graph[key] = DataNode(key, data)
        return self._code_key()

    def _code_key(self) -> str:
        return f"curidask_code-{_hex32(self._run, self._code_id)}"

    # --- results -----------------------------------------------------------------------------------------------------
    def poll(self, timeout_seconds: float | None = None) -> list[Outcome]:
        """Wait for jobs to end.

        Raises
        ------
        ClusterError
            When the connection to the scheduler is gone.
        """
        finished: list[tuple[_Chain, Any]] = []
        outcomes: list[Outcome] = []
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
        return outcomes + self._try_suspects()

    def _listen(self, chain: _Chain, future: Any) -> None:
        key = chain.key
        future.add_done_callback(lambda ended: self._ended.put((chain, key, ended)))

    def _wait(self, timeout_seconds: float | None) -> list[tuple[_Chain, Any]]:
        """What ended. Late reports of attempts that were given up are left out."""
        ended: list[tuple[_Chain, str, Any]] = []
        left = PULSE_SECONDS if timeout_seconds is None else timeout_seconds
        with contextlib.suppress(queue.Empty):
            ended.append(self._ended.get(timeout=left))
            # Each look fetches all that ended with one request a worker, so a moment's patience saves many.
            busy = sum(self._in_batch.values()) > ENOUGH * self.n_workers
            until = time.monotonic() + (LINGER_SECONDS if busy else 0.0)
            while True:
                ended.append(self._ended.get(timeout=max(0.0, until - time.monotonic())))
        return [(c, future) for c, key, future in ended if c.key == key and self._chains.get(c.tasks[-1]) is c]

    def _gather(
        self, finished: list[tuple[_Chain, Any]], outcomes: list[Outcome]
    ) -> Iterator[tuple[_Chain, list[Any]]]:
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

    def _broken(self, chain: _Chain, future: Any, status: str) -> list[Outcome]:
        """The outcomes of a chain that dask itself could not bring to an end; none yet if it gets another chance."""
        if status == "cancelled":
            raise ClusterError(
                "The connection to the dask scheduler was lost.",
                where=self._connection.description,
                fix="run the same command again: what had finished is in the cache",
            )
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            return self._failed(chain, chain.tasks[0], ErrorInfo(type(error).__name__, str(error)))
        if not chain.was_tried:
            self._suspects.append(chain)
            return []
        message = "the worker process died each time the stage ran (often: out of memory, or a crash in native code)"
        info = ErrorInfo("WorkerDied", message, fix="run this set alone with --parallel 0 and watch its memory")
        return self._failed(chain, self._first_undone(chain), info)

    def _failed(self, chain: _Chain, guilty: int, info: ErrorInfo) -> list[Outcome]:
        self._settle(chain, keep=False)
        self._guilty.update(task for task in chain.tasks if task >= guilty)
        kinds = {task: Kind.FOUND if task < guilty else Kind.INPUT_UNAVAILABLE for task in chain.tasks}
        return [
            Outcome(task, Kind.FAILED, error=info) if task == guilty else Outcome(task, kind)
            for task, kind in kinds.items()
        ]

    def _first_undone(self, chain: _Chain) -> int:
        """The job of a chain that was running when its worker died: the first whose outputs are not in the store."""
        for job in chain.jobs[:-1]:
            stems = {output.stem for output in job.outputs}
            if not stems or "" in stems or self._env.store.present(stems) != stems:
                return job.id
        return chain.tasks[-1]

    def _try_suspects(self) -> list[Outcome]:
        """Send the chains again whose worker died too often, one at a time.

        dask blames a death on all that was queued on the worker, and passes the blame on to what waits for those. Alone
        it shows who kills workers. In the order of the graph, so what one waits for is cleared or guilty by then.
        """
        outcomes: list[Outcome] = []
        self._suspects.sort(key=lambda chain: chain.tasks[0])
        while self._suspects and self._on_trial is None:
            chain = self._suspects[0]
            if any(self._is_blamed(task) for task in chain.before):
                break  # dask's word about that one is still on its way
            del self._suspects[0]
            if self._guilty.intersection(chain.before):
                self._settle(chain, keep=False)
                outcomes += [Outcome(task, Kind.INPUT_UNAVAILABLE) for task in chain.tasks]
                continue
            chain.was_tried = True
            chain.key = self._new_key(chain.jobs)
            self._on_trial = chain
            self._send([chain], {}, self._code_key())
        return outcomes

    def _is_blamed(self, task: int) -> bool:
        chain = self._chains.get(task)
        return chain is not None and chain.result.status == "error"

    def _settle(self, chain: _Chain, *, keep: bool) -> None:
        self._in_batch[chain.batch] -= 1
        if not self._in_batch[chain.batch]:
            del self._in_batch[chain.batch]
            # The batch's bytes stay known to dask as long as a chain that holds values may have to run again.
            self._blobs.pop(chain.batch)
        if not keep:
            for task in chain.tasks:
                del self._chains[task]

    def fetch(self, task: int, index: int) -> Any:
        """Fetch a value that a worker holds."""
        future = self._client.submit(value_of, self._chains[task].result, task, index, pure=False)
        return unpack(future.result(), shared=False)

    def release(self, tasks: Iterable[int]) -> None:
        """Let the workers forget values: a chain's when all of them are released."""
        for task in tasks:
            self._chains.pop(task, None)

    # --- the cluster -------------------------------------------------------------------------------------------------
    def warnings(self) -> list[str]:
        """What happened to the workers since the last call."""
        news = []
        with contextlib.suppress(queue.Empty):
            while True:
                news.append(self._news.get_nowait())
        return news

    def _on_cluster_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker" and not self._closing:
            running = len(message.get("processing-tasks", ()))
            self._news.put(
                f"the worker at {message['worker']} died; what it held or was doing ({running} tasks) runs again"
            )

    def close(self, *, now: bool = False) -> None:
        """Leave the cluster, ending the workers it started for this run."""
        self._closing = True
        if now:
            self._connection.kill()
        self._chains.clear()
        self._blobs.clear()
        self._stack.close()


def linear_chains(jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[list[Job]]:
    """Split jobs into runs that can only be carried out one after the other, so that fusing one costs no parallelism.

    A job joins the one before it when it waits for that one, and for nothing outside of the run, and nothing else that
    waits for a job of the run could start earlier.
    """
    waits_for = {job.id: set(after.get(job.id, ())) for job in jobs}
    waiting: dict[int, list[int]] = {}
    for task, before in waits_for.items():
        for other in before:
            waiting.setdefault(other, []).append(task)
    chains: list[list[Job]] = []
    chain_of: dict[int, int] = {}
    for job in jobs:
        homes = {chain_of.get(task) for task in waits_for[job.id]}
        home = homes.pop() if len(homes) == 1 else None
        last = chains[home][-1].id if home is not None else -1
        only_next = all(task == job.id or job.id in waits_for[task] for task in waiting.get(last, ()))
        if home is None or last not in waits_for[job.id] or not only_next:
            home = len(chains)
            chains.append([])
        chains[home].append(job)
        chain_of[job.id] = home
    return chains


def _outcome_key(key: str) -> str:
    return f"curidask_outcome-{key.rpartition('-')[2]}"


def _hex32(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
