"""Whether a value was changed in place since it was given out."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

from curidask.errors import UnstableHashError
from curidask.execution.copies import is_plain
from curidask.execution.tracebacks import levels_to_user
from curidask.session.snapshots import literal_digest


class Given:
    """The value of an artifact, of which whoever was given it may have changed something since.

    Parameters
    ----------
    value : object
        As it is when it is given out.
    """

    __slots__ = ("_is_watched", "_mark", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._is_watched = not is_plain(value)
        self._mark = _mark(value) if self._is_watched else None

    def is_changed(self, read_again: Callable[[], Any], label: str) -> bool:
        """Whether the value has another content now.

        Parameters
        ----------
        read_again : callable
            Gives the artifact's value anew. It is asked only where the value does not look as it did, which need not
            mean much: an object may keep what it has computed from its content.
        label : str
            What it is, for the warning that a value of which this cannot be told has not changed for others.
        """
        if not self._is_watched:
            return False
        mark = _mark(self.value)
        if mark is not None and mark == self._mark:
            return False
        first = read_again()
        if first is self.value:  # what cannot be copied is one object for all
            self._is_watched = False
            return False
        try:
            changed = literal_digest(self.value) != literal_digest(first)
        except UnstableHashError:
            changed = mark is not None  # whoever makes a key of it will raise
            self._is_watched = changed
            if not changed:
                _warn(label, self.value)
        self._mark = mark
        return changed


def _warn(label: str, value: Any) -> None:
    warnings.warn(
        f"It cannot be told whether {label} ({type(value).__name__}) was changed in place since it was read; the "
        "stages that are called now get it as its stage made it. To hand on what was changed, give the stages another "
        "object that holds it, in the state or as a keyword argument",
        stacklevel=levels_to_user(),
    )


def _mark(value: Any) -> str | None:
    """The same for a value that was not changed; None where that cannot be told.

    Notes
    -----
    A pickle is made an order of magnitude faster than a canonical encoding, and nothing of it is kept but its hash.
    """
    content = _Content()
    try:
        _Marking(content, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=content.add).dump(value)
    except Exception:  # of the value
        try:
            return literal_digest(value)
        except UnstableHashError:
            return None
    return content.hash.hexdigest()


class _Marking(pickle.Pickler):
    """Takes a record of the session for one that does not change."""

    def reducer_override(self, obj: Any) -> Any:
        """Write where it is."""
        return (int, (id(obj),)) if hasattr(type(obj), "apply_stage") else NotImplemented


class _Content:
    """A file that keeps the hash of what is written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes

    def add(self, buffer: pickle.PickleBuffer) -> None:
        """Take in a large content that the pickle leaves out."""
        self.hash.update(buffer.raw())
