"""Cachers for plain values: JSON and pickle."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from curidask.caching.base import Cacheable
from curidask.errors import UnpicklableError
from curidask.store.jsontext import NotJsonError, to_json

__all__ = ["JsonCacher", "NotJsonError", "PickleCacher"]


class JsonCacher(Cacheable):
    """Stores a value as JSON in UTF-8: for anybody to read, and nothing is executed on loading.

    JSON has fewer types than Python: tuples come back as lists, keys of dicts as texts. What it cannot express at all
    raises `NotJsonError` with the place inside the value. NaN and infinities are written as JavaScript names them.
    """

    extension = ".json"

    def save(self, obj: Any) -> None:
        """Write the value."""
        text = to_json(obj, "The value", where=self.name or "")
        _refuse_equal_keys(obj, self.name or "")
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair: it can be written as an escape only
            data = json.dumps(obj).encode()
        with open(self.get_path(), "wb") as file:
            file.write(data)

    def load(self) -> Any:
        """Read the value."""
        with open(self.get_path(), "rb") as file:
            return json.loads(file.read())


class PickleCacher(Cacheable):
    """Stores nearly any value as a pickle.

    Classes and functions of the project are stored by reference, as pickle does, also on workers that got them by
    value; lambdas and local classes, which have no reference, are stored by value. Loading a pickle executes code:
    load only what you trust.
    """

    extension = ".pkl"
    exact: ClassVar[bool] = True

    def save(self, obj: Any) -> None:
        """Write the value.

        Raises
        ------
        UnpicklableError
        """
        from curidask.caching import pickling

        with open(self.get_path(), "w+b") as file:
            try:
                pickling.dump(obj, file)
            except Exception as error:
                if isinstance(error, OSError):  # a full disk, not a value that cannot be pickled
                    raise
                raise UnpicklableError(
                    f"The {type(obj).__name__} cannot be pickled: {error}",
                    where=self.name or "",
                    fix="return plain data, or write a cacher that knows the type (subclass Cacheable)",
                ) from error

    def load(self) -> Any:
        """Read the value."""
        from curidask.caching import pickling

        with open(self.get_path(), "rb") as file:
            return pickling.load(file)


_ATOMS = frozenset((str, int, float, bool, type(None)))


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
            continue
        pending += [inner for inner in item if type(inner) not in _ATOMS]


def _json_key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)
