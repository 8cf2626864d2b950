"""Values as JSON text, with errors that name the place inside the value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curidask.errors import UnpicklableError


class NotJsonError(UnpicklableError):
    """A value cannot be written as JSON."""


Convert = Callable[[Any], Any]
"""Gives a value that JSON has instead of one that it has not, and NotImplemented for one that has none."""


def to_json(
    value: Any, what: str, where: str = "", *, convert: Convert | None = None, indent: int | None = None
) -> str:
    """Write a value as JSON, on one line or indented.

    Parameters
    ----------
    what, where : str
        What it is and where it belongs, for the message.
    convert : callable, optional
        For what JSON does not have.

    Raises
    ------
    NotJsonError
        Naming the place inside the value (such as ``$.a[3]``) that JSON cannot express.
    """
    try:
        if convert is None and indent is None:
            return _encoder(value)
        return json.dumps(value, ensure_ascii=False, default=_default(convert), indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        place, problem = find_not_json(value, convert) or ("$", str(error))
        raise NotJsonError(
            f"{what} cannot be written as JSON: {place} {problem}.",
            where=where,
            fix="convert it to lists, dicts with text keys, texts, numbers, booleans and None",
        ) from error


_encoder = json.JSONEncoder(ensure_ascii=False).encode


def _default(convert: Convert | None) -> Convert:
    def default(item: Any) -> Any:
        converted = NotImplemented if convert is None else convert(item)
        if converted is NotImplemented:
            raise TypeError(f"is a {type(item).__name__}")
        return converted

    return default


def find_not_json(value: Any, convert: Convert | None = None) -> tuple[str, str] | None:
    """The first place inside a value that JSON cannot express, and what is wrong with it; None when there is none."""
    found = _Search(convert)
    pending: list[tuple[Any, str, tuple[int, ...]]] = [(value, "$", ())]
    while pending:
        item, place, around = pending.pop()
        children = found.look(item, place, around)
        if found.problem:
            return place, found.problem
        pending += reversed(children)
    return None


@dataclass(slots=True)
class _Search:
    convert: Convert | None
    problem: str = ""

    def look(self, item: Any, place: str, around: tuple[int, ...]) -> list[tuple[Any, str, tuple[int, ...]]]:
        if item is None or isinstance(item, str | bool | float):
            return []
        if isinstance(item, int):
            self._check_int(item)
            return []
        if not isinstance(item, dict | list | tuple):
            return self._look_converted(item, place, around)
        if id(item) in around or len(around) > 900:
            self.problem = "contains itself" if id(item) in around else "is nested too deeply"
            return []
        inner = (*around, id(item))
        if isinstance(item, dict):
            self._check_keys(item)
            return [(v, f"{place}.{k}" if isinstance(k, str) else f"{place}[{k!r}]", inner) for k, v in item.items()]
        return [(v, f"{place}[{i}]", inner) for i, v in enumerate(item)]

    def _look_converted(self, item: Any, place: str, around: tuple[int, ...]) -> list[tuple[Any, str, tuple[int, ...]]]:
        converted = NotImplemented if self.convert is None or id(item) in around else self.convert(item)
        if converted is NotImplemented:
            self.problem = f"is a {type(item).__module__}.{type(item).__qualname__}".replace("builtins.", "")
            return []
        return [(converted, place, (*around, id(item)))]

    def _check_int(self, item: int) -> None:
        try:
            str(int(item))
        except ValueError:
            self.problem = "is an integer with more digits than Python reads back"

    def _check_keys(self, item: Mapping[Any, Any]) -> None:
        for key in item:
            if not (key is None or isinstance(key, str | bool | int | float)):
                self.problem = f"has the key {key!r}, a {type(key).__name__}"
