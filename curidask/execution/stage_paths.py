"""The paths that a stage gets from a record: new ones in its working folder, and those of what earlier stages wrote."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from curidask.caching.base import StageFiles
from curidask.core.artifact_names import beside_name, files_stem, output_stem
from curidask.core.graph import PastStage, RecordInfo, artifact_key
from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CuridaskError, UndeclaredInputError
from curidask.execution.base import Environment
from curidask.store.base import Store
from curidask.store.workspace import Workspace


class InputLostSignal(BaseException):
    """Carries a lost input past the user's ``except Exception``."""

    def __init__(self, task: int, error: ArtifactMissingError) -> None:
        super().__init__(task)
        self.task = task
        self.error = error


@dataclass(frozen=True, slots=True)
class EarlierFiles:
    """What the stages wrote that a record went through before.

    Attributes
    ----------
    needs : collection of int
        The tasks on which the running stage depends directly.
    prefix : str
        Begins the names of the session's artifacts.
    where : str
        The running stage, for messages.
    digests : dict of str to str
        Contents of what the running stage got, by key.
    """

    info: RecordInfo
    needs: Collection[int]
    env: Environment
    prefix: str
    where: str
    digests: dict[str, str]

    def find(self, stage: str, names: Sequence[str]) -> str | None:
        """A verified local path of what an earlier stage wrote.

        Parameters
        ----------
        names : sequence of str
            What may follow the store name of the stage's files; see `curidask.core.artifact_names.beside_name`.

        Returns
        -------
        str or None
            None when there is no such stage, and when it wrote nothing of these names.

        Raises
        ------
        UndeclaredInputError
            When the running stage does not depend on it.
        InputLostSignal
            When what it wrote is gone or damaged.
        """
        called = [past for past in self.info.past if past.stage == stage]
        if not called:
            return None
        depended_on = self._depended_on()
        found = next((past for past in reversed(called) if past.task in depended_on), None)
        if found is None:
            raise UndeclaredInputError(
                f"A file of the stage {stage!r} was asked for, on which this stage does not depend, so that one need "
                "not have run yet.",
                where=f"{self.where}, asking {self.info.label}",
                fix=f"declare one of the outputs of {stage!r} as an input",
            )
        return self._written(found, names)

    def _depended_on(self) -> set[int]:
        """The tasks of the record's earlier stages on which the running one depends, directly or not."""
        needs = {past.task: past.needs for past in self.info.past}
        found: set[int] = set()
        pending = list(self.needs)
        while pending:
            task = pending.pop()
            if task in needs and task not in found:
                found.add(task)
                pending += needs[task]
        return found

    def _written(self, past: PastStage, names: Sequence[str]) -> str | None:
        marker = files_stem(self.prefix, past.params_hash, past.stage, artifact_key(past.key, ""))
        store = self.env.store
        if not store.writable and (path := in_working_folders(store, self.env.work, marker, names)):
            return path
        stem, key = marker, artifact_key(past.key, "")
        if past.holder is not None:
            output, *place = past.holder
            key = artifact_key(past.key, output)
            stem = output_stem(self.prefix, past.params_hash, past.stage, output, key, *place)
        try:
            checkout = store.checkout(stem, key)
        except ArtifactMissingError as error:
            damaged = isinstance(error, ArtifactDamagedError)
            if not damaged and (past.holder is None or not store.writable):
                return None  # without files and stored outputs a stage leaves nothing
            raise InputLostSignal(past.task, error) from None
        self.digests[key] = checkout.manifest.content
        paths = (checkout.tracked_path(marker + name) for name in names)
        return next((str(path) for path in paths if path is not None), None)


def in_working_folders(store: Store, work: str, marker: str, names: Sequence[str]) -> str | None:
    """Where a file lies that a stage of this dry run wrote, on this machine; None where it is not.

    Parameters
    ----------
    work : str
        How the names of the run's working folders begin.
    marker : str
        The store name of the stage's files.
    names : sequence of str
        What may follow it in the name of the file.
    """
    folders = store.workspace(marker, run=work).location[:-8]  # random digits follow
    patterns = (f"{glob.escape(folders)}????????/{glob.escape(marker + name)}" for name in names)
    return next((path for pattern in patterns for path in glob.glob(pattern)), None)


class Paths(Protocol):
    """Gives the paths of a record."""

    @property
    def stage(self) -> str:
        """The stage that runs, or that ran."""

    @property
    def own(self) -> object:
        """Where its files lie; None where the record is not the stage's own."""

    def path(
        self, name: str, subdir: str | None, prefix: str | None, stage_name: str | None, track: bool, *, is_folder: bool
    ) -> str:
        """A path; see `curidask.execution.stage_context.StageContext.get_path`."""


@dataclass(frozen=True, slots=True)
class RecordPaths:
    """Makes the paths that a record gives to the running stage.

    Attributes
    ----------
    stage : str
        The running stage.
    own : Workspace or None
        Where the stage's own files lie; None for a record of an aggregate's, in which nothing can be written.
    """

    stage: str
    earlier: EarlierFiles
    own: Workspace | None = None

    def path(
        self, name: str, subdir: str | None, prefix: str | None, stage_name: str | None, track: bool, *, is_folder: bool
    ) -> str:
        """A path; see `curidask.execution.stage_context.StageContext.get_path`."""
        if stage_name == self.stage and self.own is not None:
            stage_name = None
        if stage_name is not None:
            beside = [beside_name(name, subdir, prefix, None, tracked) for tracked in (track, not track)]
            found = self.earlier.find(stage_name, beside)
            if found is not None:
                return found
        if self.own is None:
            raise self._nothing_there(name, stage_name)
        path = StageFiles.being_made(self.own).new_path(beside_name(name, subdir, prefix, stage_name, track))
        if is_folder:
            os.makedirs(path, exist_ok=True)
        return path

    def _nothing_there(self, name: str, stage_name: str | None) -> CuridaskError:
        where = f"{self.earlier.where}, asking {self.earlier.info.label}"
        if stage_name is None:
            return CuridaskError(
                "New paths can only be made with the stage's own record.",
                where=where,
                fix="use the first parameter of the stage's function; name a stage with `stage_name` to get a file "
                "that it wrote for this record",
            )
        stages = ", ".join(dict.fromkeys(past.stage for past in self.earlier.info.past)) or "none"
        return CuridaskError(
            f"There is no file {name!r} of a stage {stage_name!r}.",
            where=where,
            fix=f"name a file and its stage as they were given to record.get_path() (the record's stages: {stages})",
        )
