"""Reading what stages made: a read is where a session waits, and what it needs is executed first."""

from __future__ import annotations

from typing import Any

from curidask.core.graph import ArtifactRef
from curidask.core.keywords import CheckedCalls
from curidask.core.planner import Action
from curidask.errors import ArtifactMissingError
from curidask.execution.stage_paths import in_working_folders
from curidask.runs.record import RunRecord
from curidask.session.runner import Runner


class MapStop(BaseException):
    """Ends the tracing of an experiment whose next step needs a value that would have to be computed."""

    def __init__(self, artifact: str) -> None:
        super().__init__(artifact)
        self.artifact = artifact


class ArtifactResolver(CheckedCalls):
    """Gives the records of a session what their states refer to.

    Parameters
    ----------
    run_record : RunRecord
        Knows what was decided.
    map_only : bool
        Execute nothing; a read that would have to raises `MapStop`.
    work : str
        How the names of the run's working folders begin.
    """

    def __init__(self, runner: Runner, run_record: RunRecord, *, map_only: bool, work: str) -> None:
        self._runner = runner
        self._work = work
        self._record = run_record
        self.map_only = map_only

    def value(self, ref: ArtifactRef) -> tuple[Any, bool]:
        """The value of an artifact, and whether it may stay in memory."""
        if self.map_only and not self.is_available(ref) and self._runner.plan([ref.task]).ids(Action.RUN):
            raise MapStop(ref.name)
        lazy = self._runner.graph[ref.task].outputs[ref.index].lazy
        return self._runner.value(ref), not lazy

    def reference_to(self, ref: ArtifactRef) -> Any:
        """The artifact without its value.

        Returns
        -------
        Lazy, ArtifactRef or None
            What loads it; the reference when it is not stored; None when it is not stored and its stage did not run
            since nothing needed it.
        """
        decision = self._record.decisions.get(ref.task)
        pruned = decision is not None and decision[0] is Action.PRUNE and not self.is_available(ref)
        if pruned and self._runner.graph[ref.task].stems[ref.index] is None:
            return None
        return self._runner.reference(ref)

    def is_available(self, ref: ArtifactRef) -> bool:
        """Whether reading the artifact would run nothing."""
        return self._runner.is_available(ref.task)

    def stage_file(self, task: int, name: str) -> str | None:
        """A file or folder that a task's stage wrote beside its outputs; executes what it needs.

        Parameters
        ----------
        name : str
            See `curidask.core.artifact_names.beside_name`.

        Returns
        -------
        str or None
            A verified local path, in a dry run one in a working folder; None when the stage wrote none of that name.
        """
        store = self._runner.store
        if self.map_only:
            return None
        self._runner.ensure(task)
        made = self._runner.graph[self._runner.now(task)]
        if not store.writable and (path := in_working_folders(store, self._work, made.marker, [name])):
            return path
        stem, key = made.files_stored_as
        try:
            found = store.checkout(stem, key).tracked_path(made.marker + name)
        except ArtifactMissingError:
            return None
        return None if found is None else str(found)
