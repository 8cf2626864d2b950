"""Pickles in which classes and functions of a project are references, wherever they are written.

A worker may hold a project's classes as copies that came with the run, because the project is not installed there.
Pickle would refuse such a copy, since it is not what its module holds, and cloudpickle would write its code into each
artifact. Here it is written by its module's and its own name, and looked up in `PROJECT_OBJECTS` first and by import
second when it is read. What is written loads with plain ``pickle.load`` too, where curidask is installed.
"""

from __future__ import annotations

import importlib
import io
import pickle
from typing import IO, Any

from curidask.errors import CacheError

PROJECT_OBJECTS: dict[tuple[str, str], object] = {}
"""Classes and functions of the project by module and qualified name, in a process that got them by value."""


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
        _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        file.seek(start)
        file.truncate()
        try:
            _dump_by_value(obj, file)
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


def lookup(module: str, qualname: str) -> Any:
    """Find a class or function: what came with the run, else what an import gives.

    Raises
    ------
    CacheError
        When there is none.
    """
    found = PROJECT_OBJECTS.get((module, qualname))
    if found is not None:
        return found
    try:
        found = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise CacheError(
            f"A pickled value needs {qualname!r} of the module {module!r}, which is not found here: {error}.",
            fix="run from the project's folder, install the package, or, when it was renamed, recompute the artifact",
        ) from error
    return found


def _reduce_project_object(obj: Any) -> Any:
    if isinstance(obj, type) or type(obj) is _FUNCTION:
        name = (getattr(obj, "__module__", None), getattr(obj, "__qualname__", None))
        if name in PROJECT_OBJECTS:
            return lookup, name
    return NotImplemented


_FUNCTION = type(_reduce_project_object)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        return _reduce_project_object(obj)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PROJECT_OBJECTS:
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError):
                pass  # the same again, with an error that says what to do
        return lookup(module, name)


def _dump_by_value(obj: Any, file: IO[bytes]) -> None:
    from curidask.caching import by_value  # loads cloudpickle

    class Pickler(by_value.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduce_project_object(obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced

    Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
