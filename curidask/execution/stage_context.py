"""The record as a stage's function sees it: parameters, declared inputs, paths; nothing that would need the driver."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NoReturn, SupportsIndex

from curidask.caching.base import Cacheable
from curidask.core.artifact_names import beside_name
from curidask.core.graph import RecordInfo
from curidask.core.keywords import CheckedCalls, described, keywords, nearly
from curidask.core.preview import ArtifactRepresentation
from curidask.core.used_params import only_used
from curidask.errors import CacheError, CuridaskError, ReportableError, StageAccessError
from curidask.execution.base import Environment, ManagerFacts, Reported, Stored
from curidask.execution.copies import private_copy
from curidask.execution.lazy_dicts import StageState
from curidask.execution.stage_paths import EarlierFiles, InputLostSignal, Paths
from curidask.store.base import Store
from curidask.store.payload import Checkout

_as_output: ContextVar[bool] = ContextVar("as output", default=False)
_found: ContextVar[Callable[[RecordInfo], Any]] = ContextVar("found")


@contextmanager
def written_as_output() -> Iterator[None]:
    """Write records in the block as what `read_from_output` finds, since they are part of an output."""
    token = _as_output.set(True)
    try:
        yield
    finally:
        _as_output.reset(token)


@contextmanager
def read_from_output(find: Callable[[RecordInfo], Any]) -> Iterator[None]:
    """Let a session have its own records for those that are read in the block.

    Parameters
    ----------
    find : callable
        Gives the session's record; None when it has none, so that what stands for it tells its name and parameters.
    """
    token = _found.set(find)
    try:
        yield
    finally:
        _found.reset(token)


class StageContext(CheckedCalls):
    """What the worker gives a stage as ``record`` (and an aggregate as each of its ``records``).

    Parameters
    ----------
    reported : list of Reported
        Takes what is reported.
    inputs : callable
        Gives the records that went into this one.
    place : int, optional
        The record's place among those that went into the stage's own; None for that one.

    Attributes
    ----------
    params, args : ExperimentParameters or None
        The parameter set, under its new and its old name.
    state : StageState
        The declared inputs.
    logger : logging.Logger
        Named after the stage.
    manager : ManagerFacts
        What a stage may know of the session, wherever it runs.
    give_cachers : callable
        Gives the `stage_cachers`.
    seed : int
        To draw from: made of the stage's name, the parameters that it uses and the arguments of its call, so the same
        on each machine and in each run, and another for each stage and set. Code is no part of it, so a stage that is
        rewritten draws the same. 0 for a record that went into the stage's own.
    """

    def __init__(
        self,
        info: RecordInfo,
        state: StageState,
        paths: Paths,
        reported: list[Reported],
        facts: ManagerFacts,
        inputs: Callable[[], list[StageContext]],
        place: int | None = None,
    ) -> None:
        self.state = state
        self.logger = logging.getLogger(f"curidask.stage.{paths.stage}")
        self.is_aggregate = info.is_aggregate
        self.combo_hash = info.params_hash if info.is_aggregate else None
        self.manager = facts
        self.give_cachers: Callable[[], list[Cacheable | None] | None] = lambda: None
        self._info = info
        self._stage = paths.stage
        self._paths = paths
        self._reported = reported
        self._inputs = inputs
        self._place = place
        self.seed = 0

    @cached_property
    def params(self) -> Any:
        """The parameter set: a copy of its own for each stage."""
        params = private_copy(self._info.params)
        names = self._info.used_names
        return params if names is None else only_used(params, names, f"stage {self._stage!r}")

    @property
    def args(self) -> Any:
        """The parameter set, under its old name."""
        return self.params

    @cached_property
    def rng(self) -> Any:
        """A generator of numpy's (``numpy.random.Generator``) that begins with `seed`; one for the stage."""
        import numpy as np

        return np.random.default_rng(self.seed)

    @property
    def name(self) -> str:
        """The name of the parameter set."""
        if self._info.uses is not None and self._info.params is not None:
            return str(self.params.name)  # an error: sets of several names may share what the stage makes
        return self._info.name

    @property
    def stages(self) -> list[str]:
        """The stages that the record went through; of the running stage's own record, that one is the last."""
        return [past.stage for past in self._info.past] + ([] if self._paths.own is None else [self._stage])

    @property
    def stage_cachers(self) -> list[Cacheable | None] | None:
        """The cachers that will store the outputs, None for an output without one; None when no output has one.

        ``stage_cachers[i].get_path()`` is where the cacher's file will lie before it goes into the cache: what the
        stage writes there itself is overwritten when the cacher saves. Of a `PathRef` it is the path to write to and
        to return.
        """
        return self.give_cachers()

    @property
    def input_records(self) -> list[StageContext]:
        """The records that went into this one: those of its aggregate, or the one it is a copy of.

        Of their states this stage can read what it declares.
        """
        return self._inputs()

    @property
    def state_artifact_reps(self) -> dict[str, ArtifactRepresentation]:
        """For each declared input what displays show of it."""
        return {name: self.state.represent(self, name) for name in self.state.names}

    def __repr__(self) -> str:
        return f"<{self._info.label}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if _as_output.get():
            return _found_again, (replace(self._info, watch=None, history=(), n_stages=0),)
        return super().__reduce_ex__(protocol)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        near = nearly(name, dir(self))
        raise StageAccessError(
            f"The record that a stage gets has no {name!r}.",
            where=f"stage {self._stage!r} of {self._info.label}",
            fix=f"did you mean {near!r}?"
            if near
            else "a stage may run on another machine: what earlier stages made it declares as inputs; the rest of what "
            "a record knows can be asked for in run(), where the record was made",
        )

    def get_hash(self) -> str:
        """The hash of the parameter set, or the combined hash of an aggregate's record."""
        return self._info.used_hash

    @keywords()
    def get_reference_name(self, map: bool = False) -> str:
        """The record as displays name it."""
        return self._info.label

    @keywords()
    def get_record_index(self, map: bool = False) -> int:
        """The record's place among those of the manager, -1 for a hidden one."""
        return self._info.index

    @keywords()
    def get_path(
        self,
        obj_name: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A path for a file that becomes part of the stage's artifacts: stored, checked and brought back with them.

        Parameters
        ----------
        obj_name : str
            Its name, with an extension.
        subdir : str, optional
            Folders to put it into, separated by ``/``.
        prefix : str, optional
            Put before the name.
        stage_name : str, optional
            An earlier stage of the record: then it is the file that this one wrote under that name, verified; read it
            only. Where it wrote none, or there is no such stage, this is put before the name too.
        track : bool
            Whether a full copy of a run gets it.

        Raises
        ------
        UndeclaredInputError
            For an earlier stage on which this one does not depend.
        CuridaskError
            For a record of an aggregate's: when there is no such file.
        """
        return self._paths.path(obj_name, subdir, prefix, stage_name, track, is_folder=False)

    @keywords()
    def get_dir(
        self,
        dir_name_suffix: str,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        track: bool = True,
    ) -> str:
        """A folder, made by now, whose files become part of the stage's artifacts; arguments as for `get_path`."""
        return self._paths.path(dir_name_suffix, subdir, prefix, stage_name, track, is_folder=True)

    def report(self, reportable: Any) -> None:
        """Show something in the run's report, as `curidask.record.Record.report` does.

        It is rendered now, so later changes of what it shows do not matter, and it is kept with the artifacts of the
        stage that is running. On one of the records that went into the stage's own, it is shown with the last stage
        of that record.
        """
        stage = self.stages[-1] if self.stages else self._stage
        default_name = f"{stage}_{len(self._reported)}"
        where = f"stage {self._stage!r} of {self._info.label}"
        reported = capture(reportable, default_name, where, self, stage)
        self._reported.append(replace(reported, input_record=self._place))

    def apply_stage(self, spec: Any, *_: Any) -> Any:
        """Refuse a stage called inside a stage."""
        raise CuridaskError(
            f"The stage {spec.name!r} was called inside the stage {self._stage!r}.",
            where=f"stage {self._stage!r} of {self._info.label}",
            fix="call stages from run(), one after the other; move shared code into a plain function",
        )


class NamedRecord:
    """What stands for a record that is part of an output, where the record itself is not: in a stage, in a later run.

    Attributes
    ----------
    name : str
        The name of its parameter set.
    """

    def __init__(self, info: RecordInfo) -> None:
        self._info = info
        self.name = info.name
        self.params = self.args = info.params

    def get_hash(self) -> str:
        """The hash of its parameter set, or the combined hash of an aggregate's record."""
        return self._info.params_hash

    def get_reference_name(self) -> str:
        """How displays name it."""
        return self._info.label

    def __repr__(self) -> str:
        return f"<{self._info.label}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise StageAccessError(
            f"A record that was part of an output has no {name!r} where the record itself is not.",
            where=self._info.label,
            fix="its `name` and `params` are there; return what else is wanted of it as values",
        )


def _found_again(info: RecordInfo) -> Any:
    find = _found.get(None)
    record = None if find is None else find(info)
    return NamedRecord(info) if record is None else record


def capture(reportable: Any, default_name: str, where: str, record: Any = None, stage: str = "") -> Reported:
    """Render a reportable.

    Parameters
    ----------
    default_name : str
        For one without a name.
    where : str
        Who reports it, for messages.
    record : Record or StageContext, optional
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
            f"record.report() was given {described(reportable)}, which is no reportable.",
            where=where,
            fix="wrap it, as in `record.report(DFReporter(table, name='scores'))`; see curidask.reporting",
        )
    try:
        reported: Reported = make(default_name, record=record, stage=stage)
    except ReportableError as error:
        error.where = error.where or where
        raise
    return reported


# --- the record of a stored value, as its cacher sees it when it loads -----------------------------------------------
# What it knows in `save`, with nothing to write.


class StoredRecord(StageContext):
    """The record of a value that a cacher loads.

    It travels without the store, in which it finds what stages wrote.

    Parameters
    ----------
    source : Stored
        The value.
    checkout : Checkout or None
        Of the value.
    """

    def __init__(
        self, source: Stored, facts: ManagerFacts, checkout: Checkout | None = None, store: Store | None = None
    ) -> None:
        info = source.record
        self._parts = (replace(source, cacher=None), facts)
        self._where = f"a cacher of stage {source.stage!r} of {info.label}"
        refuse = partial(_not_here, self._where)
        state = StageState(refuse, (), self._where, refuse, n_held=info.n_held)
        paths = StoredPaths(source.stage, source, checkout, store, self._where)
        super().__init__(info, state, paths, [], facts, partial(_records, info, facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredRecord, self._parts

    def report(self, reportable: Any) -> None:
        """Refuse: what is reported while a value is loaded would be shown in some runs and not in others."""
        _not_here(self._where, "report")


@dataclass(frozen=True, slots=True)
class StoredPaths:
    """The paths of what stages wrote, for a value that is loaded.

    Attributes
    ----------
    stage : str
        The stage that made the value.
    checkout : Checkout or None
        Of the value, with what the stage wrote beside it.
    """

    stage: str
    source: Stored
    checkout: Checkout | None
    store: Store | None
    where: str

    @property
    def own(self) -> object:
        """None for a record that went into the value's: it has no value itself."""
        return self.source.key or None

    def path(
        self, name: str, subdir: str | None, prefix: str | None, stage_name: str | None, track: bool, *, is_folder: bool
    ) -> str:
        """The path of a file that was written under that name, or of a folder."""
        names = [beside_name(name, subdir, prefix, None, tracked) for tracked in (track, not track)]
        found = self._own(names) if stage_name in (None, self.stage) else self._earlier(str(stage_name), names)
        if found is None:
            raise CacheError(
                f"The stage {stage_name or self.stage!r} wrote no file {name!r}.",
                where=self.where,
                fix="in load(), get_path() and get_dir() of the record give what save() or the stage wrote there",
            )
        return found

    def _own(self, names: Sequence[str]) -> str | None:
        for checkout in self._checkouts():
            marker = next((found[0] for found in map(_MARKER.match, checkout.tracked) if found), "")
            paths = (checkout.tracked_path(marker + name) for name in names)
            if found := next((path for path in paths if path is not None), None):
                return str(found)
        return None

    def _checkouts(self) -> Iterator[Checkout]:
        """The outputs of the call: one of them has the files."""
        if self.checkout is not None:
            yield self.checkout
        if self.store is not None:
            for stem, manifest in self.store.manifests(self.source.siblings).items():
                yield self.store.checkout(stem, manifest.key)

    def _earlier(self, stage: str, names: Sequence[str]) -> str | None:
        if self.store is None:
            return None
        info = self.source.record
        env = Environment(self.store, info.run, portable=False)
        reached = [past.task for past in info.past]
        try:
            return EarlierFiles(info, reached, env, info.prefix, self.where, {}).find(stage, names)
        except InputLostSignal as lost:
            raise lost.error from None


_MARKER = re.compile(r".*?\.[0-9a-f]{12}")
"""How the names begin of the files that a stage wrote beside its outputs.

See `curidask.core.artifact_names.files_stem`.
"""


def _records(info: RecordInfo, facts: ManagerFacts) -> list[StageContext]:
    if info.inputs is None or (info.is_aggregate and not info.inputs):
        _not_here(info.label, "input_records")
    stages = [each.past[-1].stage if each.past else "" for each in info.inputs]
    sources = [Stored(-1, "", "", "", None, stage, each) for stage, each in zip(stages, info.inputs, strict=True)]
    return [StoredRecord(source, facts) for source in sources]


def _not_here(where: str, *asked: Any) -> NoReturn:
    raise StageAccessError(
        f"A cacher that loads a value cannot use {asked[-1]!r} of its record.",
        where=where,
        fix="what load() needs, save() can keep in `self.extra_metadata` or in files of its own",
    )
