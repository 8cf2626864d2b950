"""What a stage is: ``@stage`` and ``@aggregate`` describe a function, calling it on a record traces it.

Both decorators build the same `StageSpec`; the only thing that tells them apart is that an aggregate's function takes
the records it gathers. Nothing runs here: the decorated function hands its spec to the record, and the record's
manager decides when to execute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.spec import OutputSpec, StageSpec, function_name, function_place, read_options
from curidask.errors import (
    CachersMismatchError,
    CuridaskError,
    EmptyCachersError,
    ExecutingWithSkippedInputError,
    InputSignatureError,
    OutputSignatureError,
    StageDefinitionError,
    UnknownKeywordError,
    WrongTypeError,
)

__all__ = [
    "CachersMismatchError",
    "EmptyCachersError",
    "ExecutingWithSkippedInputError",
    "InputSignatureError",
    "OutputSignatureError",
    "SkippedOutput",
    "aggregate",
    "stage",
]


@dataclass(frozen=True, slots=True, eq=False)
class SkippedOutput(CheckedCalls):
    """What a state that does not resolve holds for an output whose stage was not run since nothing needs it.

    Attributes
    ----------
    record : Record
    stage_name : str
    artifact_rep : ArtifactRepresentation
        What is known of it.
    """

    record: Any
    stage_name: str
    artifact_rep: Any

    def __repr__(self) -> str:
        return f"<skipped output of {self.stage_name!r}: {self.artifact_rep}>"


DEFINED: set[str] = set()
"""The names of all stages that were defined in this process."""


@runtime_checkable
class LazyOutput(Protocol):
    """What ``outputs`` may hold beside plain names: `curidask.caching.Lazy`."""

    name: str
    resolve: bool


@keywords(False)
def stage(
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str | LazyOutput] | None = None,
    cachers: Sequence[Any] | None = None,
    suppress_missing_inputs: bool = False,
    *,
    params: Sequence[str] | None = None,
    version: str | int | None = None,
    code: str | None = None,
    extra_code: Sequence[Any] | None = None,
    retries: int = 0,
    resources: Mapping[str, float] | None = None,
    memory: str | int | None = None,
    timeout_seconds: float | None = None,
    priority: float = 0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function as one step of an experiment.

    Parameters
    ----------
    inputs : sequence of str, optional
        Artifacts the stage takes from the record's state; each is a parameter of the function of the same name.
    outputs : sequence of str or Lazy, optional
        Names of the returned values, in order. A `Lazy` output loads again on each access instead of staying in memory.
    cachers : sequence, optional
        One `Cacheable` class or instance an output. The stage is reused only when all its outputs are stored.
    suppress_missing_inputs : bool
        Pass None (or the function's own default) for inputs that are not in the state instead of raising.
    params : sequence of str, optional
        The fields of the parameter set that the stage reads, those of a dataclass in a field as ``"data.seed"``. Only
        they enter the key, so that sets which differ elsewhere share what the stage computes, and reading another field
        is an error. Without it all fields count.
    version : str or int, optional
        Stands for the stage's code in its keys: what it made stays good until another version is given.
    code : {"track", "warn", "ignore"}, optional
        Whether an edit of the stage's code, or of the project's code that it reaches, makes other artifacts of what it
        computes; or is only told; or does not count. By default what the setting `code` says.
    extra_code : sequence, optional
        What counts as code besides: functions and classes that it reaches in a way that cannot be seen, and paths of
        files, from the project's folder.
    retries : int
        How often an exception is followed by another attempt, after a short pause, on the same worker.
    resources : mapping of str to number, optional
        What a worker must have free, such as ``{"GPU": 1}``; see `ArtifactManager` for local workers. It plays no role
        in this process.
    memory : str or int, optional
        The memory that a worker must have: ``"8GB"``, ``"500MiB"`` or bytes. A stage whose worker is killed for want
        of memory is tried once more where there is twice as much.
    timeout_seconds : float, optional
        How long the function may run before it is stopped and reported as failed.
    priority : number
        Where several stages could start, those of a higher priority go first.

    Returns
    -------
    callable
        A decorator. The decorated function takes a `Record` (and arguments for parameters of the function that are no
        inputs) and returns that record.

    Examples
    --------
    >>> from curidask import stage
    >>> from curidask.caching import JsonCacher
    >>> @stage(["data", "model"], ["score"], [JsonCacher])
    ... def evaluate(record, data, model):
    ...     return model.score(data)
    """
    options = {
        "retries": retries, "resources": resources, "memory": memory, "timeout_seconds": timeout_seconds,
        "priority": priority,
    }  # fmt: skip
    counting = {"params": params, "version": version, "code": code, "extra_code": extra_code}
    return _decorator("stage", inputs, outputs, cachers, options, counting, suppress_missing_inputs)


@keywords(False)
def aggregate(
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str | LazyOutput] | None = None,
    cachers: Sequence[Any] | None = None,
    *,
    params: Sequence[str] | None = None,
    version: str | int | None = None,
    code: str | None = None,
    extra_code: Sequence[Any] | None = None,
    retries: int = 0,
    resources: Mapping[str, float] | None = None,
    memory: str | int | None = None,
    timeout_seconds: float | None = None,
    priority: float = 0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function as a step over several records.

    Parameters
    ----------
    inputs : sequence of str, optional
        Artifacts taken from each gathered record; the function gets one mapping from record to value for each.
        Without inputs the aggregate depends on everything that its records hold.
    outputs, cachers, version, code, extra_code, retries, resources, memory, timeout_seconds, priority
        As for `stage`.
    params : sequence of str, optional
        As for `stage`, of the aggregate's own parameter set; those of the gathered records always count.

    Returns
    -------
    callable
        A decorator. The decorated function takes a `Record` and the list of records to gather (None for all the other
        records of the manager) and returns the first.

    Examples
    --------
    >>> from curidask import aggregate
    >>> @aggregate(["score"], ["best"])
    ... def find_best(record, records, score):
    ...     return max(score.values())
    """
    options = {
        "retries": retries, "resources": resources, "memory": memory, "timeout_seconds": timeout_seconds,
        "priority": priority,
    }  # fmt: skip
    counting = {"params": params, "version": version, "code": code, "extra_code": extra_code}
    return _decorator("aggregate", inputs, outputs, cachers, options, counting)


def _decorator(
    kind: str,
    inputs: Any,
    outputs: Any,
    cachers: Any,
    options: Mapping[str, Any],
    counting: Mapping[str, Any],
    suppress_missing_inputs: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if callable(inputs):
        raise StageDefinitionError(
            f"@{kind} was used without parentheses.",
            where=f"function {getattr(inputs, '__name__', inputs)!r}",
            fix=f"write @{kind}() or @{kind}([inputs], [outputs])",
        )
    lists = {name: counting[name] for name in ("params", "extra_code")}
    for name, value in {"inputs": inputs, "outputs": outputs, "cachers": cachers, **lists}.items():
        if isinstance(value, str | Mapping) or (value is not None and not isinstance(value, Sequence)):
            raise StageDefinitionError(
                f"`{name}` of @{kind} is {value!r}, not a list.", fix=f"write `{name}=[...]`, also for a single entry"
            )
    is_aggregate = kind == "aggregate"

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        DEFINED.add(function_name(function))
        spec = StageSpec(
            name=function_name(function),
            function=function,
            is_aggregate=is_aggregate,
            inputs=None if is_aggregate and inputs is None else tuple(inputs or ()),
            outputs=_output_specs(outputs or (), cachers),
            cachers=None if cachers is None else tuple(cachers),
            suppress_missing_inputs=suppress_missing_inputs,
            params=None if counting["params"] is None else tuple(counting["params"]),
            version="" if counting["version"] is None else str(counting["version"]),
            code=counting["code"] or "",
            extra_code=tuple(counting["extra_code"] or ()),
            options=read_options(options, function_place(function)),
        )
        return _traced(spec)

    return decorate


def _output_specs(outputs: Sequence[Any], cachers: Sequence[Any] | None) -> tuple[OutputSpec, ...]:
    # Counts that differ are reported by StageSpec.check(), when the stage is used; here the pairs that exist are made.
    paired = list(cachers or ())[: len(outputs)]
    paired += [None] * (len(outputs) - len(paired))
    specs = []
    for output, cacher in zip(outputs, paired, strict=True):
        if isinstance(output, str):
            specs.append(OutputSpec(output, cacher))
        elif isinstance(output, LazyOutput):
            specs.append(OutputSpec(output.name, cacher, lazy=True, resolve=output.resolve))
        else:
            raise StageDefinitionError(f"The output {output!r} is neither a name nor a Lazy.", fix='write "name"')
    return tuple(specs)


def _traced(spec: StageSpec) -> Callable[..., Any]:
    """The function that takes the user's place: it adds a task to the record instead of computing."""
    names = spec.leading

    @functools.wraps(spec.function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leading = dict(zip(names, args, strict=False))
        leading |= {name: kwargs.pop(name) for name in names[len(args) :] if name in kwargs}
        if "record" not in leading or (kwargs and any(name in kwargs for name in names)):
            raise _misplaced(spec, leading, kwargs)
        return _apply(spec, leading["record"], leading.get("records"), args[len(names) :], kwargs)

    call.spec = spec  # type: ignore[attr-defined]  # functions take attributes; the type checker has no type for that
    return call


def _misplaced(spec: StageSpec, leading: Mapping[str, Any], kwargs: Mapping[str, Any]) -> CuridaskError:
    """The error for a call without a record, or with what leads in it twice; to be raised."""
    if "record" not in leading:
        spec.check_call(kwargs)
        return WrongTypeError(
            f"{spec.name}() was called without 'record'.",
            where=spec.where,
            fix=f"write `{spec.name}({', '.join(spec.leading)})` with `record = Record(manager, param_set)`",
        )
    twice = next(name for name in spec.leading if name in kwargs)
    other = next((name for name in spec.leading if name not in leading), None)
    return UnknownKeywordError(
        f"{spec.name}() was given {twice!r} by position and by keyword.",
        where=spec.where,
        fix=f"did you mean {other!r}?" if other else "give it once",
    )


def _apply(spec: StageSpec, record: Any, records: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    apply = getattr(record, "apply_stage", None)
    if apply is None:
        raise StageDefinitionError(
            f"The first argument of a stage is {type(record).__name__}, not a Record.",
            where=spec.where,
            fix=f"call it as `{spec.name}(record)` with `record = Record(manager, param_set)`",
        )
    return apply(spec, records, spec.by_name(args, kwargs) if args else kwargs)
