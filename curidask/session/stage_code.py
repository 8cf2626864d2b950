"""The code of a stage as a part of its keys: what its function reaches, and the methods of the parameters it gets."""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.core.code.class_identity import is_local_class
from curidask.core.code.code_identity import has_source
from curidask.core.code.code_in_values import ObjectsOf, code_in, unread
from curidask.core.code.reloading import Name, Reloaded
from curidask.core.code.source_files import LoadedSources, Sources
from curidask.core.code.source_place import closure_values
from curidask.core.code.source_reach import CodeOf, Part, code_of, methods_of
from curidask.core.hash_fields import has_fields
from curidask.core.spec import IGNORE, TRACK, WARN, StageSpec
from curidask.errors import StageDefinitionError, UnstableHashError
from curidask.hashing import digest

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
    sources : Sources, optional
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
