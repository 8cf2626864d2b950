"""The parameters that a stage says it uses: their hash, and a set of which nothing else can be read."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn

from curidask.core import canonical_types
from curidask.core.canonical import Encoder
from curidask.core.hash_fields import BOOKKEEPING, field_names, has_fields, hashed_field, is_parameter_set
from curidask.core.keywords import nearly
from curidask.errors import ParameterError, UndeclaredParameterError

Tree = Mapping[str, "Tree | None"]
"""Fields by name; None for a whole one, for a part of one those of its fields that are meant."""


def used_hash(params: Any, names: Sequence[str], where: str) -> str:
    """The identity of some fields of a parameter set, whatever the others are.

    Parameters
    ----------
    names : sequence of str
        Fields, those of a dataclass in a field as ``"data.seed"``. A field that is None is left out, as is one that
        ``hash_representations`` leaves out, at each level.
    where : str
        Who uses them, for messages.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    ParameterError
        For a name that is no field.
    UnstableHashError
    """
    encoder = Encoder(f"{where}, field ", canonical_types.encoding_of)
    entering = {path: value for name in names for path, value in _entering(params, name, where)}
    return hashlib.sha256(b"used" + encoder.parts(entering, dot="")).hexdigest()[:32]


def _entering(params: Any, path: str, where: str) -> Iterator[tuple[str, Any]]:
    holder = params
    *around, last = path.split(".")
    for depth, name in enumerate(around):
        _check(holder, name, path, where)
        field = hashed_field(holder, name)
        held = getattr(holder, name)
        so_far = ".".join(around[: depth + 1])
        if held is None:
            yield f"{so_far} is None", True
            return
        if field.value is not held:  # what stands for the whole in the hash stands for the part too
            yield so_far, field.value
            return
        holder = held
    _check(holder, last, path, where)
    yield path, hashed_field(holder, last).value


def _check(holder: Any, name: str, path: str, where: str) -> None:
    if not has_fields(type(holder)):
        raise ParameterError(
            f"`params` names {path!r}, but {path.rpartition('.')[0]!r} is a {type(holder).__name__}, which has no "
            "fields.",
            where=where,
            fix=f"name the whole of it: {path.rpartition('.')[0]!r}",
        )
    names = _names_in(holder)
    if name not in names:
        near = nearly(name, names)
        raise ParameterError(
            f"`params` names {path!r}, which is no field of {type(holder).__name__}"
            + (" that counts." if name in BOOKKEEPING else "."),
            where=where,
            fix=f"did you mean {near!r}?" if near else f"name some of: {', '.join(names)}",
        )


def _names_in(holder: Any) -> list[str]:
    skipped = BOOKKEEPING if is_parameter_set(holder) else ("hash_representations",)
    return [name for name in field_names(holder) if name not in skipped]


def tree_of(names: Iterable[str]) -> Tree:
    """Names with dots as a tree; a whole field holds its parts."""
    tree: dict[str, Any] = {}
    for name in sorted(names, key=lambda name: name.count(".")):
        inside: dict[str, Any] | None = tree
        *around, last = name.split(".")
        for each in around:
            inside = inside.setdefault(each, {}) if inside is not None else None
        if inside is not None:
            inside[last] = None
    return tree


# --- a set of which nothing else can be read -------------------------------------------------------------------------
def only_used(params: Any, names: Sequence[str], where: str) -> Any:
    """The same parameter set, of which these fields only can be read.

    It is an instance of the same class, with its methods and properties; what they read must be among the fields too.

    Parameters
    ----------
    where : str
        The stage, for messages.
    """
    return None if params is None else _restricted(params, tree_of(names), where, "")


def _restricted(value: Any, tree: Tree, where: str, path: str) -> Any:
    hidden = frozenset({*field_names(value), *(() if path else BOOKKEEPING)} - tree.keys())
    cls: Any = type(value)
    made: Any = object.__new__(_class_of(cls, hidden, where, path))
    for name, inside in tree.items():
        held = getattr(value, name)
        part = held if inside is None or held is None else _restricted(held, inside, where, f"{path}{name}.")
        object.__setattr__(made, name, part)
    return made


_WHY_NOT = {
    "name": "sets of several names may share what it computes",
    "overwrite": "it decides whether the stage runs, not what it computes",
    "hash": "it is made of all fields, and the stage uses some",
}


@functools.lru_cache(maxsize=256)
def _class_of(cls: Any, hidden: frozenset[str], where: str, path: str) -> type:
    def refused(what: str) -> NoReturn:
        some = f"{path}{what}" if what in hidden else ", ".join(sorted(path + name for name in hidden - {*BOOKKEEPING}))
        book = what in BOOKKEEPING and not path
        raise UndeclaredParameterError(
            f"The stage reads {some!r} of its parameters, which its `params` does not name."
            if what in hidden
            else f"The stage {what} its parameters, among them some that its `params` does not name: {some}.",
            where=where,
            fix=f"{_WHY_NOT.get(what, '')}: give it what it needs as a keyword argument, or leave `params` out"
            if book
            else f"add it: `@stage(..., params=[..., {path + what!r}])`"
            if what in hidden
            else "read the fields that it uses, or add those to its `params`",
        )

    def read(self: Any, name: str) -> Any:
        if name in hidden:
            refused(name)
        found = super(_Restricted, self).__getattribute__(name)
        return _Shown(found, hidden, refused) if name == "__dict__" else found

    namespace: dict[str, Any] = {"__slots__": (), "__getattribute__": read, "__module__": cls.__module__}
    for name, what in _WHOLE.items():
        namespace[name] = lambda self, *_, what=what: refused(what)
    namespace |= {"__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type = type(cls)(cls.__name__, (_Restricted, cls), namespace)
    return made


class _Restricted:
    """Stands before the class in the order of methods: a class that counts its subclasses does not hear of this one."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        """Tell nobody."""


_WHOLE = {
    "__reduce_ex__": "copies or sends",
    "__eq__": "compares",
    "__ne__": "compares",
    "__lt__": "compares",
    "__le__": "compares",
    "__gt__": "compares",
    "__ge__": "compares",
    "__hash__": "hashes",
}
"""What reads all of a parameter set, in places where nothing asks for its fields by name."""


class _Shown(MutableMapping[str, Any]):
    """What ``vars()`` gives of such a set; a `functools.cached_property` keeps its value there."""

    def __init__(self, held: dict[str, Any], hidden: frozenset[str], refused: Any) -> None:
        self._held = held
        self._hidden = hidden
        self._refused = refused

    def __getitem__(self, name: str) -> Any:
        if name in self._hidden:
            self._refused(name)
        return self._held[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        if self._hidden:
            self._refused("reads all of")
        return iter(self._held)

    def __len__(self) -> int:
        return len(list(self))

    def __reduce_ex__(self, _: Any) -> Any:
        return self._refused("copies or sends")
