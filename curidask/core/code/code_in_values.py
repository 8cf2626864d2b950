"""The code that values bring along: functions and classes among them, and the classes of objects in them."""

from __future__ import annotations

import datetime
import enum
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from curidask.core.canonical import own_attributes
from curidask.core.canonical_types import representation_of
from curidask.core.code.class_identity import is_local_class
from curidask.core.code.code_identity import (
    attributes_of,
    has_source,
    is_installed,
    is_plain_data,
    of_function,
    reached_values,
)
from curidask.core.code.local_classes import held_by
from curidask.core.hash_fields import fields_with_code, has_fields

_WITHOUT = frozenset(
    {*(type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice, types.ModuleType)}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta}
)

MOST_OBJECTS = 100_000
"""How many are looked at, so that an object which leads to very many does not hold up a call."""


@dataclass(frozen=True, slots=True)
class ObjectsOf:
    """The class of an object, which counts by what it does: what the object holds counts as a value."""

    cls: type


def code_in(values: Iterable[Any]) -> list[Any]:
    """The project's functions and classes that values are or hold, and the classes of objects in them, each once.

    Returns
    -------
    list of function, type or ObjectsOf
        In a fixed order but for what is in sets.
    """
    found: dict[tuple[bool, int], Any] = {}
    seen: dict[tuple[bool, int], Any] = {}  # with the objects, or another might get an address
    pending = [value for value in values if type(value) not in _WITHOUT]
    pending.reverse()
    while pending and len(seen) < MOST_OBJECTS:
        value = pending.pop()
        code = value.cls if type(value) is ObjectsOf else value
        place = type(value) is ObjectsOf, id(code)
        if place in seen:
            continue
        seen[place] = value
        if isinstance(code, type | types.FunctionType) and not is_installed(code):
            found[place] = value
        pending += reversed([part for part in _parts(value) if type(part) not in _WITHOUT])
    return list(found.values())


def unread(function: types.FunctionType) -> dict[str, Any]:
    """What stands for a function without a source in the code of a stage: its byte code, and the constants it reaches.

    The functions and classes that it reaches are code as it is.
    """
    held = {name: value for name, value in reached_values(function).items() if is_plain_data(value)}
    return {"code": of_function(function), **held}


def local_values(value: Any) -> dict[str, Any]:
    """What the classes that were defined in functions hold, of those that a value brings along."""
    kinds = [code.cls if type(code) is ObjectsOf else code for code in code_in([value])]
    return {name: held for kind in kinds if isinstance(kind, type) for name, held in held_by(kind).items()}


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of, as far as it can bring code along."""
    match value:
        case ObjectsOf():
            return _local(value.cls, ObjectsOf)
        case dict():
            return [*value.keys(), *value.values(), *_instance(value)]
        case list() | tuple() | set() | frozenset():
            return [*value, *_instance(value)]
        case types.FunctionType():
            return [
                *_cells(value),
                *(value.__defaults__ or ()),
                *(value.__kwdefaults__ or {}).values(),
                *attributes_of(value).values(),
                *_unread(value),
            ]
        case types.MethodType():
            return [value.__func__, value.__self__]
        case functools.partial():
            return [value.func, *value.args, *value.keywords.values()]
        case type():
            return _local(value, lambda base: base)
    return _instance(value)


def _instance(value: Any) -> Iterable[Any]:
    """The class of an object and its attributes; what stands for others in hashes stands for them here."""
    kind = type(value)
    if kind in _BUILTIN or (isinstance(value, enum.Enum) and not any(map(_methods, kind.__mro__))):
        return ()
    if has_fields(kind):
        return [ObjectsOf(kind), *fields_with_code(value)]
    attributes = {} if representation_of(kind) is not None else own_attributes(value)
    return [ObjectsOf(kind), *attributes.values()]


_BUILTIN = (dict, list, tuple, set, frozenset)


def _methods(kind: type) -> list[Any]:
    parts = () if is_installed(kind) else vars(kind).values()
    return [part for part in parts if isinstance(part, types.FunctionType | property) and not is_installed(part)]


def _local(cls: type, as_part: Callable[[type], Any]) -> Iterable[Any]:
    """What the source of a class does not lead to: the bases and metaclass that it was given, and what it holds."""
    return [type(cls), *map(as_part, cls.__mro__[1:-1]), *held_by(cls).values()] if is_local_class(cls) else ()


def _unread(function: types.FunctionType) -> Iterable[Any]:
    """What a function reaches that has no source which would lead there."""
    return () if is_installed(function) or has_source(function) else reached_values(function).values()


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
