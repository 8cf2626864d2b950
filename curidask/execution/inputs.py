"""What a stage is called with: its inputs, each loaded from where it is."""

from __future__ import annotations

import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from curidask.core.graph import Literal, RecordInfo, is_suppressed
from curidask.core.preview import ArtifactRepresentation
from curidask.errors import ArtifactMissingError, CuridaskError
from curidask.execution.artifact_io import check_one_call, load_stored
from curidask.execution.base import MADE_FROM, Environment, Job, Passed, Reported, Source, Stored
from curidask.execution.copies import Copy, is_container, private_copy
from curidask.execution.lazy_dicts import GatheredInputs, StageState
from curidask.execution.process.monitor import available_bytes
from curidask.execution.returned_paths import Held, OnDisk, resolved, unpack
from curidask.execution.stage_context import StageContext
from curidask.execution.stage_paths import EarlierFiles, InputLostSignal, RecordPaths
from curidask.hashing import digest
from curidask.store.manifest import Manifest
from curidask.store.workspace import Workspace

# --- the values that a process holds for their readers ---------------------------------------------------------------
# In memory, and on disk when they take too much of it.

LEAST_BYTES = 64 << 20
"""What takes less than that together stays in memory."""

SHARE = 0.5
"""Of the memory that is free for them, with what they take already."""


class HeldValues(Mapping[int, Mapping[int, Any]]):
    """Values by the job that made them and their place among its outputs; the oldest go to disk first."""

    def __init__(self) -> None:
        self._jobs: dict[int, dict[int, Held]] = {}
        self._sizes: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._taken = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __getitem__(self, job: int) -> Mapping[int, Any]:
        return self._jobs[job]

    def __iter__(self) -> Iterator[int]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: int, values: Mapping[int, Held]) -> None:
        """Hold what a job made."""
        self.drop(job)
        self._jobs[job] = dict(values)
        for index, held in values.items():
            if isinstance(held, Copy):
                self._sizes[job, index] = held.size_bytes
                self._taken += held.size_bytes
        self._make_room()

    def drop(self, job: int) -> None:
        """Forget what a job made."""
        for index, held in self._jobs.pop(job, {}).items():
            self._taken -= self._sizes.pop((job, index), 0)
            if isinstance(held, OnDisk):
                Path(held.path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all."""
        self._jobs.clear()
        self._sizes.clear()
        self._taken = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _make_room(self) -> None:
        if self._taken <= LEAST_BYTES:
            return
        allowed = SHARE * (available_bytes() + self._taken)
        while self._taken > allowed:
            (job, index), size = self._sizes.popitem(last=False)
            held = self._jobs[job][index]
            assert isinstance(held, Copy)
            self._jobs[job][index] = self._written(f"{job}-{index}", held)
            self._taken -= size

    def _written(self, name: str, held: Copy) -> OnDisk:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="curidask-values-", ignore_cleanup_errors=True)
        path = f"{self._folder.name}/{name}"
        with open(path, "wb") as file:
            pickle.dump(held, file, protocol=pickle.HIGHEST_PROTOCOL)
        return OnDisk(path)


# --- inputs ----------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Inputs:
    """Loads the inputs of a job.

    Attributes
    ----------
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    digests : dict of str to str
        Contents of the stored ones that were loaded, or went into what was, by key.
    """

    job: Job
    env: Environment
    passed: Mapping[int, Mapping[int, Any]]
    digests: dict[str, str] = field(default_factory=dict)
    _own: dict[str, Any] = field(default_factory=dict)
    _gathered: list[StageContext] = field(default_factory=list)
    _reported: list[Reported] = field(default_factory=list)
    _needs: Collection[int] = ()
    _of_calls: dict[frozenset[str], Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._needs = self.job.needs

    def load(self, source: Source) -> Any:
        """The value of an input.

        Raises
        ------
        InputLostSignal
            When it is gone or damaged.
        """
        if isinstance(source, Literal):
            return private_copy(source.value)
        if isinstance(source, Passed):
            held = self.passed[source.task]
            self.digests.update(held.get(MADE_FROM, {}))
            value = unpack(held[source.index], shared=source.shared)
            try:
                return resolved(value, self.env.store)
            except ArtifactMissingError as error:
                raise InputLostSignal(source.task, error) from None
        try:
            value, manifest = load_stored(self.env.store, source, self.env.facts)
            self._check_call(source, manifest)
        except ArtifactMissingError as error:
            raise InputLostSignal(source.task, error) from None
        self.digests[source.key] = manifest.content
        return value

    def _check_call(self, source: Stored, manifest: Manifest) -> None:
        """Refuse what another call has made than an output of the same stage that was loaded before.

        Race: one output is loaded, another run replaces all of them, the next one is loaded.
        """
        if source.siblings:
            first = self._of_calls.setdefault(frozenset((source.stem, *source.siblings)), manifest)
            check_one_call([first, manifest])

    # --- records -----------------------------------------------------------------------------------------------------
    def own_record(self, files: Workspace, reported: list[Reported]) -> StageContext:
        """The record that the stage runs on.

        Parameters
        ----------
        files : Workspace
            Where the stage writes.
        """
        self._reported = reported
        record = self._record(self.job.record, self.job.inputs, self._input_records, files)
        record.seed = self._seed()
        return record

    def _seed(self) -> int:
        """What the stage may draw from: of all that decides its result but its code and its inputs."""
        job = self.job
        given = {name: literal.key for name, literal in job.kwargs.items()}
        return int(digest(("seed", job.spec.name, job.record.used_hash, given))[:16], 16)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the function gets beside its record: an aggregate its records, and both their inputs by name.

        Raises
        ------
        InputLostSignal
        ValueChangedError, ParametersChangedError
        """
        self.job.check_unchanged()
        given = {name: self.load(source) for name, source in self.job.kwargs.items()}
        if not self.job.spec.is_aggregate:
            self._own = {name: self.load(source) for name, source in self.job.inputs.items()}
            return [], {**self._defaults(), **self._own, **given}
        members: dict[int, StageContext] = {}
        for place, (info, sources) in enumerate(self.job.gathered):
            if id(info) not in members:  # a record that was given twice is one record
                members[id(info)] = self._member(place, info, sources)
        self._gathered = [members[id(info)] for info, _ in self.job.gathered]
        named = {}
        for name in self.job.spec.inputs or ():
            if name not in self.job.kwargs:
                having = [record for record in members.values() if name in record.state.names]
                named[name] = GatheredInputs(partial(_read_state, name), having)
        return [list(self._gathered)], {**self._defaults(), **named, **given}

    def _defaults(self) -> dict[str, Any]:
        """Copies of the function's own defaults that it could change for its next call.

        Only of containers and arrays: of others it may ask whether it got the very object.
        """
        defaults = self.job.spec.keyword_defaults()
        return {name: private_copy(value) for name, value in defaults.items() if is_container(value)}

    def _input_records(self) -> list[StageContext]:
        if self.job.spec.is_aggregate:
            return list(self._gathered)
        members = self.job.record.inputs or ()
        if self.job.record.uses is not None:  # of parameters the own set's count, and no others
            members = tuple(replace(info, uses=(info.params_hash, ())) for info in members)
        return [self._member(i, info, {}) for i, info in enumerate(members)]

    def _member(self, place: int, info: RecordInfo, sources: Mapping[str, Source]) -> StageContext:
        """A record that went into that of the stage."""

        def unknown() -> list[StageContext]:
            raise CuridaskError(
                "A stage knows the records that went into its own record, not those before them.",
                where=f"{self.job.label}, asking {info.label}",
                fix="ask in run(), where the record was made",
            )

        return self._record(info, sources, unknown, None, place)

    def _record(
        self,
        info: RecordInfo,
        sources: Mapping[str, Source],
        inputs: Callable[[], list[StageContext]],
        files: Workspace | None,
        place: int | None = None,
    ) -> StageContext:
        job = self.job
        declared = job.spec.inputs
        state = StageState(
            lambda name: self._look(sources, name),
            [name for name, source in sources.items() if not is_suppressed(source)],
            job.label,
            lambda record, name: self._represent(record, name, sources[name]),
            declared=declared if declared is None else [name for name in declared if name not in job.kwargs],
            n_held=info.n_held,
        )
        earlier = EarlierFiles(info, self._needs, self.env, job.prefix, job.label, self.digests)
        paths = RecordPaths(job.spec.name, earlier, files)
        return StageContext(info, state, paths, self._reported, self.env.facts, inputs, place)

    def _look(self, sources: Mapping[str, Source], name: str) -> Any:
        """What a record's state gives; the stage's own gives what the function got."""
        own = sources is self.job.inputs and name in self._own
        return self._own[name] if own else self.load(sources[name])

    def _represent(self, record: StageContext, name: str, source: Source) -> ArtifactRepresentation:
        manifest = self.env.store.manifest(source.stem) if isinstance(source, Stored) else None
        if manifest is not None:
            return ArtifactRepresentation.stored(record, name, manifest)
        return ArtifactRepresentation(record, name, self.load(source))


def _read_state(name: str, record: StageContext) -> Any:
    return record.state[name]
