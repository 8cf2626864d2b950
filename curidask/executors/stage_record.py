"""The record as a stage's function sees it: parameters, declared inputs, paths; nothing that would need the driver."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from curidask.errors import CuridaskError, ReportableError, UndeclaredInputError
from curidask.executors.base import Reported
from curidask.graph import RecordInfo

Paths = Callable[..., str]


class StageState(Mapping[str, Any]):
    """The declared inputs by name; each loads when looked at."""

    def __init__(self, load: Callable[[str], Any], names: Iterator[str] | list[str], where: str) -> None:
        self._load = load
        self._names = dict.fromkeys(names)
        self._where = where

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            known = ", ".join(map(repr, self._names)) or "none"
            raise UndeclaredInputError(
                f"{name!r} was read from the state, but is not a declared input (declared: {known}).",
                where=self._where,
                fix=f"add {name!r} to the stage's `inputs` and to its function's parameters",
            )
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        """The input, or the default when it is not declared."""
        return self[name] if name in self._names else default


class StageRecord:
    """What the worker gives a stage as ``record`` (and an aggregate as each of its ``records``).

    Attributes
    ----------
    params, args : ExperimentParameters or None
        The parameter set, under its new and its old name.
    state : StageState
        The declared inputs.
    logger : logging.Logger
        Named after the stage.
    """

    def __init__(
        self,
        info: RecordInfo,
        state: StageState,
        stage: str,
        paths: tuple[Paths, Paths] | None = None,
        reported: list[Reported] | None = None,
    ) -> None:
        self.params = info.params
        self.state = state
        self.logger = logging.getLogger(f"curidask.stage.{stage}")
        self.is_aggregate = info.is_aggregate
        self.combo_hash = info.params_hash if info.is_aggregate else None
        self._info = info
        self._stage = stage
        self._paths = paths
        self._reported = [] if reported is None else reported

    @property
    def args(self) -> Any:
        """The parameter set, under its old name."""
        return self.params

    @property
    def name(self) -> str:
        """The name of the parameter set."""
        return self._info.name

    def __repr__(self) -> str:
        return f"<{self._info.label}>"

    def get_hash(self) -> str:
        """The hash of the parameter set, or the combined hash of an aggregate's record."""
        return self._info.params_hash

    def get_reference_name(self) -> str:
        """The record as displays name it."""
        return self._info.label

    def get_path(
        self,
        obj_name: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A path for a file that becomes part of the stage's artifacts: stored, checked and brought back with them.

        The parameters are those of `curidask.store.manifests.beside_name`; give the name an extension.
        """
        return self._path_makers()[0](obj_name, subdir, prefix, stage_name, track)

    def get_dir(
        self,
        dir_name_suffix: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A folder, made by now, whose files become part of the stage's artifacts; arguments as for `get_path`."""
        return self._path_makers()[1](dir_name_suffix, subdir, prefix, stage_name, track)

    @property
    def manager(self) -> Any:
        """Refuse: a stage may run on a machine where the session is not."""
        raise CuridaskError(
            "A stage has no access to the manager.",
            where=f"stage {self._stage!r} of {self._info.label}",
            fix="pass what it needs as an input, a field of the parameter set or a keyword argument; for files use "
            "record.get_path(), for the report record.report()",
        )

    def report(self, reportable: Any) -> None:
        """Show something in the run's report, as `curidask.record.Record.report` does.

        It is rendered now, so later changes of what it shows do not matter, and it is kept with the stage's artifacts.
        """
        default_name = f"{self._stage}_{len(self._reported)}"
        where = f"stage {self._stage!r} of {self._info.label}"
        self._reported.append(capture(reportable, default_name, where, self, self._stage))

    def apply_stage(self, spec: Any, *_: Any) -> Any:
        """Refuse a stage called inside a stage."""
        raise CuridaskError(
            f"The stage {spec.name!r} was called inside the stage {self._stage!r}.",
            where=f"stage {self._stage!r} of {self._info.label}",
            fix="call stages from run(), one after the other; move shared code into a plain function",
        )

    def _path_makers(self) -> tuple[Paths, Paths]:
        if self._paths is None:
            raise CuridaskError(
                "Paths can only be made with the stage's own record.",
                where=f"stage {self._stage!r} of {self._info.label}",
                fix="use the first parameter of the stage's function",
            )
        return self._paths


def capture(reportable: Any, default_name: str, where: str, record: Any = None, stage: str = "") -> Reported:
    """Render a reportable.

    Parameters
    ----------
    reportable : Reportable
    default_name : str
        For one without a name.
    where : str
        Who reports it, for messages.
    record : Record or StageRecord, optional
        Who does, for the reportable.
    stage : str
        Its stage, empty outside of stages.

    Raises
    ------
    ReportableError
    """
    make = getattr(reportable, "capture", None)
    if make is None or isinstance(reportable, type):
        raise ReportableError(
            f"record.report() was given {reportable!r:.80}, which is no reportable.",
            where=where,
            fix="wrap it, as in `record.report(DFReporter(table, name='scores'))`; see curidask.reporting",
        )
    try:
        reported: Reported = make(default_name, record=record, stage=stage)
    except ReportableError as error:
        error.where = error.where or where
        raise
    return reported


class GatheredInputs(MutableMapping[StageRecord, Any]):
    """One input of an aggregate: record to value, each loaded when looked at and not kept.

    So an aggregate over many large artifacts needs the memory of one. Assigning keeps a value in the mapping itself.
    """

    def __init__(self, load: Callable[[StageRecord], Any], records: list[StageRecord]) -> None:
        self._load = load
        self._records = dict.fromkeys(records)
        self._own: dict[Any, Any] = {}

    def __getitem__(self, record: StageRecord) -> Any:
        if record in self._own:
            return self._own[record]
        if record not in self._records:
            raise KeyError(record)
        return self._load(record)

    def __setitem__(self, record: Any, value: Any) -> None:
        self._own[record] = value

    def __delitem__(self, record: Any) -> None:
        if record not in self._own and record not in self._records:
            raise KeyError(record)
        self._own.pop(record, None)
        self._records.pop(record, None)

    def __iter__(self) -> Iterator[Any]:
        # A snapshot: users fill such a mapping while they go through it.
        return iter(list({**self._records, **self._own}))

    def __len__(self) -> int:
        return len({**self._records, **self._own})

    def __repr__(self) -> str:
        return f"<{len(self)} values by record>"
