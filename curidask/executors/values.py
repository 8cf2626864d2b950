"""Values that are not stored, on their way from the job that makes them to those that read them."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from curidask.executors.tokens import Holder, local_paths, with_paths
from curidask.store.base import Store


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Referring:
    """A value with tokens in the place of paths of a stage's files.

    Attributes
    ----------
    value : object
    holders : collection of Holder
        The artifacts that the files go with.
    """

    value: Any
    holders: Collection[Holder]


def resolved(value: Any, store: Store) -> Any:
    """The value as its reader gets it: with paths that are there, verified.

    Raises
    ------
    ArtifactMissingError
        When a file that it refers to is gone or damaged.
    """
    if not isinstance(value, Referring):
        return value
    return with_paths(value.value, local_paths(value.holders, store))


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
