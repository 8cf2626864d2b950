"""The description of a stage, and whether what was declared can work."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from curidask.core.keywords import check_keywords, described
from curidask.errors import (
    CachersMismatchError,
    EmptyCachersError,
    InputSignatureError,
    StageDefinitionError,
    UnsafeNameError,
    WrongTypeError,
)

# --- what a stage may ask for beside its inputs: retries, time, memory, resources, priority --------------------------
# None of it decides what a stage computes, so none of it enters a key.

MEMORY = "MEMORY"
"""The resource by which stages that name their memory find a worker."""

LIFETIME = "LIFETIME"
"""How many seconds a worker lives that is a job of a batch system."""

UNITS = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
"""Bytes by unit, in small letters."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a stage asks for.

    Attributes
    ----------
    retries : int
        How often an exception is followed by another attempt.
    resources : tuple of (str, float)
        What a worker must have free of each resource, by name, sorted.
    memory_bytes : int
        The memory that a worker must have; 0 when it does not matter.
    timeout_seconds : float or None
        How long the function may run.
    priority : float
        Stages of a higher one go first.
    """

    retries: int = 0
    resources: tuple[tuple[str, float], ...] = ()
    memory_bytes: int = 0
    timeout_seconds: float | None = None
    priority: float = 0

    @property
    def demands(self) -> dict[str, float]:
        """What a worker must have, as dask's resources."""
        return dict(self.resources) | ({MEMORY: self.memory_bytes} if self.memory_bytes else {})


NO_OPTIONS = StageOptions()


def read_options(given: Mapping[str, Any], where: str) -> StageOptions:
    """Check options as they are written in ``@stage(...)``.

    Parameters
    ----------
    where : str
        The place of the definition.

    Raises
    ------
    StageDefinitionError
        For a value that cannot be used.
    """
    values = {name: value for name, value in given.items() if value is not None}
    return StageOptions(
        retries=_retries(values.get("retries", 0), where),
        resources=_resources(values.get("resources", {}), where),
        memory_bytes=_memory(values["memory"], where) if "memory" in values else 0,
        timeout_seconds=_seconds(values["timeout_seconds"], where) if "timeout_seconds" in values else None,
        priority=_number(values.get("priority", 0), "priority", where, "give a number; the default is 0"),
    )


def read_bytes(value: Any) -> int:
    """A number of bytes out of a number or a text such as ``"8GB"`` (powers of 1000) or ``"8GiB"`` (of 1024).

    Raises
    ------
    ValueError
        For anything else, and for what is not more than nothing.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = UNITS.get((match[2] or "b").lower()) if match else None
        size = float(match[1]) * unit if match and unit else 0.0
    else:
        size = float(value) if _is_number(value) else 0.0
    if size < 1:
        raise ValueError(f"{value!r} is no size")
    return int(size)


def format_bytes(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _retries(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise _bad("retries", value, where, "give a whole number from 0 on")
    return value


def resources_problem(value: Any) -> str:
    """What to write instead of resources that cannot be used; empty for those that can."""
    if isinstance(value, Mapping) and LIFETIME in value:
        return "LIFETIME is what curidask keeps there of a worker's time; give the resource another name"
    if isinstance(value, Mapping) and MEMORY in value:
        return 'write `memory="8GB"` for memory'
    fits = isinstance(value, Mapping) and all(
        isinstance(name, str) and name and _is_number(amount) and amount > 0 for name, amount in value.items()
    )
    return "" if fits else 'give names with numbers above 0, such as {"GPU": 1}'


def _resources(value: Any, where: str) -> tuple[tuple[str, float], ...]:
    problem = resources_problem(value)
    if problem:
        raise _bad("resources", value, where, problem)
    return tuple(sorted((name, float(amount)) for name, amount in value.items()))


def _memory(value: Any, where: str) -> int:
    try:
        return read_bytes(value)
    except ValueError:
        fix = 'write `memory="8GB"` (or MB, GiB, ...), or a number of bytes'
        raise _bad("memory", value, where, fix) from None


def _seconds(value: Any, where: str) -> float:
    fix = "give a number of seconds, more than 0"
    seconds = _number(value, "timeout_seconds", where, fix)
    if seconds <= 0:
        raise _bad("timeout_seconds", value, where, fix)
    return seconds


def _number(value: Any, name: str, where: str, fix: str) -> float:
    if not _is_number(value):
        raise _bad(name, value, where, fix)
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(name: str, value: Any, where: str, fix: str) -> StageDefinitionError:
    return StageDefinitionError(f"`{name}` is {value!r}.", where=where, fix=fix)


# --- spec ------------------------------------------------------------------------------------------------------------
CODE_MODES = TRACK, WARN, IGNORE = ("track", "warn", "ignore")
"""What becomes of code: it is part of the keys; it is not, and a change is told; it is not."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One declared output.

    Attributes
    ----------
    name : str
        Its name in the record's state.
    cacher : type or object or None
        The cacher class, or an instance that serves as a template; None for an output that is not stored.
    lazy : bool
        Whether the state keeps a reference that loads on each access.
    resolve : bool
        For a lazy output: whether stages get the value (True) or the `Lazy` itself.
    """

    name: str
    cacher: Any = None
    lazy: bool = False
    resolve: bool = True

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Prefix and subdir that its cacher asks for."""
        return getattr(self.cacher, "prefix", None), getattr(self.cacher, "subdir", None)


@dataclass(frozen=True, slots=True, eq=False)
class StageSpec:
    """The description of a decorated function.

    Attributes
    ----------
    name : str
        The function's name; part of keys and file names.
    function : callable
        The function as the user wrote it.
    is_aggregate : bool
        Whether it takes the records it gathers as its second argument.
    inputs : tuple of str, or None
        Declared inputs. None only for an aggregate that declares none: it depends on all that its records hold.
    outputs : tuple of OutputSpec
        Declared outputs, in the order in which the function returns them.
    suppress_missing_inputs : bool
        Pass None (or the function's own default) for inputs that the state lacks.
    params : tuple of str, or None
        The parameters that the function reads; None for all.
    version : str
        Stands for its code in its keys; empty for the code itself.
    code : str
        What becomes of its code, see `curidask.session.stage_code`; empty for what holds for the project.
    extra_code : tuple
        Functions, classes and paths of files that count as code of it.
    options : StageOptions
        What it asks for of the workers; not part of its keys.
    """

    name: str
    function: Callable[..., Any]
    is_aggregate: bool
    inputs: tuple[str, ...] | None
    outputs: tuple[OutputSpec, ...]
    cachers: tuple[Any, ...] | None
    suppress_missing_inputs: bool = False
    params: tuple[str, ...] | None = None
    version: str = ""
    code: str = ""
    extra_code: tuple[Any, ...] = ()
    options: StageOptions = NO_OPTIONS

    @property
    def where(self) -> str:
        """The place of the definition, for error messages."""
        return function_place(self.function)

    @property
    def leading(self) -> tuple[str, ...]:
        """What its call begins with, by the names that it has there, whatever the function calls it."""
        return ("record", "records") if self.is_aggregate else ("record",)

    def check(self) -> None:
        """Raise when the declaration cannot work.

        Raises
        ------
        EmptyCachersError, CachersMismatchError, InputSignatureError, UnsafeNameError, StageDefinitionError
        """
        self._check_cachers()
        self._check_names()
        self._check_params()
        self._check_code()
        self._check_signature()

    def check_call(self, given: Mapping[str, Any]) -> None:
        """Raise when the stage was called with keyword arguments that its function does not take.

        Raises
        ------
        UnknownKeywordError
            With the near name.
        """
        parameters = list(inspect.signature(self.function).parameters.values())[len(self.leading) :]
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            check_keywords(given, [*self.leading, *(p.name for p in parameters)], self.where)

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call by keyword.

        Parameters
        ----------
        args : sequence
            Those that follow the record (of an aggregate the records) by position.

        Raises
        ------
        WrongTypeError
            When one of them has no parameter, or one that gets something else.
        """
        leading = self.leading
        parameters = list(inspect.signature(self.function).parameters.values())[len(leading) :]
        free = [p.name for p in parameters if p.kind in _BY_NAME and p.name not in (self.inputs or ())]
        # An aggregate of the documented API takes none by position.
        places = [] if self.is_aggregate else [p.name for p in parameters if p.kind is _BY_NAME[0]]
        named = dict(zip(places, args, strict=False))
        taken = next((name for name in named if name in (self.inputs or ()) or name in kwargs), None)
        if taken is None and len(args) <= len(places):
            return {**named, **kwargs}
        if taken is None:
            what = f"{self.name}() takes {_counted(len(places))} by position after the {leading[-1]}"
        elif taken in kwargs:
            what = f"{self.name}() was given {taken!r} by position and by keyword"
        else:
            what = f"The argument of {self.name}() at the place of {taken!r} is for an input, which the state gives"
        call = ", ".join([*leading, *(f"{name}=..." for name in free)])
        raise WrongTypeError(
            f"{what}.",
            where=self.where,
            fix=f"write `{self.name}({call})`" + ("" if free else ", and give its function a parameter for more"),
        )

    def parameter_default(self, name: str) -> Any:
        """The function's own default for an input, None where it has none."""
        default = inspect.signature(self.function).parameters[name].default
        return None if default is inspect.Parameter.empty else default

    def keyword_defaults(self) -> dict[str, Any]:
        """The defaults of the function's parameters that can be given by name."""
        code = getattr(self.function, "__code__", None)
        if code is None:
            return {}
        leading = max(code.co_posonlyargcount, 2 if self.is_aggregate else 1)
        named = code.co_varnames[leading : code.co_argcount]
        defaults = self.function.__defaults__ or ()
        return {
            **dict(zip(named[::-1], defaults[::-1], strict=False)),
            **(self.function.__kwdefaults__ or {}),
        }

    def _check_cachers(self) -> None:
        if self.cachers is None:
            return
        for cacher in self.cachers:
            self._check_cacher(cacher)
        if len(self.cachers) == len(self.outputs):
            return
        fix = f"give one cacher for each of the {len(self.outputs)} outputs, or leave `cachers` out to store none"
        if not self.cachers:
            raise EmptyCachersError(
                "A stage with outputs was given an empty list of cachers.", where=self.where, fix=fix
            )
        raise CachersMismatchError(
            f"A stage has {len(self.outputs)} outputs but {len(self.cachers)} cachers.", where=self.where, fix=fix
        )

    def _check_cacher(self, cacher: Any) -> None:
        if cacher is None or all(hasattr(cacher, method) for method in ("save", "load", "bound")):
            return
        raise StageDefinitionError(
            f"A cacher of the stage is {described(cacher)}, not a Cacheable.",
            where=self.where,
            fix="give a class that inherits from Cacheable, or an instance of one, as in `cachers=[JsonCacher]`; None "
            "for an output that is not stored",
        )

    def _check_names(self) -> None:
        names = [output.name for output in self.outputs]
        for name in names:
            check_name(name, f"output of {self.where}")
        for kind, listed in (("input", self.inputs or ()), ("output", names)):
            twice = {name for name in listed if list(listed).count(name) > 1}
            if twice:
                raise StageDefinitionError(
                    f"The {kind} {sorted(twice)[0]!r} is listed twice.", where=self.where, fix=f"name each {kind} once"
                )

    def _check_code(self) -> None:
        if self.code not in ("", *CODE_MODES):
            raise StageDefinitionError(
                f"`code` is {self.code!r}.", where=self.where, fix=f"use one of {', '.join(map(repr, CODE_MODES))}"
            )
        wrong = next(
            (item for item in self.extra_code if not (callable(item) or isinstance(item, str | PurePath))), None
        )
        if wrong is not None:
            raise StageDefinitionError(
                f"`extra_code` holds {described(wrong)}.",
                where=self.where,
                fix='list functions, classes and paths of files, as in `extra_code=[helper, "data/words.txt"]`',
            )

    def _check_params(self) -> None:
        for name in self.params or ():
            if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
                raise StageDefinitionError(
                    f"`params` names {name!r}, which cannot be a field.",
                    where=self.where,
                    fix='name fields of the parameter set, as in `params=["learning_rate", "data.seed"]`',
                )

    def _check_signature(self) -> None:
        if inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise StageDefinitionError(
                "The function is `async`, so what it returns is a coroutine and no output.",
                where=self.where,
                fix="write `def`, and inside it `return asyncio.run(...)`",
            )
        parameters = inspect.signature(self.function).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        leading = 2 if self.is_aggregate else 1
        if len(parameters) < leading and not any(
            p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()
        ):
            wanted = "`record` and `records`" if self.is_aggregate else "`record`"
            raise InputSignatureError(
                f"The function takes {len(parameters)} parameters; its first must be {wanted}.",
                where=self.where,
                fix=f"write `def {self.name}({'record, records' if self.is_aggregate else 'record'}, ...)`",
            )
        taken = list(parameters)[:leading]
        for name in self.inputs or ():
            if name in taken:
                raise InputSignatureError(
                    f"The input {name!r} is called as the function's parameter that gets the "
                    f"{'records' if taken.index(name) else 'record'}.",
                    where=self.where,
                    fix=f"give the function's parameter {name!r} another name and add one for the input, or rename the "
                    "input",
                )
            if name not in list(parameters)[leading:] and not takes_any:
                raise InputSignatureError(
                    f"The input {name!r} is declared, but the function has no parameter of that name.",
                    where=self.where,
                    fix=f"add a parameter {name!r} to the function, or take it out of `inputs`",
                )


def _counted(n: int) -> str:
    return f"{n} argument" if n == 1 else f"{n or 'no'} arguments"


def function_name(function: Callable[..., Any]) -> str:
    """The name of a stage's function."""
    return getattr(function, "__name__", type(function).__name__)


def function_place(function: Callable[..., Any]) -> str:
    """The stage and where it is defined, for error messages."""
    code = getattr(function, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"stage {function_name(function)!r}{place}"


def check_name(name: object, where: str) -> None:
    """Refuse a name that would become a path outside its folder.

    Raises
    ------
    UnsafeNameError
        For anything but a text without separators, that is neither empty nor made of dots.
    """
    if not isinstance(name, str) or not name.strip(". ") or any(c in name for c in "/\\\0\n"):
        raise UnsafeNameError(
            f"{name!r} cannot be used as a name.",
            where=where,
            fix="use a text without '/', '\\' or line breaks that does not consist of dots; "
            "letters, digits, '_', '-' and '.' are safe everywhere",
        )
