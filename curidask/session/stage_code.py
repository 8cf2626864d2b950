"""The code of a stage as a part of its keys: what its function reaches, and the methods of the parameters it gets."""

from __future__ import annotations

import datetime
import enum
import functools
import hashlib
import linecache
import os
import sys
import types
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.core.canonical import own_attributes
from curidask.core.canonical_types import representation_of
from curidask.core.code.classes import held_by, is_local_class
from curidask.core.code.identity import (
    attributes_of,
    byte_code,
    has_source,
    is_installed,
    is_plain_data,
    of_function,
    reached_values,
)
from curidask.core.code.places import closure_values, is_value
from curidask.core.code.reach import CodeOf, Part, code_of, methods_of
from curidask.core.code.scopes import LoadedSources, Resolver, Sources
from curidask.core.hash_fields import fields_with_code, has_fields
from curidask.core.spec import IGNORE, TRACK, WARN, StageSpec
from curidask.errors import StageDefinitionError, UnstableHashError
from curidask.hashing import digest

# --- the code that values bring along --------------------------------------------------------------------------------
# Functions and classes among them, and the classes of objects in them.

_WITHOUT = frozenset(
    {*(type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice, types.ModuleType)}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta}
)

MOST_OBJECTS = 100_000
"""How many are looked at, so that an object which leads to very many does not hold up a call."""


@dataclass(frozen=True, slots=True)
class ObjectsOf:
    """The class of an object, which counts by what it does: what the object holds counts as a value."""

    cls: type


def code_in(values: Iterable[Any]) -> list[Any]:
    """The project's functions and classes that values are or hold, and the classes of objects in them, each once.

    Returns
    -------
    list of function, type or ObjectsOf
        In a fixed order but for what is in sets.
    """
    found: dict[tuple[bool, int], Any] = {}
    seen: dict[tuple[bool, int], Any] = {}  # with the objects, or another might get an address
    pending = [value for value in values if type(value) not in _WITHOUT]
    pending.reverse()
    while pending and len(seen) < MOST_OBJECTS:
        value = pending.pop()
        code = value.cls if type(value) is ObjectsOf else value
        place = type(value) is ObjectsOf, id(code)
        if place in seen:
            continue
        seen[place] = value
        if isinstance(code, type | types.FunctionType) and not is_installed(code):
            found[place] = value
        pending += reversed([part for part in _parts(value) if type(part) not in _WITHOUT])
    return list(found.values())


def unread(function: types.FunctionType) -> dict[str, Any]:
    """What stands for a function without a source in the code of a stage: its byte code, and the constants it reaches.

    The functions and classes that it reaches are code as it is.
    """
    held = {name: value for name, value in reached_values(function).items() if is_plain_data(value)}
    return {"code": of_function(function), **held}


def local_values(value: Any) -> dict[str, Any]:
    """What the classes that were defined in functions hold, of those that a value brings along."""
    kinds = [code.cls if type(code) is ObjectsOf else code for code in code_in([value])]
    return {name: held for kind in kinds if isinstance(kind, type) for name, held in held_by(kind).items()}


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of, as far as it can bring code along."""
    match value:
        case ObjectsOf():
            return _local(value.cls, ObjectsOf)
        case dict():
            return [*value.keys(), *value.values(), *_instance(value)]
        case list() | tuple() | set() | frozenset():
            return [*value, *_instance(value)]
        case types.FunctionType():
            return [
                *_cells(value),
                *(value.__defaults__ or ()),
                *(value.__kwdefaults__ or {}).values(),
                *attributes_of(value).values(),
                *_reached_without_source(value),
            ]
        case types.MethodType():
            return [value.__func__, value.__self__]
        case functools.partial():
            return [value.func, *value.args, *value.keywords.values()]
        case type():
            return _local(value, lambda base: base)
    return _instance(value)


def _instance(value: Any) -> Iterable[Any]:
    """The class of an object and its attributes; what stands for others in hashes stands for them here."""
    kind = type(value)
    if kind in _BUILTIN or (isinstance(value, enum.Enum) and not any(map(_methods, kind.__mro__))):
        return ()
    if has_fields(kind):
        return [ObjectsOf(kind), *fields_with_code(value)]
    attributes = {} if representation_of(kind) is not None else own_attributes(value)
    return [ObjectsOf(kind), *attributes.values()]


_BUILTIN = (dict, list, tuple, set, frozenset)


def _methods(kind: type) -> list[Any]:
    parts = () if is_installed(kind) else vars(kind).values()
    return [part for part in parts if isinstance(part, types.FunctionType | property) and not is_installed(part)]


def _local(cls: type, as_part: Callable[[type], Any]) -> Iterable[Any]:
    """What the source of a class does not lead to: the bases and metaclass that it was given, and what it holds."""
    return [type(cls), *map(as_part, cls.__mro__[1:-1]), *held_by(cls).values()] if is_local_class(cls) else ()


def _reached_without_source(function: types.FunctionType) -> Iterable[Any]:
    """What a function reaches that has no source which would lead there."""
    return () if is_installed(function) or has_source(function) else reached_values(function).values()


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


# --- what became of a project's code since it was read ---------------------------------------------------------------
# Cells that were run, modules loaded anew, names bound anew.

Name = tuple[str, str]
"""A module, and a name in it."""


@dataclass(slots=True)
class Reloaded:
    """Tells when code is to be read again.

    Attributes
    ----------
    times : int
        How often something was loaded anew.
    stale : frozenset of (str, str)
        Names that are bound to what a module had before it was loaded anew.
    """

    sources: Sources
    times: int = 0
    stale: frozenset[Name] = frozenset()
    _n_cells: int = 0
    _specs: dict[str, Any] = field(default_factory=dict)
    _again: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Notice what was loaded, and which cells were run, since the last time; cheap as long as it is nothing."""
        n_cells = _n_cells()
        again = [name for name, spec in self._specs.items() if _spec(name) is not spec]
        if n_cells == self._n_cells and not again:
            return
        self._n_cells = n_cells
        self.times += 1
        for name in again:
            linecache.checkcache(getattr(self._specs[name], "origin", None))
            self._specs[name] = _spec(name)
        self._again.update(again)
        if self._again:
            self.stale = frozenset(self._bound_before())

    def watch(self, modules: Iterable[str]) -> None:
        """Notice from now on when these are loaded anew."""
        for name in modules:
            if name not in self._specs and (spec := _spec(name)) is not None:
                self._specs[name] = spec

    def value(self, name: Name) -> str:
        """What identifies the code or the constant that a name is bound to at the moment; empty for all else."""
        found = vars(sys.modules[name[0]]).get(name[1]) if name[0] in sys.modules else None
        found = getattr(getattr(found, "spec", None), "function", found)  # of a stage
        if name in self.stale and isinstance(found, types.FunctionType | type):
            return _compiled(found)
        try:
            return digest((found, _attributes(found))) if _is_told(found) else ""
        except UnstableHashError:
            return ""

    def _bound_before(self) -> Iterator[Name]:
        resolver = Resolver(self.sources)
        for name in (*self._specs, "__main__"):
            scope, held = resolver.module(name), vars(sys.modules[name]) if name in sys.modules else {}
            for statement in scope.table.statements if scope is not None else ():
                for bound, imports in statement.bound.items():
                    taken = [(scope.absolute(what), what.name) for what in imports if what.name] if scope else []
                    now = [vars(sys.modules[module]).get(of) for module, of in taken if module in self._again]
                    if now and bound in held and not any(held[bound] is value for value in now):
                        yield name, bound


def _is_told(value: Any) -> bool:
    """Whether a value is code of the project or data; not what others change as they use it, such as a generator."""
    if isinstance(value, types.FunctionType | type):
        return not is_installed(value)
    kind = type(value)
    return kind not in (Counter, defaultdict, deque) and not kind.__module__.startswith(_CHANGING)


_CHANGING = ("random", "numpy.random", "torch._C", "logging")


def _attributes(value: Any) -> dict[str, Any]:
    """What a class or function holds at the moment, as far as that is data: its source says what it began with."""
    held = vars(value) if isinstance(value, types.FunctionType | type) else {}
    return {name: each for name, each in held.items() if not name.startswith("__") and is_value(each)}


def _n_cells() -> int:
    """How many cells or lines were run in ``__main__``."""
    main = vars(sys.modules["__main__"])
    cells = main.get("_ih")
    if isinstance(cells, list):
        return len(cells)
    return 0 if "__file__" in main else len(linecache.cache)  # which gets what is typed


def _spec(name: str) -> Any:
    return getattr(sys.modules.get(name), "__spec__", None)


def _compiled(code: types.FunctionType | type) -> str:
    functions = {"": code} if isinstance(code, types.FunctionType) else vars(code)
    made = {name: byte_code(f.__code__) for name, f in functions.items() if isinstance(f, types.FunctionType)}
    return digest(made)


# --- stage code ------------------------------------------------------------------------------------------------------
WATCHED_CODE = "watched code"
"""What a manifest says beside the parts of the key of code that does not count."""


@dataclass(slots=True)
class StageCodes:
    """The code of the stages of a session, as it was when they were first called.

    Parameters
    ----------
    mode : {"track", "warn", "ignore"}
        For stages that say nothing else.
    root : Path
        The project's folder: relative paths in `extra_code` start here.
    """

    mode: str
    root: Path
    sources: Sources = field(default_factory=LoadedSources)
    _known: dict[tuple[Any, ...], StageCode] = field(default_factory=dict)
    _rebound: dict[tuple[Any, ...], list[Name]] = field(default_factory=dict)
    _reloaded: Reloaded = field(init=False)
    _kept: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reloaded = Reloaded(self.sources)

    @property
    def by_key(self) -> dict[str, StageCode]:
        """The code of all stages that were called, by what enters their keys."""
        return {code.key: code for code in self._known.values()}

    def of(self, spec: StageSpec, params: Any, gathered: Iterable[Any] = (), values: Iterable[Any] = ()) -> StageCode:
        """The code of a stage that gets such a parameter set and such values, and gathers records with such sets.

        What values bring along counts as well: functions, and the classes of objects.

        Raises
        ------
        StageDefinitionError
            For a file in `extra_code` that cannot be read.
        UnstableHashError
            For a value in the stage's closure.
        """
        given = {_same(code): code for code in _given(spec, params, gathered, values)}
        self._reloaded.look()
        place = (self._reloaded.times, id(spec), *given, *_unread(spec, given.values()))
        names = self._rebound.get(place)
        known = None if names is None else self._known.get((place, *map(self._reloaded.value, names)))
        if known is None:
            self._kept += [spec, *given.values()]  # or others might get their addresses
            names = self._rebound[place] = []
            known = self._made(spec, given.values(), names)
            self._known[place, *map(self._reloaded.value, names)] = known
        return known

    def _made(self, spec: StageSpec, given: Iterable[Any], names: list[Name]) -> StageCode:
        """The code; `names` get those of which the values count at the moment."""
        if spec.version:
            return StageCode(f"version {spec.version}")
        mode = spec.code or self.mode
        if mode == IGNORE:
            return StageCode()
        try:
            own = code_of(spec.function, self.sources)
            brought = sorted((self._of_value(value) for value in given), key=lambda code: code.digest)
            found: list[CodeOf] = [own, *brought]
            held = closure_values(spec.function, self.sources)
        except Exception as error:  # of ours: nothing of the project is run to read it
            raise StageDefinitionError(
                f"The code of the stage {spec.name!r} could not be read ({type(error).__name__}: {error}).",
                where=spec.where,
                fix="give it a version, as in `@stage(..., version='1')`, which then stands for its code",
            ) from error
        where = f"{spec.where}, which was made in a function"
        closure = digest(dict(held), where=where) if held else ""
        extra = [self._extra(spec, each) for each in spec.extra_code]
        lost = [digest(unread(function)) for code in found for function in code.lost]
        names += sorted({name for code in found for name in code.rebound} | self._reloaded.stale)
        self._reloaded.watch(dict.fromkeys(name for code in found for name in code.modules))
        lost += map(self._reloaded.value, names)
        parts_of_key = [[code.digest for code in found], closure, [of_extra for of_extra, _ in extra]]
        cachers = list(_told_cachers(spec))
        told = ["cachers", *(part.digest for part in cachers)]
        whole = digest(("code", *parts_of_key, *([lost] if lost else []), *([told] if cachers else [])))
        reached = [part for code in found for part in code.parts] + [part for _, parts in extra for part in parts]
        reached += cachers
        parts = tuple({part.name: part for part in reached}.values())
        unfollowed = tuple(dict.fromkeys(text for code in found for text in code.unfollowed))
        packages = tuple(sorted({name for code in found for name in code.packages}))
        return StageCode(whole if mode == TRACK else "", whole if mode == WARN else "", parts, unfollowed, packages)

    def _of_value(self, value: Any) -> CodeOf:
        """The code of a function or class; of one that objects are of which the fields count as values, the rest."""
        if type(value) is not ObjectsOf:
            return code_of(value, self.sources)
        return (methods_of if has_fields(value.cls) else code_of)(value.cls, self.sources)

    def _extra(self, spec: StageSpec, item: Any) -> tuple[str, tuple[Part, ...]]:
        if not isinstance(item, str | os.PathLike):
            code = code_of(item, self.sources)
            return code.digest, code.parts
        path = self.root / os.fspath(item)
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise StageDefinitionError(
                f"The stage {spec.name!r} names {os.fspath(item)!r} in its `extra_code`, which cannot be read: "
                f"{error.strerror or error}.",
                where=spec.where,
                fix=f"give the path of a file, from {self.root}",
            ) from error
        return content, (Part(os.fspath(item), "file", content, ""),)


@dataclass(frozen=True, slots=True)
class StageCode:
    """The code of a stage.

    Attributes
    ----------
    key : str
        What enters its keys; empty where code does not count.
    watched : str
        Digest of code that does not count, of which a change is to be told.
    parts : tuple of Part
        The definitions that it reaches.
    unfollowed : tuple of str
        What may lead to more code and cannot be followed.
    packages : tuple of str
        The installed packages that it uses.
    """

    key: str = ""
    watched: str = ""
    parts: tuple[Part, ...] = ()
    unfollowed: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


PLACING = {"path_override", "name", "subdir", "prefix", "extension", "track", "check_saved", "verify", "mmap_mode"}
"""What a cacher is told that says where and how safely it stores, and not what comes back."""


def _told_cachers(spec: StageSpec) -> Iterator[Part]:
    """The cachers that were told something that decides what they store or load."""
    for output in spec.outputs:
        cacher = output.cacher
        if cacher is None or isinstance(cacher, type):
            continue
        told = {
            name: value
            for name, value in sorted(getattr(cacher, "__dict__", {}).items())
            if not name.startswith("_") and name not in PLACING and not _is_default(cacher, name, value)
        }
        with suppress(UnstableHashError):
            if told:
                of = digest(told, where=f"the cacher of the output {output.name!r}")
                text = "\n".join(f"{name} = {value!r}" for name, value in told.items())
                yield Part(f"of the output {output.name}", "cacher", of, text)


def _is_default(cacher: Any, name: str, value: Any) -> bool:
    return value is None or value is False or value == {} or value is getattr(type(cacher), name, None)


CodeOfStage = Callable[[StageSpec, Any, Iterable[Any], Iterable[Any]], StageCode]


def no_code(spec: StageSpec, params: Any, gathered: Iterable[Any], values: Iterable[Any]) -> StageCode:
    """Nothing, for a graph in which code does not count."""
    return StageCode()


def _given(spec: StageSpec, params: Any, gathered: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """The functions and classes that a stage is given: of what it uses of its parameters, and of what else it gets."""
    if spec.params is None or params is None:
        used = [params]
    else:
        used = [ObjectsOf(type(params)), *(_at(params, name) for name in spec.params)]
    return code_in([*used, *gathered, *values, *_without_source([spec.function])])


def _unread(spec: StageSpec, given: Iterable[Any]) -> list[str]:
    """What functions are that have no source, as that may be another at each call."""
    return [digest(unread(function)) for function in _without_source([spec.function, *given])]


def _without_source(values: Iterable[Any]) -> list[types.FunctionType]:
    return [value for value in values if isinstance(value, types.FunctionType) and not has_source(value)]


def _same(code: Any) -> Any:
    """Equal for functions, and for classes, that were made by the same statement."""
    made = code.cls if type(code) is ObjectsOf else code
    return type(code) is ObjectsOf, _made_by(made)


def _made_by(made: Any) -> Any:
    if isinstance(made, types.FunctionType):
        return made.__module__, made.__qualname__, made.__code__.co_filename, made.__code__
    if not is_local_class(made):
        return id(made)
    functions = [(name, f.__code__) for name, f in vars(made).items() if isinstance(f, types.FunctionType)]
    around = (*made.__bases__, type(made))
    return made.__module__, made.__qualname__, tuple(functions), tuple(map(_made_by, around)) if functions else id(made)


def _at(params: Any, path: str) -> Any:
    for name in path.split("."):
        params = getattr(params, name, None)
    return params
