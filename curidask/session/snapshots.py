"""What stages are called with, as it is at the call: copied where that is cheap, else watched until they get it."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from curidask.core.code.code_identity import attributes_of, is_found
from curidask.core.code.code_in_values import ObjectsOf, code_in, local_values
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
from curidask.hashing import digest

if TYPE_CHECKING:
    from curidask.params import ExperimentParameters
    from curidask.record import Record

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
        value : object
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

    def of_params(self, record: Record) -> Literal:
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
