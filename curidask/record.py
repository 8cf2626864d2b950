"""Records: a parameter set on its way through stages, with the state that the stages fill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from curidask.core.artifact_names import beside_name
from curidask.core.graph import ArtifactRef, PastStage, RecordInfo, combined_hash
from curidask.core.keywords import CheckedCalls, NearNames, keywords
from curidask.core.preview import NOT_THERE, ArtifactRepresentation
from curidask.core.spec import StageSpec
from curidask.errors import BoundToSessionError, MissingInputError, ParametersChangedError
from curidask.execution.copies import private_copy
from curidask.execution.stage_context import capture
from curidask.params import EMPTY_HASH, ExperimentParameters, fill_hash
from curidask.runs.layout import copy_path
from curidask.session.displays import RecordDisplay
from curidask.session.snapshots import Given
from curidask.staging import SkippedOutput

if TYPE_CHECKING:
    from curidask.manager import ArtifactManager


# --- a record's state: artifacts by name, resolved to their values when they are looked at ---------------------------
_NO_DEFAULT = object()


class CacheAwareDict(CheckedCalls, dict[str, Any]):
    """A record's state: artifacts by name, each resolved to its value when it is accessed.

    Resolving an artifact that is not there yet executes what it needs. Values stay in memory once resolved, those of
    lazy outputs do not.

    Attributes
    ----------
    resolve : bool
        False gives what is held itself: a `Lazy` for a stored artifact, an `ArtifactRef` for one in memory, a
        `SkippedOutput` for one whose stage nobody needed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resolve = True
        self._manager: ArtifactManager | None = None
        self._record: Record | None = None
        self._given: dict[ArtifactRef, Given] = {}

    def raw(self, name: str) -> Any:
        """What is held under a name: an `ArtifactRef`, or a value that the experiment put there itself."""
        try:
            return super().__getitem__(name)
        except KeyError:
            known = ", ".join(map(repr, self)) or "nothing yet"
            raise MissingInputError(
                f"There is no artifact {name!r} in the state.",
                where=f"the state holds {known}",
                fix="run the stage that makes it first, or correct the name",
            ) from None

    def is_loaded(self, name: str) -> bool:
        """Whether the value under a name is in this process's memory."""
        held = self.raw(name)
        return not isinstance(held, ArtifactRef) or held in self._given

    def held_now(self, name: str) -> Any:
        """As `raw`; an artifact that the experiment was given and changed in place counts as put there by hand."""
        held = self.raw(name)
        given = self._given.get(held) if self._given and isinstance(held, ArtifactRef) else None
        if given is None or not given.is_changed(lambda: self._read(held)[0], self._label(name)):
            return held
        super().__setitem__(name, given.value)
        return given.value

    def made(self, ref: ArtifactRef) -> None:
        """Take in what a stage makes, as it makes it."""
        self._given.pop(ref, None)
        super().__setitem__(ref.name, ref)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self._manager is not None:
            raise BoundToSessionError(
                "The state of a record belongs to its session, and can be neither copied as a whole nor sent away.",
                fix="`dict(record.state)` gives its values, `record.make_copy()` a record that starts with them",
            )
        return super().__reduce_ex__(protocol)

    def __getitem__(self, name: str) -> Any:
        return self._resolved(self.raw(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value under a name, or the default."""
        try:
            held = self.raw(name)
        except MissingInputError:
            return default
        return self._resolved(held)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value under a name, which is the default from now on when there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def values(self) -> Any:
        """All values, resolved."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """All names with their values, resolved."""
        return [(name, self[name]) for name in self]

    def pop(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """Take a value out of the state."""
        if name not in self and default is not _NO_DEFAULT:
            return default
        value = self[name]
        super().__delitem__(name)
        return value

    def copy(self) -> CacheAwareDict:
        """A state of its own that holds the same artifacts; values the experiment put there are copied deeply."""
        other = CacheAwareDict()
        other._manager = self._manager
        for name in self:
            held = self.held_now(name)
            dict.__setitem__(other, name, held if isinstance(held, ArtifactRef) else private_copy(held))
        return other

    def __iter__(self) -> Iterator[str]:
        # Overridden although it does the same: dict(state) and {**state} then go through __getitem__.
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self._shown(self.raw(name))}" for name in self) + "}"

    def _resolved(self, held: Any) -> Any:
        if not isinstance(held, ArtifactRef) or self._manager is None:
            return held
        if not self.resolve:
            reference = self._manager.reader.reference_to(held)
            return self._skipped(held) if reference is None else reference
        if held in self._given:
            return self._given[held].value
        value, keep = self._read(held)
        if keep:
            self._given[held] = Given(value)
        return value

    def _read(self, ref: ArtifactRef) -> tuple[Any, bool]:
        assert self._manager is not None
        return self._manager.reader.value(ref)

    def _label(self, name: str) -> str:
        of = "" if self._record is None else f" of {self._record.get_reference_name()}"
        return f"{name!r} in the state{of}"

    def _skipped(self, held: ArtifactRef) -> Any:
        if self._record is None:
            return held
        stage = self._record.manager.graph[held.task].spec.name
        return SkippedOutput(self._record, stage, represent(self._record, held.name))

    def _shown(self, held: Any) -> str:
        if isinstance(held, ArtifactRef) and self._manager is not None and not self._manager.reader.is_available(held):
            return "<not computed yet>"
        return repr(self._resolved(held))


# --- record ----------------------------------------------------------------------------------------------------------
class Record(RecordDisplay, NearNames):
    """A parameter set and the state that stages build up for it.

    Parameters
    ----------
    manager : ArtifactManager
        The session the record belongs to.
    params : ExperimentParameters or None
        The parameter set; None for a record that needs none (an aggregate's, mostly). (`param_set` and `args` are
        synonyms.)
    hide : bool
        Keep the record out of the manager's list, so that aggregates over all records do not see it.

    Attributes
    ----------
    manager, params, args
        As given; `args` is the old name of `params`.
    state : CacheAwareDict
        Artifacts by name.
    stages : list of str
        The stages it went through.
    stage_inputs, stage_outputs : list of list of str
        For each of them the names it asked for and those it made.
    stage_cachers : None
        A stage finds the cachers of its outputs there, in the record that it is given.
    input_records : list of Record
        The records that went into this one.
    is_aggregate : bool
        Whether an aggregate ran on it.
    combo_hash : str or None
        For an aggregate's record: the hash over its own set and the records that went in.
    unstored_tracked_paths : list of dict
        Paths given by `get_path` and `get_dir` outside of stages that are still to be copied into the folder of a
        store-full run; each has ``obj_name``, ``subdir``, ``prefix``, ``stage_name`` and ``path``.
    stored_paths : list of str
        Those that were copied (the sources).
    """

    stage_cachers: None = None

    @keywords(param_set="params", args="params")
    def __init__(self, manager: ArtifactManager, params: ExperimentParameters | None, hide: bool = False) -> None:
        self.manager = manager
        self.params = params
        self.state = CacheAwareDict()
        self.state._manager = manager
        self.state._record = self
        self.stages: list[str] = []
        self.stage_inputs: list[list[str]] = []
        self.stage_outputs: list[list[str]] = []
        self.input_records: list[Record] = []
        self.is_aggregate = False
        self.combo_hash: str | None = None
        self.unstored_tracked_paths: list[dict[str, Any]] = []
        self.stored_paths: list[str] = []
        self.tasks: list[int] = []
        self.input_infos: tuple[RecordInfo, ...] = ()
        self._history: list[PastStage] = []
        self._fixed_hash = ""
        self._last_outputs: list[str] | None = None
        self.set_hash()
        self.index = -1 if hide else manager.add_record(self)
        self._is_made = True

    def __reduce__(self) -> NoReturn:
        # Code that goes to workers takes the globals of a script along; reading a state on the way would run stages.
        raise BoundToSessionError(
            "A record belongs to its session, and can be neither copied as an object nor sent away.",
            where=self.get_reference_name(),
            fix="`record.make_copy()` gives another one with what its state holds; give a stage what it needs of it as "
            "an input or a keyword argument",
        )

    def __repr__(self) -> str:
        return f"<{self.get_reference_name()}, {len(self.stages)} stages>"

    @property
    def args(self) -> ExperimentParameters | None:
        """The parameter set, under its old name."""
        return self.params

    @property
    def name(self) -> str:
        """The name of the parameter set, ``"None"`` without one."""
        return self.params.name if self.params is not None else "None"

    @property
    def output(self) -> Any:
        """What the last stage returned: one value, or a tuple of several; None when it returned none."""
        names = self._last_outputs or []
        if not names:
            return None
        values = tuple(self.state[name] for name in names)
        return values[0] if len(values) == 1 else values

    @property
    def state_artifact_reps(self) -> dict[str, ArtifactRepresentation]:
        """For each name in the state, what displays show of it; nothing is computed for it."""
        return {name: represent(self, name) for name in self.state}

    def set_hash(self) -> None:
        """Establish the hash of the parameter set and write it on the set."""
        self._fixed_hash = EMPTY_HASH
        if self.params is not None:
            self._fixed_hash = fill_hash(self.params)
            self.manager.hashes_in_use.add(self.params, self._fixed_hash)

    @property
    def fixed_hash(self) -> str:
        """The hash that the parameter set had when it was established."""
        return self._fixed_hash

    def get_hash(self) -> str:
        """The hash of the parameter set, or the combined hash once an aggregate ran on the record."""
        return self.combo_hash if self.is_aggregate and self.combo_hash else self._fixed_hash

    @keywords()
    def get_reference_name(self, map: bool = False) -> str:
        """The record as displays name it: ``Record 3 (name)``.

        Parameters
        ----------
        map : bool
            Without effect: a plan names the records as the run does.
        """
        return self.info().label

    @keywords()
    def get_record_index(self, map: bool = False) -> int:
        """The record's place among those of the manager, -1 for a hidden one; `map` as in `get_reference_name`."""
        return self.index

    @property
    def stage_inputs_names(self) -> list[list[str]]:
        """For each stage the inputs that it declares."""
        return [list(names) for names in self.stage_inputs]

    @property
    def stage_suppress_missing(self) -> list[bool]:
        """For each stage whether it was declared with ``suppress_missing_inputs``."""
        return [self.manager.graph[task].spec.suppress_missing_inputs for task in self.tasks]

    @property
    def stage_kwargs_keys(self) -> list[list[str]]:
        """For each stage the keyword arguments of its call."""
        return [list(self.manager.graph[task].kwargs) for task in self.tasks]

    def info(self, *, alone: bool = False) -> RecordInfo:
        """The record as tasks carry it; `alone` without the records that went into it."""
        session = self.manager
        return RecordInfo(
            self.index,
            self.name,
            self.params,
            self.get_hash(),
            self.is_aggregate,
            session.experiment_name,
            session.prefix,
            session.reference,
            str(session.store.local_root or ""),
            self._history,
            len(self._history),
            None if alone else self.input_infos,
            n_held=len(self.state),
        )

    @keywords()
    def set_aggregate(self, aggregate_records: Sequence[Record]) -> None:
        """Let the record's hash stand for all the records that go into it, in their order."""
        self.is_aggregate = True
        self.input_records = list(aggregate_records)
        members = [(record.get_hash(), record.name) for record in aggregate_records]
        self.combo_hash = combined_hash(self._fixed_hash, members)

    @keywords(param_set="params", args="params")
    def make_copy(self, params: ExperimentParameters | None = None, add_to_manager: bool = True) -> Record:
        """A new record that starts with a copy of this one's state.

        Parameters
        ----------
        params : ExperimentParameters, optional
            Its parameter set; this record's own by default. (`param_set` and `args` are synonyms.)
        add_to_manager : bool
            Whether the manager lists it.

        Returns
        -------
        Record
            With this record among its `input_records`.
        """
        other = Record(self.manager, self.params if params is None else params, hide=not add_to_manager)
        other.state = self.state.copy()
        other.state._record = other
        other.input_records = [self]
        other.input_infos = (self.manager.info_of(self),)
        return other

    # --- files -------------------------------------------------------------------------------------------------------
    @keywords()
    def get_path(
        self,
        obj_name: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A path for a file that belongs to this record.

        When the stage that ran last (or `stage_name`) wrote a file of that name, it is that file: bring it, do not
        change it. Otherwise it is a path to write to, which holds no artifact: nothing checks or reuses it.

        Parameters
        ----------
        obj_name : str
            Its name, with an extension.
        subdir : str, optional
            Folders to put it into, separated by ``/``.
        prefix : str, optional
            How its name begins, instead of the manager's prefix.
        stage_name : str, optional
            The stage it is named after; the last one by default.
        track : bool
            Whether the folder of a store-full run gets a copy.

        Returns
        -------
        str
            A local path; its folder is there.
        """
        return self._path(obj_name, subdir, prefix, stage_name, track, is_folder=False)

    @keywords()
    def get_dir(
        self,
        dir_name_suffix: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A folder that belongs to this record, made by now; see `get_path`."""
        return self._path(dir_name_suffix, subdir, prefix, stage_name, track, is_folder=True)

    def _path(
        self,
        name: str,
        subdir: str | None,
        prefix: str | None,
        stage_name: str | None,
        track: bool,
        *,
        is_folder: bool,
    ) -> str:
        stage = stage_name or self.last_stage
        written = self.find_written(name, subdir, prefix, stage, track)
        if written is not None:
            return written
        path = self.manager.plain_path(name, self, subdir, prefix, stage)
        os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
        entry = {"obj_name": name, "subdir": subdir, "prefix": prefix, "stage_name": stage, "path": path}
        if track and entry not in self.unstored_tracked_paths and path not in self.stored_paths:
            self.unstored_tracked_paths.append(entry)
        return path

    @property
    def last_stage(self) -> str | None:
        """The stage it went through last."""
        return self.stages[-1] if self.stages else None

    def find_written(
        self, name: str, subdir: str | None, prefix: str | None, stage: str | None, track: bool
    ) -> str | None:
        """The file that a stage wrote on this record under that name, arguments as for `get_path`; None for none."""
        task = next((t for t in reversed(self.tasks) if self.manager.graph[t].spec.name == stage), None)
        beside = beside_name(name, subdir, prefix, None, track)
        return None if task is None else self.manager.reader.stage_file(task, beside)

    def store_tracked_paths(self) -> None:
        """Copy what lies at the tracked paths into the folder of a store-full run; without one there is nothing to do.

        A manager does this when it is closed.
        """
        if self.manager.full_store is None:
            return
        for entry in self.unstored_tracked_paths:
            source, named = entry["path"], (entry["obj_name"], self, entry["subdir"], entry["prefix"])
            target = self.manager.plain_path(*named, entry["stage_name"], store=True)
            if os.path.exists(source):
                copy_path(source, target)
                self.stored_paths.append(source)
        self.unstored_tracked_paths.clear()

    # --- the report --------------------------------------------------------------------------------------------------
    @keywords()
    def report(self, reportable: Any) -> None:
        """Show something in the run's report.

        Parameters
        ----------
        reportable : Reportable
            See `curidask.reporting`.

        Raises
        ------
        ReportableError
            When it cannot be rendered.
        """
        stage = self.stages[-1] if self.stages else ""
        collector = self.manager.reported
        default_name = f"{stage or 'record'}_{len(collector.rows)}"
        captured = capture(reportable, default_name, self.get_reference_name(), self, stage)
        collector.add(captured, self.info(), stage, None, before=len(self.manager.graph))

    def check_unchanged(self) -> None:
        """Refuse a parameter set that was changed since the record was made of it.

        Raises
        ------
        ParametersChangedError
        """
        if self.params is not None and self.params.params_hash() != self._fixed_hash:
            raise ParametersChangedError(
                f"The parameter set {self.name!r} was changed after its record was made.",
                where=self.get_reference_name(),
                fix="make the change before `Record(manager, params)`, or make a second set with "
                "`dataclasses.replace(params, ...)` and a record of that",
            )

    def apply_stage(self, spec: StageSpec, records: Sequence[Record] | None, kwargs: dict[str, Any]) -> Record:
        """Trace a stage on this record (what calling the decorated function does)."""
        self.manager.apply(self, spec, records, kwargs)
        return self

    def add_task(self, spec: StageSpec, task: int, inputs: Sequence[str], refs: Sequence[ArtifactRef]) -> None:
        """Take in what a traced stage makes."""
        self.tasks.append(task)
        self._history.append(self.manager.graph[task].as_past)
        self.stages.append(spec.name)
        self.stage_inputs.append(list(inputs))
        self.stage_outputs.append([ref.name for ref in refs])
        self._last_outputs = [ref.name for ref in refs]
        for ref in refs:
            self.state.made(ref)


def represent(record: Record, name: str) -> ArtifactRepresentation:
    """Represent what a record's state holds under a name, without computing or loading anything that is stored."""
    held = record.state.raw(name)
    if not isinstance(held, ArtifactRef):
        return ArtifactRepresentation(record, name, held)
    manager = record.manager
    stem = manager.graph[held.task].stems[held.index]
    manifest = manager.store.manifest(stem) if stem is not None else None
    if manifest is not None:
        return ArtifactRepresentation.stored(record, name, manifest)
    if manager.reader.is_available(held) and (manager.live or record.state.is_loaded(name)):
        return ArtifactRepresentation(record, name, record.state[name])
    return ArtifactRepresentation(record, name, None, {"preview": NOT_THERE})
