"""Cachers for plain values: JSON and pickle."""

from __future__ import annotations

import io
import json
import pickle
from typing import IO, Any, ClassVar

from curidask.caching.base import Cacheable
from curidask.caching.values import json_bytes
from curidask.errors import CacheError, UnpicklableError

# --- pickles of values -----------------------------------------------------------------------------------------------
# Classes and functions are references, and what stands in no module goes by value.
#
# What is written loads with plain ``pickle.load`` too.


def dumps(obj: Any) -> bytes:
    """Pickle a value into bytes."""
    file = io.BytesIO()
    dump(obj, file)
    return file.getvalue()


def dump(obj: Any, file: IO[bytes]) -> None:
    """Pickle a value into a seekable file.

    Raises
    ------
    TypeError, pickle.PicklingError
        When neither pickle nor cloudpickle can do it.
    """
    start = file.tell()
    try:
        pickle.dump(obj, file, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        from curidask.caching.code_pickler import StandingPickler

        file.seek(start)
        file.truncate()
        try:
            StandingPickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
        except Exception as second:
            raise second from error


def loads(data: bytes) -> Any:
    """Load a value from bytes."""
    return _Unpickler(io.BytesIO(data)).load()


def load(file: IO[bytes]) -> Any:
    """Load a value from a file.

    Raises
    ------
    CacheError
        Naming the class or function that is not found here.
    """
    return _Unpickler(file).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise CacheError(
                f"A pickled value needs {name!r} of the module {module!r}, which is not found here: {error}.",
                fix="run from the project's folder, install the package, or, when it was renamed, recompute",
            ) from error


# --- files -----------------------------------------------------------------------------------------------------------
class JsonCacher(Cacheable):
    """Stores a value as JSON in UTF-8: for anybody to read, and nothing is executed on loading.

    JSON has fewer types than Python. What it does not have is written as the nearest that it has, and comes back as
    that:

    - tuples, sets (sorted), ranges and numpy arrays as lists;
    - other mappings, and dataclasses by their fields, as dicts;
    - numpy scalars and enums as what they stand for;
    - paths, dates, times, time differences, decimals and UUIDs as the text that ``str()`` gives;
    - keys of dicts as texts.

    Anything else raises `NotJsonError` with the place inside the value. NaN and infinities are written as JavaScript
    names them. Values of up to 100,000 characters are indented.
    """

    extension = ".json"

    def save(self, obj: Any) -> str:
        """Write the value; the path."""
        data = json_bytes(obj, self.name or "")
        path = self.get_path()
        with open(path, "wb") as file:
            file.write(data)
        return path

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

    def save(self, obj: Any) -> str:
        """Write the value; the path.

        Raises
        ------
        UnpicklableError
        """
        path = self.get_path()
        with open(path, "w+b") as file:
            try:
                dump(obj, file)
            except Exception as error:
                if isinstance(error, OSError):  # a full disk, not a value that cannot be pickled
                    raise
                raise UnpicklableError(
                    f"The {type(obj).__name__} cannot be pickled: {error}",
                    where=self.name or "",
                    fix="return plain data, or write a cacher that knows the type (subclass Cacheable)",
                ) from error
        return path

    def load(self) -> Any:
        """Read the value."""
        with open(self.get_path(), "rb") as file:
            return load(file)
