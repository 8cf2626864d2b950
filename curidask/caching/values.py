"""Python values that JSON does not have, as the nearest that it has."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import sys
import uuid
from collections import deque
from collections.abc import KeysView, Mapping, Set, ValuesView
from enum import Enum
from pathlib import PurePath
from typing import Any

from curidask.core.json_text import NotJsonError, to_json

INDENTED_CHARACTERS = 100_000
"""Longer texts are for programs: they stay on one line, which takes a fraction of the time and the space."""

_AS_TEXT = (PurePath, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
_IN_ORDER = (range, deque, KeysView, ValuesView)
_ATOMS = frozenset((str, int, float, bool, type(None)))


def json_bytes(value: Any, where: str) -> bytes:
    """Write a value as JSON in UTF-8, for people to read, or on one line when it is long.

    Raises
    ------
    NotJsonError
        Naming the place inside the value that has no meaning in JSON, or that it would lose.
    """
    written = value
    try:
        text = to_json(value, "The value", where, convert=as_json)
    except NotJsonError:
        written = _with_plain_keys(value)
        text = to_json(written, "The value", where, convert=as_json)
    _refuse_equal_keys(value, where)
    if len(text) <= INDENTED_CHARACTERS:
        text = to_json(written, "The value", where, convert=as_json, indent=4)
    return text.encode(errors="backslashreplace")  # half a surrogate pair can be written as an escape only


def as_json(value: Any) -> Any:
    """What stands in JSON for a value that it does not have; NotImplemented when nothing would be understood."""
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return _numpy_as_json(value)
    return _collection_as_json(value)


def _numpy_as_json(value: Any) -> Any:
    if value.dtype.kind in "mM":  # `tolist` would give bare numbers for times to the nanosecond
        value = value.astype(str)
    plain = value.tolist()
    return NotImplemented if type(plain) is type(value) else plain


def _collection_as_json(value: Any) -> Any:
    if isinstance(value, _IN_ORDER):
        return list(value)
    if isinstance(value, Set):
        return sorted(value, key=_place_in_order)
    return dict(value) if isinstance(value, Mapping) else NotImplemented


def _place_in_order(item: Any) -> tuple[int, float, str]:
    """Numbers by size, then all else by how it is written: the same order in every process."""
    if isinstance(item, int | float):
        return 0, item, ""
    return 1, 0, json.dumps(item, default=_as_json_or_repr)


def _as_json_or_repr(item: Any) -> Any:
    converted = as_json(item)
    return repr(item) if converted is NotImplemented else converted


# --- keys ------------------------------------------------------------------------------------------------------------
def _refuse_equal_keys(value: Any, where: str) -> None:
    """Refuse a dict whose keys become one in JSON, such as 1 and "1": one of the values would be lost in silence."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            keys = [key for key in item if type(key) is not str]
            if keys and len({_json_key(key) for key in item}) < len(item):
                raise NotJsonError(
                    f"The value cannot be written as JSON: two of the keys {list(item)[:5]!r} become one.",
                    where=where,
                    fix="use texts as keys",
                )
            item = item.values()
        elif not isinstance(item, list | tuple):
            item = (as_json(item),)
        pending += [inner for inner in item if type(inner) not in _ATOMS and inner is not NotImplemented]


def _json_key(key: Any) -> Any:
    key = _plain_key(key)
    return key if isinstance(key, str) or type(key) not in _ATOMS else json.dumps(key)


def _plain_key(key: Any) -> Any:
    """The key as one that JSON takes, where there is one."""
    if isinstance(key, str | int | float) or key is None:
        return key
    plain = as_json(key)
    return plain if type(plain) in _ATOMS else key


def _with_plain_keys(value: Any) -> Any:
    """The value with keys that JSON takes, or the value itself when it contains itself or is nested too deeply."""
    try:
        return _rebuilt(value)
    except RecursionError:
        return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain_key(key): _rebuilt(inner) for key, inner in value.items()}
    return [_rebuilt(inner) for inner in value] if isinstance(value, list | tuple) else value
