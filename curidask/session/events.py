"""Who is told how a run goes: displays, the run record, the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec

from curidask.core.graph import Graph, Task
from curidask.core.planner import Plan
from curidask.execution.listener import Listener
from curidask.execution.process.context import ERR, LOG, WARNING, Spoken, prefix_of
from curidask.execution.process.log_relay import log_again
from curidask.execution.tracebacks import first_line, levels_to_user

logger = logging.getLogger("curidask.run")

P = ParamSpec("P")


class _Printer(Listener):
    """Prints what stages print on workers, for sessions that have no display of their own."""

    prints = True
    told_as = "the printing of what stages print"

    def said(self, task: Task | None, spoken: Spoken) -> None:
        """Print it with the stage and the set."""
        if task is not None and not spoken.shown:
            stream = sys.stderr if spoken.kind == ERR else sys.stdout
            print(prefix_of(task.spec.name, task.record.name) + spoken.text, file=stream, flush=True)


class EventBus:
    """Tells all listeners how a run goes, by the name of the event, and raises nothing of theirs.

    Attributes
    ----------
    wants_load : bool
        Whether anybody wants to know how the workers are.
    wants_causes : bool
        Whether anybody wants to know why stages run.
    """

    def __init__(self, graph: Graph, listeners: Sequence[Listener] = ()) -> None:
        self._graph = graph
        self._listeners = list(listeners)
        self._told: set[str] = set()
        self._failed: set[int] = set()
        self.wants_load = self._has(Listener.told_load)
        self.wants_causes = any(listener.wants_causes for listener in listeners)

    def tell(self, event: Callable[Concatenate[Any, P], None], *what: P.args, **named: P.kwargs) -> None:
        """Tell all of an event, which is a method of `Listener`, with what it is given."""
        self._tell(self._listeners, event.__name__, *what, **named)

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Tell of a plan; raises what a listener has against it."""
        for listener in self._listeners:
            listener.check_plan(graph, plan)
        self.tell(Listener.planned, graph, plan)

    def warned(self, text: str) -> None:
        """Tell of something the user should know."""
        self.tell(Listener.warned, text)

    def warned_once(self, texts: Iterable[str]) -> None:
        """Warn of what several workers may have noticed, each for itself."""
        for text in texts:
            if text and text not in self._told:
                self._told.add(text)
                self.warned(text)

    def _has(self, event: Callable[..., None]) -> bool:
        return any(getattr(type(listener), event.__name__) is not event for listener in self._listeners)

    # --- whoever cannot be told --------------------------------------------------------------------------------------
    def _tell(self, listeners: Iterable[Listener], event: str, *what: Any, **named: Any) -> None:
        for listener in listeners:
            try:
                getattr(listener, event)(*what, **named)
            except Exception as error:
                self._note_failure(listener, event, error)

    def _note_failure(self, listener: Listener, event: str, error: Exception) -> None:
        """Warn once of a listener that raised; the others go on."""
        if id(listener) in self._failed:
            return
        self._failed.add(id(listener))
        kind = type(listener)
        name = listener.told_as or f"the listener {kind.__module__}.{kind.__qualname__}"
        text = f"{name} failed in {event}(): {first_line(error)}; the run goes on"
        others = [other for other in self._listeners if other is not listener]
        self._tell(others, "warned", text)
        if not any(other.prints and id(other) not in self._failed for other in others):
            show_warning(text)
        logger.debug("%s", text, exc_info=error, extra={"stage": ""})

    # --- what stages say ---------------------------------------------------------------------------------------------
    @property
    def hears(self) -> bool:
        """Whether anybody wants to hear what stages say."""
        return self._has(Listener.said)

    def print_if_nobody_does(self) -> None:
        """Let what stages print on workers be seen."""
        if not any(listener.prints for listener in self._listeners):
            self._listeners.append(_Printer())

    def hear(self, spoken: Spoken) -> None:
        """Pass on what a stage said; from any thread."""
        task = self._graph[spoken.task] if 0 <= spoken.task < len(self._graph) else None
        if spoken.kind == WARNING:
            self.warned(spoken.text)
        elif spoken.kind == LOG:
            self._tell([_relay], "said", task, spoken)
        else:
            self.tell(Listener.said, task, spoken)

    def before_print(self) -> None:
        """Let displays make room for what a stage prints."""
        self.tell(Listener.before_print)


def show_warning(text: str) -> None:
    """Warn where nobody else shows it: by Python's own means, or plainly where they raise, too."""
    try:
        warnings.warn(text, stacklevel=levels_to_user())
    except Exception:
        with contextlib.suppress(Exception):
            print(f"warning: {text}", file=sys.stderr, flush=True)


class _Relay(Listener):
    """Logs here what was logged on a worker."""

    told_as = "the logging of what workers log"

    def said(self, task: Task | None, spoken: Spoken) -> None:
        target = logging.getLogger(spoken.logger)
        if target.isEnabledFor(spoken.level):
            record = target.makeRecord(spoken.logger, spoken.level, spoken.path, 0, spoken.text, (), None)
            record.stage = prefix_of(task.spec.name, task.record.name) if task is not None else ""
            log_again(record, spoken.had, printed=spoken.shown)


_relay = _Relay()
