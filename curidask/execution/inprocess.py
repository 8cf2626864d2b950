"""Jobs in this process, one after the other: for debuggers, live sessions and small experiments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from curidask.core.spec import StageSpec
from curidask.execution.base import MADE, Environment, Executor, Job, Kind, Outcome, ValueGoneError
from curidask.execution.inputs import HeldValues
from curidask.execution.process.context import NOTHING, ProcessContext
from curidask.execution.returned_paths import unpack
from curidask.execution.task_runner import run_job


class InProcessExecutor(Executor):
    """Runs a job each time it is polled, so that an interrupt or a debugger meets the user's own frames.

    Parameters
    ----------
    code : context manager
        Open as long as jobs run.
    """

    def __init__(
        self,
        env: Environment,
        surroundings: ProcessContext = NOTHING,
        code: AbstractContextManager[None] | None = None,
    ) -> None:
        self._open = ExitStack()
        self._open.enter_context(code or nullcontext())
        self.env = env
        self._surroundings = surroundings
        self.n_workers = 1
        self._waiting: deque[tuple[Job, Sequence[int]]] = deque()
        self._values = HeldValues()
        self._finished: set[int] = set()

    @property
    def description(self) -> str:
        """Where the jobs run."""
        return "in this process"

    def check(self, specs: Iterable[StageSpec]) -> None:
        """Accept all: what stages ask for of workers plays no role here."""

    def submit(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> None:
        """Queue jobs."""
        for job in jobs:
            self._finished.discard(job.id)
            self._waiting.append((job, after.get(job.id, ())))

    def poll(self, timeout_seconds: float | None = None) -> list[Outcome]:
        """Run the next job."""
        if not self._waiting:
            return []
        job, after = self._waiting.popleft()
        if any(t not in self._finished for t in after) or any(t not in self._values for t in job.passed):
            return [Outcome(job.id, Kind.INPUT_UNAVAILABLE)]
        result = run_job(job, self.env, self._values, self._surroundings)
        if result.outcome.kind in MADE:
            self._values.add(job.id, result.values)
            self._finished.add(job.id)
        return [result.outcome]

    def fetch(self, task: int, index: int) -> Any:
        """Return a held value: a copy, since later jobs may read it too."""
        if task not in self._values:
            raise ValueGoneError(task)
        return unpack(self._values[task][index], shared=True)

    def release(self, tasks: Iterable[int]) -> None:
        """Forget values."""
        for task in tasks:
            self._values.drop(task)

    def warnings(self) -> list[str]:
        """Nothing happens to a process that is this one."""
        return []

    def close(self, *, now: bool = False) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._values.clear()
        self._open.close()
