"""What the calls of the public API take, by their annotations: an argument of another type is an error at once.

Only what is plain is checked: texts, numbers, flags, paths, lists, and objects of ours. The rest is left to the call.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from curidask.errors import CuridaskError, ParameterError, StageDefinitionError, WrongTypeError

Accepts = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type that an argument may have.

    Attributes
    ----------
    text : str
        With its article, for messages.
    accepts : callable
        Tells whether a value is of it.
    error : type of CuridaskError
        What is raised where it is another.
    fix : str
    """

    text: str
    accepts: Accepts
    error: type[CuridaskError] = WrongTypeError
    fix: str = ""


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, int) or type(value).__name__ in ("bool", "bool_")


_PLAIN: dict[Any, Kind] = {
    str: Kind("a text", lambda value: isinstance(value, str)),
    bool: Kind("True or False", _is_flag),
    int: Kind("a whole number", lambda value: hasattr(type(value), "__index__")),
    float: Kind("a number", lambda value: hasattr(type(value), "__float__") or hasattr(type(value), "__index__")),
    type(None): Kind("None", lambda value: value is None),
    Path: Kind("a path", lambda value: hasattr(type(value), "__fspath__")),
}
_PLURALS = {"a text": "texts", "a whole number": "whole numbers", "an ExperimentParameters": "parameter sets"}
_LISTS = (Sequence, Iterable, Collection, list, tuple)

OURS: dict[str, tuple[str, type[CuridaskError], str]] = {
    "ArtifactManager": (
        "curidask.manager",
        WrongTypeError,
        "give the manager itself: in `run()` the one that it is given, else one made with ArtifactManager(...)",
    ),
    "Record": ("curidask.record", WrongTypeError, "give what `Record(manager, param_set)` made"),
    "ExperimentParameters": (
        "curidask.params",
        ParameterError,
        "give an instance of a dataclass that inherits from ExperimentParameters, or None",
    ),
    "Procedure": ("curidask.procedure", StageDefinitionError, "give what `Procedure([...], manager)` made"),
    "Config": ("curidask.session.config", WrongTypeError, "give what `load_config()` made"),
    "Cacheable": ("curidask.caching.base", WrongTypeError, "give an instance of a class that inherits from Cacheable"),
}
"""Classes of ours, which annotations may name before they are loaded: their module, and what to say."""


class _Names(dict[str, Any]):
    """What an annotation names: what its module knows, classes of ours, else anything."""

    def __missing__(self, name: str) -> Any:
        if name in OURS:
            return getattr(sys.modules.get(OURS[name][0]), name, Any)
        return Any


def expected(function: Callable[..., Any]) -> dict[str, list[Kind]]:
    """For each parameter of a function the types that it may have; those that are left to the call are not in it."""
    known = _Names({**_BUILTINS, **function.__globals__})
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if isinstance(parameter.annotation, str) and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            kinds = _kinds(eval(parameter.annotation, {"__builtins__": {}}, known))
            if kinds and [kind.text for kind in kinds] != ["None"]:  # what may only be None says why itself
                found[parameter.name] = kinds
    return found


_BUILTINS = {kind.__name__: kind for kind in (str, bool, int, float, bytes, list, tuple, dict, type, object, set)}


def _kinds(form: Any) -> list[Kind] | None:
    """The types of an annotation; None when it says more than is checked."""
    if get_origin(form) in (Union, types.UnionType):
        parts = [_kinds(part) for part in get_args(form)]
        return None if None in parts else [kind for part in parts for kind in part or ()]
    if get_origin(form) in _LISTS:
        return [_list_of(_kinds(get_args(form)[0]))]
    if form in _PLAIN or form is None:
        return [_PLAIN[type(None) if form is None else form]]
    if getattr(get_origin(form) or form, "__name__", "") == "PathLike":
        return [_PLAIN[Path]]
    if isinstance(form, type) and form.__name__ in OURS:
        _, error, fix = OURS[form.__name__]
        article = "an" if form.__name__[0] in "AE" else "a"
        return [Kind(f"{article} {form.__name__}", lambda value: isinstance(value, form), error, fix)]
    return None


def _list_of(kinds: list[Kind] | None) -> Kind:
    def accepts(value: Any) -> bool:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            return False
        return kinds is None or not isinstance(value, list | tuple) or all(is_one_of(each, kinds) for each in value)

    if not kinds:
        return Kind("a list", accepts)
    inside = " or ".join(_PLURALS.get(kind.text) or f"{kind.text.split()[-1]}s" for kind in kinds)
    return Kind(f"a list of {inside}", accepts, kinds[0].error, kinds[0].fix and f"{kinds[0].fix}, in a list")


def is_one_of(value: Any, kinds: Sequence[Kind]) -> bool:
    """Whether a value is of one of these types."""
    return any(kind.accepts(value) for kind in kinds)


def refuse(value: Any, kinds: Sequence[Kind], name: str, call: str) -> CuridaskError:
    """The error for an argument of another type; to be raised."""
    texts = [kind.text for kind in kinds if kind.text != "None"]
    made = next((kind for kind in kinds if kind.fix), kinds[0])
    if type(value).__name__ == "ManagerFacts" and "an ArtifactManager" in texts:
        return made.error(
            f"`{name}` of {call} is what a stage knows of the manager, and not the manager.",
            where=call,
            fix="make records and call stages in run(), not in stages: what a stage makes goes on as its outputs",
        )
    return made.error(
        f"`{name}` of {call} is {described(value)}, not {' or '.join(texts)}.",
        where=call,
        fix=made.fix or f"give {' or '.join(texts)}",
    )


def described(value: Any) -> str:
    """What an argument is, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value) if isinstance(value, str | bytes | int | float | list | tuple | None) else ""
    return f"{text} ({type(value).__name__})" if 0 < len(text) <= 60 else f"a value of type {type(value).__name__}"
