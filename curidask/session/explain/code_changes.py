"""Telling that what is reused was made by other code, for stages whose code does not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from curidask.core.graph import Graph
from curidask.core.planner import Action, Plan
from curidask.session.events import Listener
from curidask.session.stage_code import WATCHED_CODE
from curidask.store.base import Store


class CodeChanges(Listener):
    """Looks at what is reused of stages with ``code="warn"``; it listens to the runner.

    Parameters
    ----------
    store : Store
    warn : callable
    """

    told_as = "looking for changes of code"

    def __init__(self, store: Store, warn: Callable[[str], None]) -> None:
        self._store = store
        self._warn = warn
        self._looked_at: set[int] = set()

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Compare the code of what is reused with that which made it; one request for all of it."""
        tasks = [graph[task] for task in plan.ids(Action.REUSE) if task not in self._looked_at]
        watched = {task.store_stems[0]: task for task in tasks if WATCHED_CODE in task.components}
        self._looked_at.update(task.id for task in tasks)
        edited: Counter[str] = Counter()
        for stem, manifest in (self._store.manifests(watched) if watched else {}).items():
            task = watched[stem]
            edited[task.spec.name] += manifest.components.get(WATCHED_CODE) != task.components[WATCHED_CODE]
        for stage, count in edited.items():
            if count:
                results = "1 result" if count == 1 else f"{count} results"
                self._warn(
                    f"the code of the stage {stage!r} was edited since {results} of it were made that are reused; "
                    f"--overwrite-stage {stage} computes them anew"
                )
