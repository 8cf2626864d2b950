"""Values that are not stored, on their way from the job that makes them to those that read them."""

from __future__ import annotations

import contextlib
import copy
import pickle
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes


def pack(value: Any, *, portable: bool) -> Any:
    """Make a value ready to be held for its readers.

    Raises
    ------
    Exception
        Whatever pickling raises, when the value must be portable and is not.
    """
    if not portable:
        return value
    from curidask.caching import pickling

    return Packed(pickling.dumps(value))


def unpack(packed: Any, *, shared: bool) -> Any:
    """Give one reader its value: a private copy where others read it too."""
    if isinstance(packed, Packed):
        from curidask.caching import pickling

        return pickling.loads(packed.data)
    return private_copy(packed) if shared else packed


def private_copy(value: Any) -> Any:
    """A copy that can be changed without anybody noticing."""
    try:
        return pickle.loads(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception:  # what pickle cannot copy, deepcopy may; what neither can (a connection) is shared as it is
        with contextlib.suppress(Exception):
            return copy.deepcopy(value)
        return value
