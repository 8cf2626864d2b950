"""Values that are not stored, on their way from the job that makes them to those that read them."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from curidask.execution.copies import Copy, is_open_file, private_copy, read_once_part
from curidask.execution.path_tokens import Holder, local_paths, with_paths
from curidask.store.base import Store


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes

    @property
    def blocks(self) -> list[bytes | bytearray]:
        """All the bytes."""
        return [self.data]

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self.data)


@dataclass(frozen=True, slots=True)
class Unpicklable:
    """A value that stays in this process."""

    value: Any


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A `Copy` in a file."""

    path: str


Made = Packed | Copy | Unpicklable
Held = Made | OnDisk


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


def pack(value: Any, *, portable: bool, shared: bool) -> Made:
    """Make a value ready to be held for its readers, so that nobody changes it who made it or has it still.

    Parameters
    ----------
    value : object
    portable : bool
        Whether readers may be in other processes.
    shared : bool
        Whether it may be read more than once.

    Raises
    ------
    Exception
        Whatever pickling raises, when the value must be portable and is not, or cannot be read by all.
    """
    if portable:
        from curidask.caching import pickling

        if is_open_file(value):  # cloudpickle would read it
            raise TypeError("it is an open file")
        return Packed(pickling.dumps(value))
    try:
        return Copy.of(value)
    except Exception:
        if shared and read_once_part(value) is not None:
            raise
        return Unpicklable(private_copy(value))


def unpack(held: Held, *, shared: bool) -> Any:
    """Give one reader its value, which nobody else sees."""
    if isinstance(held, Copy):
        return held.value(shared=shared)
    if isinstance(held, OnDisk):
        with open(held.path, "rb") as file:
            copy: Copy = pickle.load(file)
        return copy.value(shared=False)
    if isinstance(held, Unpicklable):
        return private_copy(held.value) if shared else held.value
    from curidask.caching import pickling

    return pickling.loads(held.data)
