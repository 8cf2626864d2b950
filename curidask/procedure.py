"""Procedures: stages that are run together, with a record made for each parameter set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from curidask.errors import StageDefinitionError
from curidask.manager import ArtifactManager
from curidask.params import ExperimentParameters
from curidask.record import Record
from curidask.stage_spec import StageSpec


class Procedure:
    """A list of stages to run in order.

    Parameters
    ----------
    stages : sequence of callable
        Decorated functions; an aggregate can only be the first.
    manager : ArtifactManager, optional
        A live one is made when there is none. (`mngr` is a synonym.)
    name : str, optional
        For displays.
    previous_proc : Procedure, optional
        For an aggregate: gather that procedure's records.
    records : sequence of Record, optional
        For an aggregate: gather these. Without both it gathers all other records of the manager.

    Attributes
    ----------
    records : list of Record
        The records that `run` went through.
    """

    def __init__(
        self,
        stages: Sequence[Callable[..., Any]],
        manager: ArtifactManager | None = None,
        name: str | None = None,
        previous_proc: Procedure | None = None,
        records: Sequence[Record] | None = None,
        *,
        mngr: ArtifactManager | None = None,
    ) -> None:
        self.stages = list(stages)
        self.name = name
        self.previous_proc = previous_proc
        self.records: list[Record] = []
        self._gathered = records
        self._check()
        self.manager = manager or mngr or ArtifactManager(name or "procedure")

    def _check(self) -> None:
        where = f"procedure {self.name!r}" if self.name else "procedure"
        specs = [getattr(stage, "spec", None) for stage in self.stages]
        if not specs or not all(isinstance(spec, StageSpec) for spec in specs):
            raise StageDefinitionError(
                "A procedure needs a list of decorated functions.",
                where=where,
                fix="write `Procedure([load, train], manager)` with functions under @stage or @aggregate",
            )
        late = next((spec.name for spec in specs[1:] if spec is not None and spec.is_aggregate), None)
        if late is not None:
            raise StageDefinitionError(
                f"The aggregate {late!r} is not the first stage.",
                where=where,
                fix="begin a procedure of its own with it, with `previous_proc=` or `records=`",
            )
        first = specs[0]
        has_source = self.previous_proc is not None or self._gathered is not None
        if has_source and first is not None and not first.is_aggregate:
            raise StageDefinitionError(
                f"`previous_proc` or `records` is given, but the first stage {first.name!r} is no aggregate.",
                where=where,
                fix="put the aggregate first, or leave both out",
            )

    def run(
        self,
        param_set: ExperimentParameters | None = None,
        record: Record | None = None,
        hide: bool = False,
        **old: Any,
    ) -> Record:
        """Run the stages on a record of a parameter set.

        Parameters
        ----------
        param_set : ExperimentParameters or None
            (`args` is the old name.)
        record : Record, optional
            Go on with this one instead of a new one.
        hide : bool
            Keep a new record out of the manager's list.

        Returns
        -------
        Record
            Its `output` is what the last stage returned.
        """
        if record is None:
            record = Record(self.manager, old.pop("args", param_set), hide=hide)
        self.records.append(record)
        for stage in self.stages:
            spec: StageSpec = stage.spec  # type: ignore[attr-defined]  # checked in __init__
            record = stage(record, self._sources()) if spec.is_aggregate else stage(record)
        return record

    def _sources(self) -> Sequence[Record] | None:
        if self._gathered is not None:
            return self._gathered
        return self.previous_proc.records if self.previous_proc is not None else None
