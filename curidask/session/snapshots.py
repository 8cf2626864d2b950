"""What stages are called with, as it is at the call: copied where that is cheap, else watched until they get it."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from curidask.core.code.identity import attributes_of, is_found
from curidask.core.graph import Literal, Watch
from curidask.errors import ParametersChangedError, UnstableHashError, ValueChangedError
from curidask.execution.copies import (
    MAX_SMALL_BYTES,
    is_plain,
    other_copy,
    read_once_error,
    read_once_part,
    small_pickle,
)
from curidask.execution.tracebacks import levels_to_user
from curidask.hashing import digest
from curidask.session.base import RecordLike
from curidask.session.stage_code import ObjectsOf, code_in, local_values

if TYPE_CHECKING:
    from curidask.params import ExperimentParameters


Identify = Callable[[Any], str]

SHOWN_NAMES = 5


def literal_digest(value: Any, *, where: str = "") -> str:
    """The identity of a value that an experiment put into a state."""
    return digest(("literal", value), where=where)


def _set_hash(params: ExperimentParameters) -> str:
    value: str = params.params_hash()
    return value


class Snapshots:
    """The values that the stages of a session were called with.

    What is small is copied, one copy for all calls that it is the same for. What is large, or cannot be copied, is held
    itself; whoever changes it before all have it that were called with it gets an error.
    """

    def __init__(self) -> None:
        self._copies: dict[tuple[str, bytes], _Copied] = {}
        self._watched: dict[tuple[int, Identify], Watch] = {}

    def of_value(self, value: Any, what: str, identify: Callable[..., str], where: str) -> Literal:
        """A value as it is now.

        Parameters
        ----------
        what : str
            What it is, to begin a message with.
        identify : callable
            Gives its key; is also called with the keyword `where`.
        where : str
            Where it comes from, for messages.

        Raises
        ------
        UnstableHashError, ReadOnceError, ValueChangedError
        """
        try:
            key = identify(value, where=where)
        except UnstableHashError:
            part = read_once_part(value)
            if part is None:
                raise
            fix = "give the stage `list(...)` of it, or what it is made of (for a file, the path)"
            raise read_once_error(what, value, part, where=where, fix=fix) from None
        if is_plain(value):
            return Literal(value, key)
        fix = "give each call an object of its own, such as `copy.deepcopy(value)`, and do not change it afterwards"
        return self._taken(value, key, Watch(value, key, identify, what, ValueChangedError, fix), where)

    def of_params(self, record: RecordLike) -> Literal:
        """The parameter set of a record as it is now.

        Raises
        ------
        ParametersChangedError
            When it was changed since the record was made.
        """
        params, key = record.params, record.fixed_hash
        with contextlib.suppress(Exception):
            known = self._copies.get(_place(key, small_pickle(params) or b""))
            if known is not None and known.is_current and not known.holds_functions:
                return Literal(known.value, key)
        record.check_unchanged()
        what, fix = f"The parameter set {record.name!r}", "make a second set with `dataclasses.replace(params, ...)`"
        watch = Watch(params, key, _set_hash, what, ParametersChangedError, fix)
        return self._taken(params, key, watch, record.get_reference_name())

    def _taken(self, value: Any, key: str, watch: Watch, where: str) -> Literal:
        before = self._watched.get(watch.place)
        if before is not None and before.identity != key and not before.is_over:
            raise before.changed(where)
        with contextlib.suppress(Exception):
            copied = self._pickled(value, key)
            return self._watching(value, watch) if copied is None else Literal(copied, key)
        copied = other_copy(value, MAX_SMALL_BYTES)
        held = local_values(copied)  # which is in the classes, and not in the copy
        if copied is value or not held:
            return self._watching(value, watch) if copied is value else Literal(copied, key)
        names = ", ".join(list(held)[:SHOWN_NAMES])
        fix = f"its class was defined in a function, and holds {names}: keep what changes in attributes of the object"
        return self._watching(copied, replace(watch, value=copied, fix=fix))

    def _watching(self, value: Any, watch: Watch) -> Literal:
        self._watched[watch.place] = watch
        return Literal(value, watch.identity, watch)

    def _pickled(self, value: Any, key: str) -> Any:
        """A copy, the same for all that are alike; None of what is large, or is named with what it holds."""
        data = small_pickle(value)
        if data is None:
            return None
        place = _place(key, data)
        known = self._copies.get(place)
        if known is None or not known.is_current:
            known = self._copies[place] = _Copied.of(data)
        return None if known.holds_functions else known.value


def _place(key: str, data: bytes) -> tuple[str, bytes]:
    # A pickle names functions and classes only; the key knows which they were.
    return key, hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class _Copied:
    """A copy, with the project's functions and classes in it, which may be defined anew."""

    value: Any
    code: tuple[Any, ...]

    @classmethod
    def of(cls, data: bytes) -> _Copied:
        value = pickle.loads(data)
        found = code_in([value]) if pickle.STACK_GLOBAL in data else ()
        return cls(value, tuple(code.cls if type(code) is ObjectsOf else code for code in found))

    @property
    def holds_functions(self) -> bool:
        """Whether there are functions in it that are the value's own, and have attributes."""
        return any(isinstance(code, FunctionType) and attributes_of(code) for code in self.code)

    @property
    def is_current(self) -> bool:
        """Whether another copy would be of the same classes."""
        return all(map(is_found, self.code))


# --- whether a value was changed in place since it was given out -----------------------------------------------------
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
