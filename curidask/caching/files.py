"""Cachers that need nothing but Python: JSON and pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from curidask.caching import pickling
from curidask.caching.base import Cacheable
from curidask.errors import UnpicklableError


class JsonCacher(Cacheable):
    """JSON in UTF-8, without pickle. Keys become text and tuples become lists, on the first run too."""

    extension = ".json"

    def save(self, obj: Any) -> None:
        """Write the value.

        Raises
        ------
        UnpicklableError
            Naming the place in the value that JSON cannot express.
        """
        try:
            text = json.dumps(obj, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            place, value = next(_unfit(obj, "$"), ("$", obj))
            raise UnpicklableError(
                f"JSON cannot express the {type(value).__name__} at {place}: {error}",
                where=f"output {self.name!r}" if self.name else "",
                fix="return plain dicts, lists, texts, numbers and None (a numpy number: `float(x)`, an array: "
                "`x.tolist()`), or use PickleCacher",
            ) from error
        _make_folder(self)
        with open(self.get_path(), "w", encoding="utf-8") as file:
            file.write(text)

    def load(self) -> Any:
        """Read the value."""
        with open(self.get_path(), encoding="utf-8") as file:
            return json.load(file)


class PickleCacher(Cacheable):
    """Pickle, or cloudpickle for what pickle refuses (a lambda, for one). Loading executes code: trust the cache."""

    extension = ".pkl"

    def save(self, obj: Any) -> None:
        """Write the value."""
        try:
            data = pickling.dumps(obj)
        except Exception as error:
            raise UnpicklableError(
                f"A {type(obj).__name__} cannot be pickled: {error}",
                where=f"output {self.name!r}" if self.name else "",
                fix="return plain data, or write a cacher that knows the type (subclass Cacheable)",
            ) from error
        _make_folder(self)
        with open(self.get_path(), "wb") as file:
            file.write(data)

    def load(self) -> Any:
        """Read the value."""
        with open(self.get_path(), "rb") as file:
            return pickling.loads(file.read())


def _make_folder(cacher: Cacheable) -> None:
    """Make the folder of a path that the user gave; that of a cacher which works for a stage is there."""
    folder = os.path.dirname(cacher.get_path())
    if folder:
        os.makedirs(folder, exist_ok=True)


def _unfit(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Where in a value lies what JSON cannot express, innermost first."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | type(None)):
                yield f"{place} (a key)", key
            yield from _unfit(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _unfit(item, f"{place}[{index}]")
    elif not isinstance(value, str | int | float | bool | type(None)):
        yield place, value
