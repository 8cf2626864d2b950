"""Procedures: stages that are run together, with a record made for each parameter set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.spec import StageSpec
from curidask.errors import StageDefinitionError
from curidask.manager import ArtifactManager
from curidask.params import ExperimentParameters
from curidask.record import Record


class Procedure(CheckedCalls):
    """A list of stages to run in order.

    Parameters
    ----------
    stages : sequence of callable
        Decorated functions; an aggregate can only be the first.
    manager : ArtifactManager, optional
        Whose records the procedure makes. (`mngr` is a synonym.) It can also be given to `run`, so that a procedure can
        be made before there is a manager.
    name : str, optional
        For displays.
    previous_proc : Procedure, optional
        For an aggregate: gather that procedure's records.
    records : sequence of Record, optional
        For an aggregate: gather these. Without both it gathers all other records of the manager.

    Attributes
    ----------
    record : Record or None
        The one that `run` went through last.
    records : list of Record
        Those that `run` made, for a procedure that gathers them; a record that was given to it belongs to who made it.
    use_records : sequence of Record or None
        As given for `records`.
    """

    @keywords(mngr="manager")
    def __init__(
        self,
        stages: Sequence[Callable[..., Any]],
        manager: ArtifactManager | None = None,
        name: str | None = None,
        previous_proc: Procedure | None = None,
        records: Sequence[Record] | None = None,
    ) -> None:
        self.stages = list(stages)
        self.manager = manager
        self.name = name
        self.previous_proc = previous_proc
        self.record: Record | None = None
        self.records: list[Record] = []
        self.use_records = records
        self._check()

    def _check(self) -> None:
        specs = [getattr(stage, "spec", None) for stage in self.stages]
        if not specs or not all(isinstance(spec, StageSpec) for spec in specs):
            raise StageDefinitionError(
                "A procedure needs a list of decorated functions.",
                where=self._where,
                fix="write `Procedure([load, train], manager)` with functions under @stage or @aggregate",
            )
        late = next((spec.name for spec in specs[1:] if spec is not None and spec.is_aggregate), None)
        if late is not None:
            raise StageDefinitionError(
                f"The aggregate {late!r} is not the first stage.",
                where=self._where,
                fix="begin a procedure of its own with it, with `previous_proc=` or `records=`",
            )
        if specs[0] is not None and (self.previous_proc is not None or self.use_records is not None):
            self._check_aggregate(specs[0])

    @keywords(args="param_set", params="param_set", mngr="manager")
    def run(
        self,
        param_set: ExperimentParameters | None = None,
        record: Record | None = None,
        hide: bool = False,
        manager: ArtifactManager | None = None,
        records: Sequence[Record] | None = None,
    ) -> Record:
        """Run the stages on a record of a parameter set.

        Parameters
        ----------
        param_set : ExperimentParameters or None
            (`args` and `params` are synonyms.)
        record : Record, optional
            Go on with this one instead of a new one.
        hide : bool
            Keep a new record out of the manager's list.
        manager : ArtifactManager, optional
            For this run, instead of the procedure's own. Without either it is that of the experiment that is running,
            else a live one that is made now and kept for the next run.
        records : sequence of Record, optional
            For an aggregate: gather these in this run, whatever the procedure was made with.

        Returns
        -------
        Record
            Its `output` is what the last stage returned.

        Raises
        ------
        StageDefinitionError
            For `records` where the first stage is no aggregate, and for a `record` of another manager than the given.
        """
        is_given = record is not None
        record = self.record = self._record(param_set, record, hide, manager)
        sources = self._sources(records)
        if not is_given:
            self.records.append(record)
        for stage in self.stages:
            spec: StageSpec = stage.spec  # type: ignore[attr-defined]  # checked in __init__
            record = stage(record, sources) if spec.is_aggregate else stage(record)
        return record

    def _record(
        self,
        param_set: ExperimentParameters | None,
        record: Record | None,
        hide: bool,
        manager: ArtifactManager | None,
    ) -> Record:
        if record is None:
            return Record(self._manager(manager), param_set, hide=hide)
        if manager is not None and record.manager is not manager:
            raise StageDefinitionError(
                "The record belongs to another manager than the one that was given.",
                where=f"{self._where}, {record.get_reference_name()}",
                fix="give `record=` alone: its stages run with the manager that it was made with",
            )
        return record

    def _manager(self, given: ArtifactManager | None) -> ArtifactManager:
        found = given or self.manager or ArtifactManager.running()
        if found is None:
            found = self.manager = ArtifactManager(self.name or "procedure")
        return found

    def _sources(self, given: Sequence[Record] | None) -> Sequence[Record] | None:
        if given is not None:
            self._check_aggregate(self.stages[0].spec)  # type: ignore[attr-defined]  # checked in __init__
            return given
        return self.previous_proc.records if self.previous_proc is not None else self.use_records

    def _check_aggregate(self, first: StageSpec) -> None:
        if not first.is_aggregate:
            raise StageDefinitionError(
                f"`previous_proc` or `records` is given, but the first stage {first.name!r} is no aggregate.",
                where=self._where,
                fix="put the aggregate first, or leave both out",
            )

    @property
    def _where(self) -> str:
        return f"procedure {self.name!r}" if self.name else "procedure"
