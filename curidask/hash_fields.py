"""Which fields of a dataclass enter its hash, and as what: ``hash_representations``, for sets and for parts of sets."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from curidask.errors import ParameterError

BOOKKEEPING = ("name", "hash", "overwrite", "hash_representations")
"""Fields of a parameter set that are not part of its hash."""


class HashedField(NamedTuple):
    """A field of a dataclass, with what enters the hash for it.

    Attributes
    ----------
    name : str
    value : object
        What enters; None when nothing does.
    mechanism : str
        How that comes about, for people.
    is_represented : bool
        Whether a function of ``hash_representations`` made it.
    """

    name: str
    value: Any
    mechanism: str
    is_represented: bool = False


def hashed_fields(value: Any) -> Iterator[HashedField]:
    """All fields of a dataclass, sorted by name, so that their order is free.

    Attributes that were set beside the fields count as fields: they can change what a stage computes.

    Raises
    ------
    ParameterError
        For a representation of a field that is not there, or that raises.
    """
    skipped = BOOKKEEPING if is_parameter_set(value) else ("hash_representations",)
    representations = _representations(value)
    names = _names(value)
    if representations:
        _check_names(value, representations, [name for name in names if name not in skipped])
    for name in names:
        if name in skipped:
            yield HashedField(name, None, "left out: not part of the hash")
        else:
            yield _field(value, name, representations)


def is_parameter_set(value: Any) -> bool:
    """Whether a value is a parameter set, whose bookkeeping is no part of its hash."""
    return hasattr(type(value), "params_hash")


def _field(value: Any, name: str, representations: Mapping[str, Any]) -> HashedField:
    held = getattr(value, name, None)
    if held is None:
        return HashedField(name, None, "left out: None")
    if name not in representations:
        return HashedField(name, held, f"value of type {type(held).__name__}")
    function = representations[name]
    if function is None:
        return HashedField(name, None, "left out by hash_representations")
    return HashedField(name, _represented(value, name, function, held), f"hash_representations[{name!r}]", True)


def _representations(value: Any) -> Mapping[str, Callable[[Any, Any], Any] | None]:
    found = getattr(value, "hash_representations", None)
    return found if isinstance(found, dict) else {}


def _names(value: Any) -> list[str]:
    known = {field.name for field in dataclasses.fields(value)}
    extra = [name for name in getattr(value, "__dict__", {}) if name not in known]
    cached = {n for n in extra if isinstance(getattr(type(value), n, None), functools.cached_property)}
    return sorted({*known, *extra} - cached)


def _check_names(value: Any, representations: Mapping[str, Any], names: list[str]) -> None:
    unknown = [name for name in representations if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise ParameterError(
            f"`hash_representations` names {unknown[0]!r}, which is no field.",
            where=_where(value),
            fix=f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(names)}",
        )


def _represented(value: Any, name: str, function: Callable[[Any, Any], Any], held: Any) -> Any:
    try:
        return function(value, held)
    except Exception as error:
        raise ParameterError(
            f"The hash representation of {name!r} raised {type(error).__name__}: {error}",
            where=_where(value),
            fix="it is called as `representation(self, value)` and returns plain data",
        ) from error


def _where(value: Any) -> str:
    kind = type(value).__name__
    return f"parameter set {value.name!r} ({kind})" if is_parameter_set(value) else kind
