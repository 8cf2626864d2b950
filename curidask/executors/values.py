"""Values that are not stored, on their way from the job that makes them to those that read them."""

from __future__ import annotations

import contextlib
import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.errors import ArtifactMissingError
from curidask.store.base import Store


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StageFile:
    """The path of a file or folder that a stage wrote: it stands for the place where that is by the time it is read.

    Attributes
    ----------
    stem, key : str
        The artifact that the file goes with.
    name : str
        Its name in the store.
    as_path : bool
        Whether the stage returned a `Path` rather than a text.
    """

    stem: str
    key: str
    name: str
    as_path: bool

    def resolve(self, store: Store) -> str | Path:
        """A local path at which it lies, verified.

        Raises
        ------
        ArtifactMissingError
        """
        path = store.checkout(self.stem, self.key).tracked_path(self.name)
        if path is None:
            raise ArtifactMissingError(f"There is no file {self.name!r} of a stage.", where=store.url)
        return path if self.as_path else str(path)


def resolved(value: Any, store: Store) -> Any:
    """The value as its reader gets it."""
    return value.resolve(store) if isinstance(value, StageFile) else value


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
