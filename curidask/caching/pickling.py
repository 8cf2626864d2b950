"""Pickles of values: classes and functions are references, and what stands in no module goes by value.

What is written loads with plain ``pickle.load`` too.
"""

from __future__ import annotations

import io
import pickle
from typing import IO, Any

from curidask.errors import CacheError


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
