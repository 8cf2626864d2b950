"""Who is told how a run goes: displays, the run record, the log."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from curidask.executors.base import Outcome
from curidask.executors.surroundings import ERR, LOG, WARNING, Spoken, prefix_of
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


class Audience:
    """All who are told how a run goes; itself a `Listener`.

    Parameters
    ----------
    graph : Graph
    listeners : sequence of Listener

    Attributes
    ----------
    wants_load : bool
        Whether anybody wants to know how the workers are.
    """

    def __init__(self, graph: Graph, listeners: Sequence[Listener] = ()) -> None:
        self._graph = graph
        self._listeners = list(listeners)
        self._hearers: list[Hearer] = [listener for listener in listeners if isinstance(listener, Hearer)]
        self._load_listeners = [listener for listener in listeners if isinstance(listener, LoadListener)]
        self._told: set[str] = set()
        self.wants_load = bool(self._load_listeners)

    # --- Listener ----------------------------------------------------------------------------------------------------
    def planned(self, graph: Graph, plan: Plan) -> None:
        """See `Listener.planned`."""
        for listener in self._listeners:
            listener.planned(graph, plan)

    def started_executor(self, description: str) -> None:
        """See `Listener.started_executor`."""
        for listener in self._listeners:
            listener.started_executor(description)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """See `Listener.ended`."""
        for listener in self._listeners:
            listener.ended(task, outcome)

    def blocked(self, task: Task) -> None:
        """See `Listener.blocked`."""
        for listener in self._listeners:
            listener.blocked(task)

    def waiting(self, task: Task, holder: str) -> None:
        """See `Listener.waiting`."""
        for listener in self._listeners:
            listener.waiting(task, holder)

    def warned(self, text: str) -> None:
        """See `Listener.warned`."""
        for listener in self._listeners:
            listener.warned(text)

    def warned_once(self, texts: Iterable[str]) -> None:
        """Warn of what several workers may have noticed, each for itself."""
        for text in texts:
            if text and text not in self._told:
                self._told.add(text)
                self.warned(text)

    def told_load(self, text: str) -> None:
        """See `LoadListener.told_load`."""
        for listener in self._load_listeners:
            listener.told_load(text)

    # --- what stages say ---------------------------------------------------------------------------------------------
    @property
    def hears(self) -> bool:
        """Whether anybody wants to hear what stages say."""
        return bool(self._hearers)

    def print_if_nobody_does(self) -> None:
        """Let what stages print on workers be seen."""
        if not any(hearer.prints for hearer in self._hearers):
            self._hearers.append(Printer())

    def hear(self, spoken: Spoken) -> None:
        """Pass on what a stage said; from any thread."""
        task = self._graph[spoken.task] if 0 <= spoken.task < len(self._graph) else None
        if spoken.kind == WARNING:
            self.warned(spoken.text)
        elif spoken.kind == LOG:
            _log_again(task, spoken)
        else:
            for hearer in self._hearers:
                with contextlib.suppress(OSError, ValueError):  # nobody reads our output any more
                    hearer.said(task, spoken)

    def before_print(self) -> None:
        """Let displays make room for what a stage prints."""
        for hearer in self._hearers:
            hearer.before_print()


def _log_again(task: Task | None, spoken: Spoken) -> None:
    """Log here what was logged on a worker."""
    target = logging.getLogger(spoken.logger)
    if target.isEnabledFor(spoken.level):
        record = target.makeRecord(spoken.logger, spoken.level, spoken.path, 0, spoken.text, (), None)
        record.stage = prefix_of(task.spec.name, task.record.name) if task is not None else ""
        target.handle(record)
