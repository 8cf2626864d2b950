"""What a run relies on in the cache, said there before it relies on it; see `curidask.store.maintenance.usage`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from curidask.core.graph import Graph
from curidask.core.planner import Action
from curidask.errors import CacheError
from curidask.execution.tracebacks import user_name
from curidask.store.base import Store, without_place
from curidask.store.maintenance.usage import RunUse

Tell = Callable[[str], None]


@contextmanager
def without_cache(tell: Tell, what: str) -> Iterator[None]:
    """Go on though the cache cannot be reached, and tell what was left undone: a run is recorded all the same."""
    try:
        yield
    except CacheError as error:
        tell(f"{what}: {error.what}")


class CacheUse:
    """Lets those who clean up a cache know what a run uses.

    Parameters
    ----------
    store : Store
    reference, experiment, project, session, work : str
        Of the run; see `RunUse`.
    told : callable
        Is told what the user should know.
    late : bool
        Say it at the end only, so that until then there is nothing but artifacts in the cache. For a session, whose
        user looks into the folder: what it reads it reads right after it looked, and makes again what is gone.
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
        told: Tell,
        late: bool = False,
    ) -> None:
        self._store = store
        self._late = late
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
        if self._store.writable and not self._late:
            self._register(stems)

    def _register(self, stems: Sequence[str]) -> None:
        if self._use is None:
            self._use = RunUse(
                self._store.places,
                user=user_name(),
                host=socket.gethostname(),
                told=self._told,
                within=partial(without_place, self._store),
                **self._about,
            )
        self._use.register(stems)

    def end(self, graph: Graph, decisions: Mapping[int, tuple[Action, str]]) -> None:
        """Say what the run did use: all but what turned out to be needed by nothing."""
        root = self._store.local_root
        if not self._store.writable or (self._late and root is not None and not os.path.exists(root)):
            return
        tasks = [graph[task] for task, (action, _) in decisions.items() if action is not Action.PRUNE]
        with without_cache(self._told, "the cache was not told what this run used"):
            stems = [stem for task in tasks for stem in task.store_stems]
            if self._late:
                self._register(stems)
            if self._use is not None:
                self._use.end(stems, {task.marker for task in tasks}.difference(stems))
