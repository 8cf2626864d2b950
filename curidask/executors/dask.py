"""Jobs on dask workers: chained futures, one graph message a batch, code and parameters as opaque bytes.

For each batch the graph holds the code (once a run), the batch's jobs as bytes, and one task a job. A job's task gets
the results of the jobs it follows; where those are stored it needs only to know that they ended well. A job that holds
values has a second, tiny task that gives its outcome alone, so that the driver never fetches the values.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from dask._task_spec import DataNode, List, Task, TaskRef

from curidask.clusters import Connection
from curidask.errors import ClusterError
from curidask.executors import shipping
from curidask.executors.base import ErrorInfo, Executor, Job, JobResult, Keep, Kind, Outcome
from curidask.executors.worker import Environment, run_job, unpack, worker_name
from curidask.staging import StageSpec

PULSE_SECONDS = 0.5
"""How long a wait for results lasts at most before the state of the connection is looked at."""


# --- on the worker ---------------------------------------------------------------------------------------------------
def run_shipped(
    code_id: str, code: bytes, batch_id: str, batch: bytes, place: int, before: list[JobResult]
) -> JobResult:
    """Run one job of a batch on a worker."""
    env = shipping.load_code(code_id, code).env
    job = shipping.load_jobs(batch_id, batch)[place]
    if any(result.outcome.kind not in (Kind.DONE, Kind.FOUND) for result in before):
        return JobResult(Outcome(job.id, Kind.INPUT_UNAVAILABLE, worker=worker_name()))
    passed = {result.outcome.task: result.values for result in before}
    return run_job(job, env, passed)


def outcome_of(result: JobResult) -> Outcome:
    """The outcome alone, for the driver."""
    return result.outcome


def value_of(result: JobResult, index: int) -> Any:
    """One packed value alone, for the driver."""
    return result.values[index]


# --- on the driver ---------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Sent:
    """A job that was sent: its key, and the futures that keep it and its batch alive."""

    key: str
    batch: str
    result: Any
    holds_values: bool
    ended: bool = False


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
        self._sent: dict[int, _Sent] = {}
        self._attempts: dict[int, int] = {}
        self._ended: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
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
        packed = shipping.pack_jobs(jobs, self._code_id, self._places, self._modules())
        graph[batch_key] = DataNode(batch_key, packed)
        blobs = list(graph)
        sent = {}
        for place, job in enumerate(jobs):
            key = self._new_key(job)
            sent[job.id] = key
            before = [sent.get(t) or self._sent[t].key for t in after.get(job.id, ())]
            graph[key] = Task(
                key,
                run_shipped,
                self._code_id,
                TaskRef(code_key),
                batch_key,
                TaskRef(batch_key),
                place,
                List(*map(TaskRef, before)),
            )
            if _holds_values(job):
                graph[_outcome_key(key)] = Task(_outcome_key(key), outcome_of, TaskRef(key))
        keys = list(graph)
        futures = dict(zip(keys, self._client.get(graph, keys, sync=False), strict=True))
        self._blobs.update((key, futures[key]) for key in blobs)
        self._in_batch[batch_key] = len(jobs)
        for job in jobs:
            self._follow(job, sent[job.id], batch_key, futures)

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

    def _new_key(self, job: Job) -> str:
        # A key that dask knows already is never computed again, so run and attempt are part of it; dask groups keys by
        # what stands before the 32 digits, so the stage's name comes first.
        attempt = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        return f"{job.spec.name}-{_hex32(self._run, job.key, str(job.id), str(attempt))}"

    def _follow(self, job: Job, key: str, batch: str, futures: Mapping[str, Any]) -> None:
        holds_values = _holds_values(job)
        self._sent[job.id] = _Sent(key, batch, futures[key], holds_values)
        self._listen(job.id, key, futures[_outcome_key(key)] if holds_values else futures[key])

    # --- results -----------------------------------------------------------------------------------------------------
    def poll(self, timeout_seconds: float | None = None) -> list[Outcome]:
        """Wait for jobs to end.

        Raises
        ------
        ClusterError
            When the connection to the scheduler is gone.
        """
        finished: list[Any] = []
        broken: list[Outcome] = []
        for task, key, future in self._wait(timeout_seconds):
            status = future.status
            if status == "finished":
                finished.append(future)
            elif status in ("lost", "pending"):
                # Its worker died after it had ended; the scheduler runs it again, and it will be heard of again.
                self._listen(task, key, future)
            else:
                broken.append(self._broken(task, future, status))
        outcomes = [_outcome(result) for result in self._gather(finished)] + broken
        for outcome in outcomes:
            self._settle(outcome)
        return outcomes

    def _listen(self, task: int, key: str, future: Any) -> None:
        future.add_done_callback(lambda ended: self._ended.put((task, key, ended)))

    def _wait(self, timeout_seconds: float | None) -> list[tuple[int, str, Any]]:
        """What ended, at least one unless the time is up. Late reports of attempts that were given up are left out."""
        ended: list[tuple[int, str, Any]] = []
        left = PULSE_SECONDS if timeout_seconds is None else timeout_seconds
        with contextlib.suppress(queue.Empty):
            ended.append(self._ended.get(timeout=left))
            while True:
                ended.append(self._ended.get_nowait())
        return [row for row in ended if row[0] in self._sent and self._sent[row[0]].key == row[1]]

    def _gather(self, futures: list[Any]) -> list[Any]:
        return list(self._client.gather(futures)) if futures else []

    def _broken(self, task: int, future: Any, status: str) -> Outcome:
        """The outcome of a job that dask itself could not bring to an end."""
        if status == "cancelled":
            raise ClusterError(
                "The connection to the dask scheduler was lost.",
                where=self._connection.description,
                fix="run the same command again: what had finished is in the cache",
            )
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            message = (
                "the worker process died each time the stage ran (often: out of memory, or a crash in native code)"
            )
            info = ErrorInfo("WorkerDied", message, fix="run this set alone with --parallel 0 and watch its memory")
        else:
            info = ErrorInfo(type(error).__name__, str(error))
        return Outcome(task, Kind.FAILED, error=info)

    def _settle(self, outcome: Outcome) -> None:
        sent = self._sent[outcome.task]
        sent.ended = True
        self._in_batch[sent.batch] -= 1
        if not self._in_batch[sent.batch]:
            del self._in_batch[sent.batch]
            # The batch's bytes stay known to dask as long as a job that holds values may have to run again.
            self._blobs.pop(sent.batch)
        if not sent.holds_values or outcome.kind not in (Kind.DONE, Kind.FOUND):
            del self._sent[outcome.task]

    def fetch(self, task: int, index: int) -> Any:
        """Fetch a value that a worker holds."""
        future = self._client.submit(value_of, self._sent[task].result, index, pure=False)
        return unpack(future.result(), shared=False)

    def release(self, tasks: Iterable[int]) -> None:
        """Let the workers forget values."""
        for task in tasks:
            sent = self._sent.get(task)
            if sent is not None and sent.ended:
                del self._sent[task]

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
        self._sent.clear()
        self._blobs.clear()
        self._stack.close()


def _holds_values(job: Job) -> bool:
    return any(output.keep is not Keep.COMMIT for output in job.outputs)


def _outcome(result: JobResult | Outcome) -> Outcome:
    return result.outcome if isinstance(result, JobResult) else result


def _outcome_key(key: str) -> str:
    return f"curidask_outcome-{key.rpartition('-')[2]}"


def _hex32(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
