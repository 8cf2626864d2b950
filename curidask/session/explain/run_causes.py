"""Why a run computes what was computed before: a line a cause, told before it begins; it listens to the runner.

It looks at some tasks of each stage and at a bounded part of the cache's listing, so it costs the same however much
there is, and nothing where all is in the cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Plan, Why
from curidask.errors import CacheError
from curidask.execution.listener import Listener
from curidask.session.explain.differences import GONE, NEVER, Cause, Comparing, evidence_for, shown
from curidask.session.stage_code import StageCode
from curidask.store.base import Store

MOST_LINES = 5
MOST_TASKS = 60
"""How many tasks are compared with artifacts, of all stages together, but for one of each stage."""
MOST_STAGES = 40
MOST_LISTED = 5000
"""How many names of a cache in the network are listed."""
MOST_LOOKS = 3
"""A run that reads values while it is traced is planned again and again."""


class RunCauses(Listener):
    """Tells why stages run of which the cache has other artifacts.

    Parameters
    ----------
    codes : callable
        Gives the code of all stages that were called, by what stands for it in keys.
    tell : callable
        Takes the lines, and how many causes are not among them.
    """

    told_as = "the telling of why stages run"

    def __init__(
        self, store: Store, codes: Callable[[], Mapping[str, StageCode]], tell: Callable[[Sequence[str], int], None]
    ) -> None:
        self._store = store
        self._codes = codes
        self._tell = tell
        self._looked_at: set[str] = set()
        self._looks = 0

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Look at stages that were not looked at yet."""
        if self._looks >= MOST_LOOKS:
            return
        by_stage: dict[str, list[Task]] = defaultdict(list)
        for decision in plan.decisions.values():
            if decision.action is Action.RUN and decision.reason.why is Why.NOT_CACHED:
                task = graph[decision.task]
                by_stage[task.spec.name].append(task)
        new = {name: tasks for name, tasks in by_stage.items() if name not in self._looked_at}
        if not new:
            return
        self._looks += 1
        self._looked_at.update(new)
        with suppress(CacheError):  # whoever needs the cache says so
            lines = list(self._lines(graph, plan, dict(list(new.items())[:MOST_STAGES])))
            if lines:
                self._tell(lines[:MOST_LINES], max(0, len(lines) - MOST_LINES))

    def _lines(self, graph: Graph, plan: Plan, by_stage: Mapping[str, Sequence[Task]]) -> Iterator[str]:
        n_each = max(1, MOST_TASKS // len(by_stage))
        chosen = [task for tasks in by_stage.values() for task in _first(tasks, n_each)]
        evidence = evidence_for(chosen, self._store, self._codes(), most=n_each, most_listed=MOST_LISTED)
        comparing = Comparing(graph, plan, evidence)
        told: dict[str, _Told] = {}
        for task in chosen:
            n_tasks = len(by_stage[task.spec.name])
            share = n_tasks / min(n_tasks, n_each)
            for cause in comparing.causes(task):
                if not (cause.follows or cause.text in (NEVER, GONE)):
                    told.setdefault(cause.gist or cause.text, _Told()).add(cause, task.spec.name, share)
        return (each.line(name) for name, each in told.items())


@dataclass(slots=True)
class _Told:
    """A cause with the stages that have it, and how many tasks these are, as far as can be said."""

    texts: dict[str, None] = field(default_factory=dict)
    stages: dict[str, None] = field(default_factory=dict)
    n_tasks: float = 0.0
    is_exact: bool = True

    def add(self, cause: Cause, stage: str, share: float) -> None:
        self.texts[cause.text] = None
        self.stages[stage] = None
        self.n_tasks += share
        self.is_exact = self.is_exact and share == 1

    def line(self, name: str) -> str:
        text = next(iter(self.texts)) if len(self.texts) == 1 else name
        count = round(self.n_tasks)
        tasks = "1 task" if count == 1 else f"{'' if self.is_exact else 'about '}{count} tasks"
        return f"{shown(list(self.stages))}: {text}: {tasks}"


def _first(tasks: Sequence[Task], number: int) -> Iterable[Task]:
    """Those that come first in a listing, which may not be read to its end."""
    return tasks if len(tasks) <= number else sorted(tasks, key=lambda task: task.store_stems[0])[:number]
