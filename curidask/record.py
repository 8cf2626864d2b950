"""Records: a parameter set on its way through stages, with the state that the stages fill."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curidask.displays import RecordDisplay
from curidask.errors import MissingInputError, ParametersChangedError
from curidask.executors.stage_record import capture
from curidask.graph import ArtifactRef, RecordInfo
from curidask.hashing import digest
from curidask.params import EMPTY_HASH, ExperimentParameters, fill_hash
from curidask.staging import StageSpec

if TYPE_CHECKING:
    from curidask.manager import ArtifactManager

_NO_DEFAULT = object()


class CacheAwareDict(dict[str, Any]):
    """A record's state: artifacts by name, each resolved to its value when it is accessed.

    Resolving an artifact that is not there yet executes what it needs. Values stay in memory once resolved, those of
    lazy outputs do not.

    Attributes
    ----------
    resolve : bool
        False gives what is held itself: a `Lazy` for a stored artifact, an `ArtifactRef` for one in memory.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resolve = True
        self._manager: ArtifactManager | None = None
        self._values: dict[ArtifactRef, Any] = {}

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

    def __getitem__(self, name: str) -> Any:
        return self._resolved(self.raw(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value under a name, or the default."""
        try:
            held = self.raw(name)
        except MissingInputError:
            return default
        return self._resolved(held)

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
            held = self.raw(name)
            dict.__setitem__(other, name, held if isinstance(held, ArtifactRef) else copy.deepcopy(held))
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
            return self._manager.reference_to(held)
        if held in self._values:
            return self._values[held]
        value, keep = self._manager.value(held)
        if keep:
            self._values[held] = value
        return value

    def _shown(self, held: Any) -> str:
        if isinstance(held, ArtifactRef) and self._manager is not None and not self._manager.is_available(held):
            return "<not computed yet>"
        return repr(self._resolved(held))


class Record(RecordDisplay):
    """A parameter set and the state that stages build up for it.

    Parameters
    ----------
    manager : ArtifactManager
        The session the record belongs to.
    params : ExperimentParameters or None
        The parameter set; None for a record that needs none (an aggregate's, mostly).
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
    input_records : list of Record
        The records that went into this one.
    is_aggregate : bool
        Whether an aggregate ran on it.
    combo_hash : str or None
        For an aggregate's record: the hash over its own set and the records that went in.
    """

    def __init__(
        self, manager: ArtifactManager, params: ExperimentParameters | None, hide: bool = False, **old: Any
    ) -> None:
        self.manager = manager
        self.params: ExperimentParameters | None = old.pop("args", params)
        self.state = CacheAwareDict()
        self.state._manager = manager
        self.stages: list[str] = []
        self.stage_inputs: list[list[str]] = []
        self.stage_outputs: list[list[str]] = []
        self.input_records: list[Record] = []
        self.is_aggregate = False
        self.combo_hash: str | None = None
        self.tasks: list[int] = []
        self._fixed_hash = ""
        self._last_outputs: list[str] | None = None
        self.set_hash()
        self.index = -1 if hide else manager.add_record(self)

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

    def set_hash(self) -> None:
        """Establish the hash of the parameter set and write it on the set."""
        self._fixed_hash = EMPTY_HASH if self.params is None else fill_hash(self.params)

    def get_hash(self) -> str:
        """The hash of the parameter set, or the combined hash once an aggregate ran on the record."""
        return self.combo_hash if self.is_aggregate and self.combo_hash else self._fixed_hash

    def get_reference_name(self) -> str:
        """The record as displays name it: ``Record 3 (name)``."""
        return self.info().label

    def info(self) -> RecordInfo:
        """The record as tasks carry it."""
        return RecordInfo(self.index, self.name, self.params, self.get_hash(), self.is_aggregate)

    def set_aggregate(self, aggregate_records: Sequence[Record]) -> None:
        """Let the record's hash stand for all the records that go into it, in their order.

        Their names count too: an aggregate names what it compares.
        """
        own = self._fixed_hash
        members = tuple((record.get_hash(), record.name) for record in aggregate_records)
        self.is_aggregate = True
        self.input_records = list(aggregate_records)
        self.combo_hash = digest(("combined", own, members))[:32]

    def make_copy(self, params: ExperimentParameters | None = None, add_to_manager: bool = True, **old: Any) -> Record:
        """A new record that starts with a copy of this one's state.

        Parameters
        ----------
        params : ExperimentParameters, optional
            Its parameter set; this record's own by default. (`args` is the old name.)
        add_to_manager : bool
            Whether the manager lists it.

        Returns
        -------
        Record
            With this record among its `input_records`.
        """
        chosen = old.pop("args", params)
        other = Record(self.manager, self.params if chosen is None else chosen, hide=not add_to_manager)
        other.state = self.state.copy()
        other.input_records = [self]
        return other

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
        collector.add(capture(reportable, default_name, self.get_reference_name()), self.info(), stage, None)

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
        self.stages.append(spec.name)
        self.stage_inputs.append(list(inputs))
        self.stage_outputs.append([ref.name for ref in refs])
        self._last_outputs = [ref.name for ref in refs]
        for ref in refs:
            self.state[ref.name] = ref
