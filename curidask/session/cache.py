"""The cache as a session uses it: its store, its claims on what it computes, and what it says there of its use."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from curidask.core.graph import Graph
from curidask.core.planner import Action
from curidask.errors import CacheError
from curidask.execution.tracebacks import user_name
from curidask.runs.record import RunRecord
from curidask.store.backends.errors import is_refused
from curidask.store.base import Store, without_cache, without_place
from curidask.store.claims import Claims
from curidask.store.maintenance.usage import RunReferences

# --- what a run relies on in the cache, said there before it relies on it; see `curidask.store.maintenance.usage` ----
Tell = Callable[[str], None]


class CacheUse:
    """Lets those who clean up a cache know what a run uses.

    Parameters
    ----------
    reference, experiment, project, session, work : str
        Of the run; see `RunReferences`.
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
        self._use: RunReferences | None = None

    def before_look(self, stems: Sequence[str]) -> None:
        """Say that the run may use these artifacts; a store that is only read is told nothing."""
        if self._store.writable and not self._late:
            self._register(stems)

    def _register(self, stems: Sequence[str]) -> None:
        if self._use is None:
            self._use = RunReferences(
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


# --- cache -----------------------------------------------------------------------------------------------------------
class RunCache:
    """Opens a session's use of an artifact store, and ends it.

    Parameters
    ----------
    run_record : RunRecord
        Names the session, and is told what could not be done.
    project : Path
        The project's folder.
    lease_seconds : float
        For how long a claim holds that is not renewed; 0 for no claims.
    use_is_told_late : bool
        See `CacheUse`.

    Attributes
    ----------
    work : str
        Begins the names of working folders.
    use : CacheUse
        Says in the store what the session relies on.
    claims : Claims or None
        The right to compute; None where nobody could want to compute the same, or where it cannot be had.
    notices : list of str
        What the user should know of the store.

    Raises
    ------
    CacheError
        When the store cannot be used.
    """

    def __init__(
        self, store: Store, run_record: RunRecord, *, project: Path, lease_seconds: float, use_is_told_late: bool
    ) -> None:
        session = uuid.uuid4().hex
        self.store = store
        self.work = f"{run_record.reference}-{session[:12]}"
        self.notices: list[str] = []
        self._record = run_record
        self.claims = self._claims(session, lease_seconds) if lease_seconds else None
        self.use = CacheUse(
            store,
            reference=run_record.reference,
            experiment=run_record.name,
            project=str(project),
            session=session,
            work=self.work,
            told=run_record.warned,
            late=use_is_told_late,
        )

    def _claims(self, session: str, lease_seconds: float) -> Claims | None:
        while self.store.writable:
            objects = self.store.objects
            try:
                if objects.probe_exclusive():
                    return Claims(objects, session, user_name(), lease_seconds)
            except CacheError as error:
                self.store.check_writable()  # which may say more of it, or leave another tier to write to, or none
                if not is_refused(error) or (self.store.writable and self.store.objects is objects):
                    raise
                continue
            self.notices.append(
                f"{objects.url} does not create objects exclusively, so runs at the same time may compute the same "
                "twice; results stay right (`lease_seconds = 0` in the configuration ends this warning)"
            )
            return None
        return None

    def check(self) -> None:
        """Look whether results can be stored; where this user may only read, nothing is stored from then on.

        Raises
        ------
        CacheError
        """
        if not self.store.writable:
            return
        self.store.check_writable()
        if not self.store.writable:
            self.claims = None

    def tidy(self) -> None:
        """Leave nothing but artifacts, between the steps of a live session."""
        self.store.tidy()
        if self.claims is not None:
            self.claims.tidy()

    def remove_work(self, graph: Graph) -> None:
        """Remove what only served the work: working folders, and claims."""
        self.store.clean(self.work)
        if self.claims is not None:
            with without_cache(self._record.warned, "its claims were not removed and end by themselves"):
                close = partial(self.claims.close, self._claimed_stems(graph))
                without_place(self.store, self.claims.objects, close)

    def end_use(self, graph: Graph) -> None:
        """Say what the session did use."""
        self.use.end(graph, self._record.decisions)

    def _claimed_stems(self, graph: Graph) -> set[str]:
        """What the workers of this session may have claimed."""
        ran = {task for task, (action, _) in self._record.decisions.items() if action is Action.RUN}
        return {graph[task].marker for task in ran.union(self._record.results)}
