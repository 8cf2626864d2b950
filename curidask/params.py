"""Parameter sets: dataclasses with a name and a hash, and how some of them are selected."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from curidask import hashing
from curidask.core.hash_fields import is_pydantic
from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.param_classes import EitherFrozen, check_call, keep_keyword_only
from curidask.errors import ParameterError, SelectionError
from curidask.hashing import set_hash_functions

EMPTY_HASH = hashlib.sha256(b"no parameters").hexdigest()[:32]
"""What stands for the parameter set of a record that has none."""


class ComputedHash(str):
    """A hash that was filled in automatically.

    It is told apart from one that the user gave, since it must not follow when a set is copied with other values
    (``dataclasses.replace`` copies every field, this one too).
    """

    __slots__ = ()


@dataclass
class ExperimentParameters:
    """Base class of parameter sets; extend it with a ``@dataclass`` of your own.

    Attributes
    ----------
    name : str
        How displays and aggregates name the set. Not part of the hash.
    hash : str or None
        Filled in automatically. Give one only to fix how the set's artifacts are named; it then stands for all fields.
    overwrite : bool
        Recompute the stages of this set whatever the cache holds.
    hash_representations : dict
        Field name to a function ``(self, value) -> plain data`` whose result is hashed instead of the value, or to None
        to leave the field out of the hash. A field that is None is left out in any case. Those of a dataclass that is
        the value of a field count too. See `curidask.set_hash_functions`.

    Examples
    --------
    >>> @dataclass
    ... class Params(ExperimentParameters):
    ...     learning_rate: float = 0.1
    >>> Params("a", learning_rate=0.2).params_hash() == Params("b", learning_rate=0.2).params_hash()
    True
    """

    name: str = "UNNAMED"
    hash: str | None = field(default=None, compare=False, kw_only=True)
    overwrite: bool = field(default=False, kw_only=True)
    hash_representations: dict[str, Callable[[Any, Any], Any] | None] = field(
        default_factory=dict, repr=False, compare=False, kw_only=True
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        keep_keyword_only(cls)

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Refuse what would be ignored or land in another field than is meant, before the constructor takes it.

        Raises
        ------
        UnknownKeywordError
            For a keyword that is no field, with the near one.
        ParameterError
            For a class that forgot its ``@dataclass`` or a type, for a name that would not be the first field.
        """
        check_call(ExperimentParameters, cls, given, named)
        return super().__new__(cls)

    @keywords()
    def params_hash(self, dry: bool = False) -> Any:
        """The identity of the set's values.

        Parameters
        ----------
        dry : bool
            Show instead what enters, by field; see `curidask.hashing.get_parameter_hash_value`.

        Returns
        -------
        str or dict
            32 hexadecimal digits (or the hash given by the user); with `dry`, field to mechanism and representation.

        Raises
        ------
        UnstableHashError
            Naming the set and the field whose value has no stable identity.
        ParameterError
            For a representation that cannot be used.
        """
        if dry:
            return hashing.get_param_set_hash_values(self)
        if not isinstance(self.name, str):
            raise ParameterError(
                f"The name of a parameter set is {self.name!r}, which is no text.",
                where=type(self).__name__,
                fix="the name is the first field: write the others with theirs, as in Params(x=1), or give a text",
            )
        if self.hash is not None and _is_given(self):
            return _checked_hash(self.hash, self.name)
        return values_hash(self)

    @keywords()
    def args_hash(self, dry: bool = False) -> Any:
        """`params_hash` under its old name."""
        return self.params_hash(dry)


# Classes of other kinds that inherit find defaults in the class alone; and they may be frozen.
ExperimentParameters.hash_representations = {}
ExperimentParameters.__dataclass_params__ = EitherFrozen(ExperimentParameters.__dataclass_params__)  # type: ignore[attr-defined]


# --- hashing ---------------------------------------------------------------------------------------------------------
@keywords(False)
def values_hash(params: ExperimentParameters) -> str:
    """The hash of the values of a set, whatever hash it was given."""
    return hashing.hash_fields_of(params, where=f"parameter set {params.name!r} ({type(params).__name__}), field ")


@keywords(False)
def fill_hash(params: ExperimentParameters) -> str:
    """Compute the hash of a set and write it on the set.

    It is not written on a pydantic model: a copy that is made of its dumped values would take it for a given one.
    """
    value: str = params.params_hash()
    if not _is_given(params) and not is_pydantic(type(params)):
        object.__setattr__(params, "hash", ComputedHash(value))  # the set may be frozen
    return value


def _is_given(params: ExperimentParameters) -> bool:
    return params.hash is not None and not isinstance(params.hash, ComputedHash)


def _checked_hash(given: str, name: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", given):
        raise ParameterError(
            f"The hash {given!r} given to a parameter set cannot be part of file names.",
            where=f"parameter set {name!r}",
            fix="use up to 64 letters, digits, '_', '-' or '.', or leave `hash` out",
        )
    return given


# --- lists of sets ---------------------------------------------------------------------------------------------------
@keywords(False)
def check_param_sets(value: object, source: str) -> list[ExperimentParameters]:
    """Check what ``get_params()`` returned.

    Raises
    ------
    ParameterError
        When it is not a list of parameter sets.
    """
    fix = "return a list, such as `[Params(name='a'), Params(name='b')]`"
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping | ExperimentParameters):
        raise ParameterError(f"get_params() returned a {type(value).__name__}, not a list.", where=source, fix=fix)
    sets = list(value)
    for index, item in enumerate(sets):
        if not isinstance(item, ExperimentParameters):
            kind = f"the class {item.__name__}" if isinstance(item, type) else f"a {type(item).__name__}"
            raise ParameterError(
                f"Entry {index} of what get_params() returned is {kind}, not a parameter set.",
                where=source,
                fix="let its class inherit from curidask.ExperimentParameters, and return instances",
            )
    return sets


@keywords(False)
def select(
    groups: Sequence[tuple[str, Sequence[ExperimentParameters]]],
    *,
    names: Sequence[str] = (),
    indices: Sequence[str] = (),
    global_indices: Sequence[str] = (),
) -> list[ExperimentParameters]:
    """Pick parameter sets; a set must satisfy every kind of selector that is given.

    Parameters
    ----------
    groups : sequence of (str, sequence of ExperimentParameters)
        Parameter module and its list.
    names : sequence of str
        Names to keep.
    indices, global_indices : sequence of str
        ``"0"`` or half-open ``"2-4"``, in each module's list or in the joined list. A list that is shorter than another
        gives what it has. The sets come in the order in which their indices do, else in that of the lists.

    Raises
    ------
    SelectionError
        For a name or an index that is not there, or when nothing is left.
    ParameterError
        For two sets of different values that were given one hash.
    """
    joined = [params for _, sets in groups for params in sets]
    kept = list(range(len(joined)))
    if indices:
        kept = _with_indices(groups, indices)
    if global_indices:
        asked = _positions(global_indices, len(joined), "--global-indices", "the joined list")
        kept = [position for position in asked if position in set(kept)]
    if names:
        named = _with_names(joined, names)
        kept = [position for position in kept if position in named]
    if not kept:
        total = f"{len(joined)} parameter sets in {', '.join(name for name, _ in groups) or 'no module'}"
        raise SelectionError(
            "No parameter set is selected.",
            where=total,
            fix="loosen --names, --indices and --global-indices (a set must satisfy each of them)"
            if joined
            else "let get_params() return at least one set",
        )
    chosen = [joined[position] for position in kept]
    in_use = HashesInUse()
    for params in chosen:
        in_use.add(params, params.params_hash())
    return chosen


def _with_names(joined: Sequence[ExperimentParameters], names: Sequence[str]) -> set[int]:
    there = [params.name for params in joined]
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=3)
            shown = near or list(dict.fromkeys(there))[:10]
            raise SelectionError(
                f"No parameter set is named {name!r}.",
                where="--names",
                fix=f"{'did you mean' if near else 'there are'}: {', '.join(shown)}",
            )
    return {i for i, name in enumerate(there) if name in names}


def _with_indices(groups: Sequence[tuple[str, Sequence[ExperimentParameters]]], indices: Sequence[str]) -> list[int]:
    kept: list[int] = []
    start = 0
    longest, most = max(
        ((name, len(sets)) for name, sets in groups), key=lambda group: group[1], default=("no module", 0)
    )
    positions = _positions(indices, most, "--indices", f"the list of {longest}")
    for _, sets in groups:
        kept += [start + position for position in positions if position < len(sets)]
        start += len(sets)
    return kept


def _positions(texts: Sequence[str], count: int, flag: str, what: str) -> list[int]:
    """The positions in the order in which they are asked for, each once."""
    positions: dict[int, None] = {}
    for text in texts:
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(text))
        if match is None:
            raise SelectionError(f"{text!r} is no index.", where=flag, fix="write `3`, or `2-5` for 2, 3 and 4")
        first = int(match[1])
        end = int(match[2]) if match[2] else first + 1
        if first >= end:
            raise SelectionError(
                f"The range {text!r} is empty.",
                where=f"{flag}, {what}",
                fix=f"its end is not part of it: write `{first}` for one set, or `{first}-{first + 2}` for two",
            )
        if end > count:
            raise SelectionError(
                f"The index {text!r} is out of range.",
                where=f"{flag}, {what}",
                fix=f"it has {count} sets: use indices from 0 to {count - 1}, ranges up to {count}",
            )
        positions |= dict.fromkeys(range(first, end))
    return list(positions)


@keywords(False)
def duplicate_names(sets: Iterable[ExperimentParameters]) -> dict[str, list[ExperimentParameters]]:
    """Names that stand for sets of different values, with those sets."""
    by_name: dict[str, dict[str, ExperimentParameters]] = {}
    for params in sets:
        by_name.setdefault(params.name, {}).setdefault(params.params_hash(), params)
    return {name: list(different.values()) for name, different in by_name.items() if len(different) > 1}


class HashesInUse(CheckedCalls):
    """The hashes of the sets of one experiment, each for the values that it stands for."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def add(self, params: ExperimentParameters, hash_: str) -> None:
        """Take in a set with its hash.

        Raises
        ------
        ParameterError
            When it was given the hash of a set of other values, since each would get the artifacts of the other.
        """
        values = values_hash(params) if _is_given(params) else hash_
        known, name = self._known.setdefault(hash_, (values, params.name))
        if known != values:
            raise ParameterError(
                f"Two different parameter sets have the hash {hash_!r}, so they would share their artifacts.",
                where=f"parameter sets {name!r} and {params.name!r}",
                fix="leave `hash` out of them, or give each its own",
            )


__all__ = [
    "EMPTY_HASH",
    "ComputedHash",
    "ExperimentParameters",
    "HashesInUse",
    "check_param_sets",
    "duplicate_names",
    "fill_hash",
    "select",
    "set_hash_functions",
    "values_hash",
]
