"""Who is told how a run goes: displays, the run record, the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from curidask.executors.base import Outcome
from curidask.executors.describe import first_line, levels_to_user
from curidask.executors.relayed import log_again
from curidask.executors.surroundings import ERR, LOG, WARNING, Spoken, prefix_of
from curidask.graph import Graph, Task
from curidask.planner import Plan

logger = logging.getLogger("curidask.run")


class Listener(Protocol):
    """Who wants to know what happens: progress display, history, tests.

    What one raises is a warning that names it (by its `told_as`, if it has one), and the run goes on.
    """

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
    told_as = "the printing of what stages print"

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


@runtime_checkable
class CauseListener(Protocol):
    """A listener that may also want to know why stages run of which the cache has other artifacts.

    Attributes
    ----------
    wants_causes : bool
        It costs a look at the cache.
    """

    @property
    def wants_causes(self) -> bool: ...  # noqa: D102

    def told_causes(self, lines: Sequence[str], n_more: int) -> None:
        """Why they do, a line a cause, and how many causes there are beside these."""
        ...


@runtime_checkable
class PlanChecker(Protocol):
    """A listener that may refuse a plan, before anybody is told of it."""

    def check_plan(self, graph: Graph, plan: Plan) -> None:
        """Raise when what is planned cannot be meant."""
        ...


class Audience:
    """All who are told how a run goes; itself a `Listener`, and the one that raises nothing.

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
        self._cause_listeners = [one for one in listeners if isinstance(one, CauseListener)]
        self._checkers = [listener for listener in listeners if isinstance(listener, PlanChecker)]
        self._told: set[str] = set()
        self._failed: set[int] = set()
        self.wants_load = bool(self._load_listeners)

    # --- Listener ----------------------------------------------------------------------------------------------------
    def planned(self, graph: Graph, plan: Plan) -> None:
        """See `Listener.planned`; raises what a `PlanChecker` has against the plan."""
        for checker in self._checkers:
            checker.check_plan(graph, plan)
        self._tell(self._listeners, "planned", graph, plan)

    def started_executor(self, description: str) -> None:
        """See `Listener.started_executor`."""
        self._tell(self._listeners, "started_executor", description)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """See `Listener.ended`."""
        self._tell(self._listeners, "ended", task, outcome)

    def blocked(self, task: Task) -> None:
        """See `Listener.blocked`."""
        self._tell(self._listeners, "blocked", task)

    def waiting(self, task: Task, holder: str) -> None:
        """See `Listener.waiting`."""
        self._tell(self._listeners, "waiting", task, holder)

    def warned(self, text: str) -> None:
        """See `Listener.warned`."""
        self._tell(self._listeners, "warned", text)

    def warned_once(self, texts: Iterable[str]) -> None:
        """Warn of what several workers may have noticed, each for itself."""
        for text in texts:
            if text and text not in self._told:
                self._told.add(text)
                self.warned(text)

    def told_load(self, text: str) -> None:
        """See `LoadListener.told_load`."""
        self._tell(self._load_listeners, "told_load", text)

    def told_causes(self, lines: Sequence[str], n_more: int) -> None:
        """See `CauseListener.told_causes`."""
        self._tell(self._cause_listeners, "told_causes", lines, n_more)

    # --- whoever cannot be told --------------------------------------------------------------------------------------
    def _tell(self, listeners: Iterable[Any], event: str, *what: Any) -> None:
        for listener in listeners:
            try:
                getattr(listener, event)(*what)
            except Exception as error:
                self._note_failure(listener, event, error)

    def _note_failure(self, listener: Any, event: str, error: Exception) -> None:
        """Warn once of a listener that raised; the others go on."""
        if id(listener) in self._failed:
            return
        self._failed.add(id(listener))
        kind = type(listener)
        name = getattr(listener, "told_as", "") or f"the listener {kind.__module__}.{kind.__qualname__}"
        text = f"{name} failed in {event}(): {first_line(error)}; the run goes on"
        others = [other for other in self._listeners if other is not listener]
        self._tell(others, "warned", text)
        if not any(isinstance(other, Hearer) and other.prints and id(other) not in self._failed for other in others):
            show_warning(text)
        logger.debug("%s", text, exc_info=error, extra={"stage": ""})

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
            self._tell([_relay], "said", task, spoken)
        else:
            self._tell(self._hearers, "said", task, spoken)

    def before_print(self) -> None:
        """Let displays make room for what a stage prints."""
        self._tell(self._hearers, "before_print")


def show_warning(text: str) -> None:
    """Warn where nobody else shows it: by Python's own means, or plainly where they raise, too."""
    try:
        warnings.warn(text, stacklevel=levels_to_user())
    except Exception:
        with contextlib.suppress(Exception):
            print(f"warning: {text}", file=sys.stderr, flush=True)


class _Relay:
    """Logs here what was logged on a worker."""

    told_as = "the logging of what workers log"

    def said(self, task: Task | None, spoken: Spoken) -> None:
        target = logging.getLogger(spoken.logger)
        if target.isEnabledFor(spoken.level):
            record = target.makeRecord(spoken.logger, spoken.level, spoken.path, 0, spoken.text, (), None)
            record.stage = prefix_of(task.spec.name, task.record.name) if task is not None else ""
            log_again(record, spoken.had, printed=spoken.shown)


_relay = _Relay()
