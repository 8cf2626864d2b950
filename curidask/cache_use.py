"""What a run relies on in the cache, said there before it relies on it; see `curidask.store.usage`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence

from curidask.errors import CacheError
from curidask.executors.describe import user_name
from curidask.graph import Graph
from curidask.planner import Action
from curidask.store.base import Store
from curidask.store.usage import RunUse


class CacheUse:
    """Lets those who clean up a cache know what a run uses.

    Parameters
    ----------
    store : Store
    reference, experiment, project, session, work : str
        Of the run; see `RunUse`.
    told : callable
        Is told what the user should know.
    """

    def __init__(
        self,
        store: Store,
        *,
        reference: str,
        experiment: str,
        project: str,
        session: str,
        work: str,
        told: Callable[[str], None],
    ) -> None:
        self._store = store
        self._about = {
            "reference": reference,
            "experiment": experiment,
            "project": project,
            "session": session,
            "work": work,
        }
        self._told = told
        self._use: RunUse | None = None

    def before_look(self, stems: Sequence[str]) -> None:
        """Say that the run may use these artifacts; a store that is only read is told nothing."""
        if not self._store.writable:
            return
        if self._use is None:
            places = self._store.places
            self._use = RunUse(places, user=user_name(), host=socket.gethostname(), told=self._told, **self._about)
        self._use.register(stems)

    def end(self, graph: Graph, decisions: Mapping[int, tuple[Action, str]]) -> None:
        """Say what the run did use: all but what turned out to be needed by nothing."""
        if self._use is None:
            return
        used = [graph[task] for task, (action, _) in decisions.items() if action is not Action.PRUNE]
        try:
            stems = [stem for task in used for stem in task.store_stems]
            self._use.end(stems, {task.marker for task in used}.difference(stems))
        except CacheError as error:
            self._told(f"the cache was not told what this run used: {error.what}")
