"""Tracing: a stage called on a record becomes a task, with its inputs found and its key made. Nothing runs here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curidask.core.artifact_names import files_stem, output_stem
from curidask.core.graph import (
    ArtifactRef,
    Gathered,
    GivenFile,
    Graph,
    Literal,
    PastStage,
    RecordInfo,
    Task,
    artifact_key,
    combined_hash,
    suppressed,
)
from curidask.core.spec import OutputSpec, StageSpec, check_name
from curidask.core.used_params import used_hash
from curidask.errors import ExecutingWithSkippedInputError, MissingInputError, StageDefinitionError, WrongTypeError
from curidask.execution.copies import private_copy
from curidask.execution.tracebacks import levels_to_user
from curidask.hashing import digest
from curidask.params import EMPTY_HASH
from curidask.session.base import RecordLike
from curidask.session.logging import FOR_FILE
from curidask.session.snapshots import Snapshots, literal_digest
from curidask.session.stage_code import WATCHED_CODE, CodeOfStage, no_code
from curidask.staging import SkippedOutput

logger = logging.getLogger(__name__)

Inputs = Mapping[str, ArtifactRef | Literal]

FindGiven = Callable[[StageSpec, Sequence[OutputSpec], RecordInfo], tuple[GivenFile, ...]]


@dataclass(slots=True)
class Tracer:
    """Adds tasks to a graph.

    Attributes
    ----------
    prefix : str
        How store names begin.
    lazy : bool or None
        True makes every output lazy, False none, None leaves it to the stages.
    overwrite : bool
        Recompute everything; traced tasks carry only what their own parameter set says.
    share : callable
        Tells of a task whether another record may share its artifacts (it has not failed).
    strict_names : bool
        Refuse two different functions that would make the same artifact. A notebook redefines its stages, so a live
        session takes the newer one.
    current : callable
        Gives what stands in the place of an artifact whose task was replaced.
    find_given : callable
        Gives the files of the user's own that serve as the outputs of a stage on a record, one for each or none.
    is_anew : callable
        Tells of a stage, by name, whether each call of it is computed anew, as in a live session that overwrites.
    code : callable
        Gives the code of a stage that gets a parameter set.
    """

    graph: Graph
    prefix: str
    lazy: bool | None = None
    share: Callable[[int], bool] = lambda task: True
    strict_names: bool = True
    current: Callable[[ArtifactRef], ArtifactRef] = lambda ref: ref
    find_given: FindGiven = lambda spec, outputs, record: ()
    is_anew: Callable[[str], bool] = lambda stage: False
    code: CodeOfStage = no_code
    _anew: set[int] = field(default_factory=set)
    _checked: dict[int, StageSpec] = field(default_factory=dict)
    _by_key: dict[tuple[str, tuple[str | None, ...]], int] = field(default_factory=dict)
    _snapshots: Snapshots = field(default_factory=Snapshots)

    def trace(self, record: RecordLike, spec: StageSpec, records: Any, kwargs: dict[str, Any]) -> Task:
        """Add the task of a stage on a record and let the record know.

        Raises
        ------
        StageDefinitionError, MissingInputError, UnstableHashError, ReadOnceError
        ParametersChangedError, ValueChangedError
            When something was changed that this stage, or one before it, was called with.
        """
        if id(spec) not in self._checked:
            spec.check()
            self._checked[id(spec)] = spec
        if kwargs:
            spec.check_call(kwargs)
        by_record = {name: value for name, value in kwargs.items() if _is_by_record(spec, name, value)}
        kwargs = {name: value for name, value in kwargs.items() if name not in by_record}
        given = self._given(record, spec, kwargs)
        if spec.is_aggregate:
            members = list(records) if isinstance(records, Iterable) else records
            record.set_aggregate(members)  # which refuses what are no records
            gathered, inputs, names = self._gather(spec, members, kwargs, by_record), {}, list(spec.inputs or ())
        else:
            gathered, inputs, names = (), self._inputs(record, spec, kwargs), list(spec.inputs or ())
        force = record.params is not None and record.params.overwrite
        info = self.info(record)
        task = self._add(info, spec, inputs, gathered, given, force=force)
        self.graph.share(task, info.index)
        if spec.is_aggregate:  # for the stages after it; its own job has them all
            record.input_infos = tuple(member.record for member in gathered)
        refs = [task.ref(index) for index in range(len(task.outputs))]
        record.add_task(spec, task.id, names, refs)
        return task

    def info(self, record: RecordLike, *, alone: bool = False) -> RecordInfo:
        """A record as tasks carry it, with its parameter set as it is now; `alone` as for `Record.info`.

        Raises
        ------
        ParametersChangedError
        """
        info = record.info(alone=alone)
        if record.params is None:
            return info
        params = self._snapshots.of_params(record)
        return replace(info, params=params.value, watch=params.watch)

    def _given(self, record: RecordLike, spec: StageSpec, kwargs: Mapping[str, Any]) -> dict[str, Literal]:
        if not kwargs:
            return {}
        where = f"keyword argument of stage {spec.name!r} of {record.get_reference_name()}"
        what = f"of the stage {spec.name!r}"
        return {
            name: self._snapshots.of_value(value, f"The keyword argument {name!r} {what}", digest, f"{where}: {name}")
            for name, value in kwargs.items()
        }

    # --- inputs ------------------------------------------------------------------------------------------------------
    def _inputs(
        self, record: RecordLike, spec: StageSpec, kwargs: Mapping[str, Any]
    ) -> dict[str, ArtifactRef | Literal]:
        found: dict[str, ArtifactRef | Literal] = {}
        for name in spec.inputs or ():
            if name in kwargs:
                continue
            if name in record.state:
                found[name] = self._held(record, name)
            elif spec.suppress_missing_inputs:
                found[name] = suppressed(spec.parameter_default(name))
            else:
                held = ", ".join(map(repr, record.state)) or "nothing yet"
                raise MissingInputError(
                    f"The stage {spec.name!r} needs {name!r}, which is not in the record's state.",
                    where=f"{record.get_reference_name()}, whose state holds {held}; {spec.where}",
                    fix=f"run a stage with {name!r} among its outputs on the record before, correct the name, "
                    "or declare the stage with suppress_missing_inputs=True",
                )
        return found

    def _gather(
        self,
        spec: StageSpec,
        records: Sequence[RecordLike],
        kwargs: Mapping[str, Any],
        by_record: Mapping[str, Mapping[RecordLike, Any]],
    ) -> tuple[Gathered, ...]:
        """What an aggregate may read of each record; one may be given twice. `by_record` has inputs given by hand."""
        for name, values in by_record.items():
            _check_members(spec, name, values, records)
        gathered: dict[int, Gathered] = {}
        lacking: dict[tuple[str, ...], list[str]] = {}
        for record in {id(record): record for record in records}.values():
            elsewhere = {*kwargs, *by_record}
            wanted = list(record.state) if spec.inputs is None else [n for n in spec.inputs if n not in elsewhere]
            missing = [name for name in wanted if name not in record.state]
            if missing:
                lacking.setdefault(tuple(missing), []).append(record.get_reference_name())
            artifacts = {name: self._held(record, name) for name in wanted if name not in missing}
            for name, values in by_record.items():
                if record in values:
                    what = f"{name!r}, given to the stage {spec.name!r} for {record.get_reference_name()},"
                    artifacts[name] = self._snapshots.of_value(values[record], what, literal_digest, what)
            info = self.info(record, alone=True)
            if not self._is_own(record):  # the tasks that it went through are none of this graph
                info = replace(info, history=(), n_stages=0)
            gathered[id(record)] = Gathered(info, artifacts)
        for names, labels in lacking.items():
            _warn_of_lacking(spec, names, labels)
        return tuple(gathered[id(record)] for record in records)

    def _is_own(self, record: RecordLike) -> bool:
        """Whether a record is one of this session."""
        return record.manager.graph is self.graph

    def _held(self, record: RecordLike, name: str) -> ArtifactRef | Literal:
        held = record.state.held_now(name)
        if isinstance(held, ArtifactRef) and not self._is_own(record):  # its task is one of the other session
            value, _ = record.manager.reader.value(held)
            return Literal(private_copy(value), held.key)
        if isinstance(held, ArtifactRef):
            return self.current(held)
        if isinstance(held, SkippedOutput):
            raise ExecutingWithSkippedInputError(
                f"The input {name!r} is the placeholder of an output that was not computed.",
                where=f"{record.get_reference_name()}: {held!r}",
                fix="take the value out of the other record's state with `resolve` on, or let a stage make it",
            )
        what = f"{name!r}, put into the state of {record.get_reference_name()} or changed there by hand,"
        return self._snapshots.of_value(held, what, literal_digest, what)

    # --- the task ----------------------------------------------------------------------------------------------------
    def _add(
        self,
        info: RecordInfo,
        spec: StageSpec,
        inputs: Inputs,
        gathered: tuple[Gathered, ...],
        kwargs: Mapping[str, Literal],
        *,
        force: bool,
    ) -> Task:
        outputs = self._outputs(spec)
        given = self.find_given(spec, outputs, info)
        info = _used(info, spec)
        held = [*inputs.values(), *kwargs.values(), *(ref for member in gathered for ref in member.artifacts.values())]
        values = [given.value for given in held if isinstance(given, Literal)]
        code = self.code(spec, info.params, [member.record.params for member in gathered], values)
        components = _components(info, spec, inputs, gathered, kwargs, code.key)
        if given:
            components["files"] = {output.name: file.digest for output, file in zip(outputs, given, strict=True)}
        key = digest(("task", *components.items()), where=f"stage {spec.name!r} of {info.label}")
        if code.watched:
            components[WATCHED_CODE] = code.watched
        stems = tuple(self._stem(info.used_hash, spec, o, artifact_key(key, o.name)) for o in outputs)
        known = self._known(spec, key, stems, info.label)
        anew = force or self.is_anew(spec.name)
        if known is not None and not anew and not self._is_older(known, inputs, gathered):
            return self.graph[known]
        marker = files_stem(self.prefix, info.used_hash, spec.name, artifact_key(key, ""))
        task = Task(
            id=len(self.graph),
            key=key,
            spec=spec,
            record=info,
            inputs=inputs,
            gathered=gathered,
            kwargs=kwargs,
            outputs=outputs,
            stems=stems,
            marker=marker,
            components=components,
            force=force,
            given=given,
        )
        self._by_key[key, stems] = task.id
        if anew or known is not None:
            self._anew.add(task.id)
        return self.graph.add(task)

    def _is_older(self, known: int, inputs: Inputs, gathered: tuple[Gathered, ...]) -> bool:
        """Whether what a task would take in was computed anew since another with the same inputs was called."""
        given = [*inputs.values(), *(ref for each in gathered for ref in each.artifacts.values())] if self._anew else []
        return any(isinstance(ref, ArtifactRef) and known < ref.task and ref.task in self._anew for ref in given)

    # --- with fewer records ------------------------------------------------------------------------------------------
    def reduce(
        self, aggregate: int, is_lost: Callable[[int], bool], is_replaced: Callable[[int], bool]
    ) -> dict[int, int] | None:
        """Add an aggregate over those records of which nothing is lost, and all that depends on it, to the graph.

        Parameters
        ----------
        aggregate : int
            The task.
        is_lost, is_replaced : callable
            Tell of a task whether its artifacts will never be there, and whether another stands in its place already.

        Returns
        -------
        dict of int to int, or None
            For each task that is replaced, the one that stands in its place. None when no record is left.
        """
        kept = tuple(
            gathered
            for gathered in self.graph[aggregate].gathered
            if not any(isinstance(ref, ArtifactRef) and is_lost(ref.task) for ref in gathered.artifacts.values())
        )
        if not kept:
            return None
        remade = _Remade(self.graph)
        after = [number for number in sorted(self.graph.descendants([aggregate])) if not is_replaced(number)]
        for number in [aggregate, *after]:
            task = self.graph[number]
            gathered = kept if number == aggregate else remade.gathered(task)
            info, inputs = remade.info(task.record, gathered), remade.refs(task.inputs)
            made = self._add(info, task.spec, inputs, gathered, task.kwargs, force=task.force)
            remade.tasks[number] = made.id
        return remade.tasks

    def _outputs(self, spec: StageSpec) -> tuple[OutputSpec, ...]:
        return tuple(self._output(output) for output in spec.outputs)

    def _output(self, output: OutputSpec) -> OutputSpec:
        lazy = output.lazy if self.lazy is None else self.lazy
        cacher = output.cacher
        if cacher is None and lazy:
            # A lazy output has to lie somewhere.
            from curidask.caching import PickleCacher

            cacher = PickleCacher
        return output if (lazy, cacher) == (output.lazy, output.cacher) else replace(output, lazy=lazy, cacher=cacher)

    def _stem(self, params_hash: str, spec: StageSpec, output: OutputSpec, key: str) -> str | None:
        if output.cacher is None:
            return None
        prefix, subdir = output.place
        for part in filter(None, (subdir or "").split("/")):
            check_name(part, f"subdir of the cacher of output {output.name!r} of {spec.where}")
        return output_stem(self.prefix, params_hash, spec.name, output.name, key, prefix, subdir)

    def _known(self, spec: StageSpec, key: str, stems: tuple[str | None, ...], label: str) -> int | None:
        """The task that makes the same artifacts already, when they can be shared."""
        known = self._by_key.get((key, stems))
        if known is None or not stems or None in stems:
            return None
        other = self.graph[known].spec
        if not _same_function(other.function, spec.function):
            if self.strict_names:
                raise StageDefinitionError(
                    f"Two different functions are both the stage {spec.name!r} and would make the same artifact.",
                    where=f"{label}: {other.where} and {spec.where}",
                    fix="give one of the functions another name",
                )
            return None
        return known if self.share(known) else None


@dataclass(slots=True)
class _Remade:
    """What stands in the place of tasks that are being replaced.

    Attributes
    ----------
    tasks : dict of int to int
        Old to new.
    hashes : dict of str to str
        The same of the hashes of records that start with an aggregate.
    members : dict of str to tuple of RecordInfo
        What these records gather now, by their old hashes.
    """

    graph: Graph
    tasks: dict[int, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    members: dict[str, tuple[RecordInfo, ...]] = field(default_factory=dict)

    def refs(self, named: Inputs) -> Inputs:
        """The artifacts, of the new tasks where there are some."""
        return {name: self._ref(ref) for name, ref in named.items()}

    def _ref(self, ref: ArtifactRef | Literal) -> ArtifactRef | Literal:
        if isinstance(ref, Literal) or ref.task not in self.tasks:
            return ref
        return self.graph[self.tasks[ref.task]].ref(ref.index)

    def gathered(self, task: Task) -> tuple[Gathered, ...]:
        """What an aggregate gathers then."""
        made = {id(g): Gathered(self._known(g.record), self.refs(g.artifacts)) for g in task.gathered}
        return tuple(made[id(g)] for g in task.gathered)

    def info(self, record: RecordInfo, gathered: tuple[Gathered, ...]) -> RecordInfo:
        """The record of a task, which has another hash when it starts with an aggregate over others."""
        if gathered:
            own = EMPTY_HASH if record.params is None else record.params.params_hash()
            members = [(g.record.params_hash, g.record.name) for g in gathered]
            self.hashes[record.params_hash] = combined_hash(own, members)
            self.members[record.params_hash] = tuple(g.record for g in gathered)
        return self._known(record)

    def _known(self, record: RecordInfo) -> RecordInfo:
        found = self.hashes.get(record.params_hash) if record.is_aggregate else None
        if found is None:
            return record
        inputs = record.inputs and self.members[record.params_hash]
        past = [self._past(stage) for stage in record.past]
        return replace(record, params_hash=found, history=past, inputs=inputs)

    def _past(self, stage: PastStage) -> PastStage:
        return self.graph[self.tasks[stage.task]].as_past if stage.task in self.tasks else stage


def _is_by_record(spec: StageSpec, name: str, value: Any) -> bool:
    """Whether an argument of an aggregate stands for one of its inputs, with a value for each of some records."""
    is_input = spec.is_aggregate and name in (spec.inputs or ())
    return is_input and isinstance(value, Mapping) and any(hasattr(key, "apply_stage") for key in value)


def _check_members(spec: StageSpec, name: str, values: Mapping[Any, Any], records: Sequence[RecordLike]) -> None:
    known = set(map(id, records))
    other = next((key for key in values if id(key) not in known), None)
    if other is not None:
        raise WrongTypeError(
            f"The input {name!r} was given to the stage {spec.name!r} for {other!r}, which is none of its records.",
            where=spec.where,
            fix="give values for records among those that it gathers only",
        )


def _used(info: RecordInfo, spec: StageSpec) -> RecordInfo:
    if spec.params is None:
        return info if info.uses is None else replace(info, uses=None)
    if info.params is None:
        raise StageDefinitionError(
            f"The stage {spec.name!r} names the `params` that it uses, but its record has no parameter set.",
            where=f"{info.label}; {spec.where}",
            fix="give the record a parameter set, or leave `params` out",
        )
    return replace(info, uses=(used_hash(info.params, spec.params, spec.where), spec.params))


def _components(
    info: RecordInfo,
    spec: StageSpec,
    inputs: Inputs,
    gathered: tuple[Gathered, ...],
    kwargs: Mapping[str, Literal],
    code: str,
) -> dict[str, Any]:
    """What decides the result, by name: the key is made of it, and the manifest keeps it to explain differences."""
    components: dict[str, Any] = {
        "stage": spec.name,
        "outputs": [output.name for output in spec.outputs],  # their order tells which value is which
        "params": info.used_hash,
        "kwargs": {name: given.key for name, given in kwargs.items()},
        "inputs": {name: ref.key for name, ref in inputs.items()},
        "code": code,
    }
    if spec.is_aggregate:
        components["records"] = [
            [g.record.params_hash, g.record.name, {name: ref.key for name, ref in g.artifacts.items()}]
            for g in gathered
        ]
    return components


def _warn_of_lacking(spec: StageSpec, names: Sequence[str], labels: Sequence[str]) -> None:
    shown = ", ".join(labels[:SHOWN_RECORDS])
    if len(labels) > SHOWN_RECORDS:
        shown += f" and {len(labels) - SHOWN_RECORDS} more"
    has = "has" if len(labels) == 1 else "have"
    text = f"{shown} {has} no {', '.join(names)} for the aggregate {spec.name!r}"
    logger.warning("%s", text, extra=FOR_FILE)  # the terminal shows the other one
    warnings.warn(text, stacklevel=levels_to_user())


SHOWN_RECORDS = 5


def _same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    if one is other:
        return True
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    closures = [[cell.cell_contents for cell in getattr(f, "__closure__", None) or ()] for f in (one, other)]
    same_values = all(a is b for a, b in zip(*closures, strict=False)) and len(closures[0]) == len(closures[1])
    return codes[0] is not None and codes[0] == codes[1] and same_values
