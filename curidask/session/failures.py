"""The stages of a run that failed, and how their failures are raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from curidask.core.graph import Graph, Task
from curidask.errors import CacheError, CuridaskError, RunFailedError, StageFailedError
from curidask.execution.base import ErrorInfo, Outcome
from curidask.store.backends.errors import OUTAGES
from curidask.store.backends.requests import expect_outage


class StageFailures:
    """What failed, in the order in which it did.

    Parameters
    ----------
    live : bool
        Whether an exception is raised where the stage was called.
    """

    def __init__(self, graph: Graph, *, live: bool) -> None:
        self._graph = graph
        self._live = live
        self._failures: dict[int, tuple[StageFailedError, ErrorInfo]] = {}
        self._raised: set[int] = set()

    def __len__(self) -> int:
        return len(self._failures)

    @property
    def errors(self) -> Sequence[StageFailedError]:
        """One for each stage that failed."""
        return [failure for failure, _ in self._failures.values()]

    @property
    def untold(self) -> Sequence[StageFailedError]:
        """Those that were never raised, since nobody asked for what the stage makes."""
        return [failure for task, (failure, _) in self._failures.items() if task not in self._raised]

    def add(self, task: Task, outcome: Outcome) -> None:
        """Take in that a task failed."""
        error = outcome.error or ErrorInfo("Error", "the stage failed without a word")
        if isinstance(error.exception, CacheError) and error.exception.kind in OUTAGES:
            expect_outage(error.exception.where)
        failure = StageFailedError(
            f"{error.type}: {error.message}",
            where=task.label + (f" on {outcome.worker}" if outcome.worker else ""),
            fix=error.fix,
            stage=task.spec.name,
            set_name=task.record.name,
            worker=outcome.worker,
            traceback_text=error.traceback_text,
            output=error.output,
        )
        self._failures[task.id] = failure, error

    def raise_for(self, task: int) -> NoReturn:
        """Raise why a task has no outputs: its own failure, or the nearest one before it."""
        failed = next((t for t in [task, *reversed(self._graph.order([task]))] if t in self._failures), None)
        if failed is None:
            raise CuridaskError("A stage did not run.", where=self._graph[task].label)
        self._raised.add(failed)
        failure, error = self._failures[failed]
        cause = error.exception
        if self._live and cause is not None:
            # In a live session the exception belongs where the stage was called, as if it were a plain function.
            note = f"in {self._graph[failed].label}"
            if not isinstance(cause, CuridaskError) and note not in getattr(cause, "__notes__", ()):
                cause.add_note(note)
                if error.fix:
                    cause.add_note(f"fix: {error.fix}")
            raise cause
        raise failure from cause

    def raise_all(self, *, stopped: bool) -> None:
        """Raise when stages failed.

        Parameters
        ----------
        stopped : bool
            Whether the run ended with the first one.

        Raises
        ------
        RunFailedError
        """
        self._raised.update(self._failures)
        if self._failures:
            stages = "stage" if len(self) == 1 else "stages"
            ended = ", and the run was stopped then" if stopped else ""
            rest = "what had finished is cached, and the next run does only the rest"
            raise RunFailedError(f"{len(self)} {stages} failed{ended}; {rest}.", failures=tuple(self.errors))
