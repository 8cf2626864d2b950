"""Who is told how a run goes: displays, the run record, the log."""

from __future__ import annotations

import logging
import sys
from typing import Protocol, runtime_checkable

from curidask.executors.base import Outcome
from curidask.executors.surroundings import ERR, Spoken, prefix_of
from curidask.graph import Graph, Task
from curidask.planner import Plan


class Listener(Protocol):
    """Who wants to know what happens: progress display, history, tests."""

    def planned(self, graph: Graph, plan: Plan) -> None:
        """A plan was made, before any of it runs."""
        ...

    def started_executor(self, description: str) -> None:
        """The executor is up."""
        ...

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task ran, was found made, or failed."""
        ...

    def blocked(self, task: Task) -> None:
        """A task will not run since one before it failed."""
        ...

    def waiting(self, task: Task, holder: str) -> None:
        """Somebody else is computing the task; an empty holder says that it goes on."""
        ...

    def warned(self, text: str) -> None:
        """Something the user should know."""
        ...


@runtime_checkable
class Hearer(Protocol):
    """A listener who also wants to hear what stages say while they run.

    Attributes
    ----------
    prints : bool
        Whether it shows the user what stages print on workers.
    """

    prints: bool

    def said(self, task: Task | None, spoken: Spoken) -> None:
        """A stage printed something, or no stage did on a worker; may come from any thread."""
        ...

    def before_print(self) -> None:
        """A stage is about to print to this process's terminal."""
        ...


class Printer:
    """Prints what stages print on workers, for sessions that have no display of their own."""

    prints = True

    def said(self, task: Task | None, spoken: Spoken) -> None:
        """Print it with the stage and the set."""
        if task is not None and not spoken.shown:
            stream = sys.stderr if spoken.kind == ERR else sys.stdout
            print(prefix_of(task.spec.name, task.record.name) + spoken.text, file=stream, flush=True)

    def before_print(self) -> None:
        """There is nothing to make room for."""


@runtime_checkable
class LoadListener(Protocol):
    """A listener that also wants to know how the workers are."""

    def told_load(self, text: str) -> None:
        """How many workers there are now, and what they take."""
        ...


def log_again(task: Task | None, spoken: Spoken) -> None:
    """Log here what was logged on a worker."""
    target = logging.getLogger(spoken.logger)
    if target.isEnabledFor(spoken.level):
        record = target.makeRecord(spoken.logger, spoken.level, spoken.path, 0, spoken.text, (), None)
        record.stage = prefix_of(task.spec.name, task.record.name) if task is not None else ""
        target.handle(record)
