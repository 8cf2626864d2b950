"""The code of a stage as a part of its keys: what its function reaches, and the methods of the parameters it gets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.errors import StageDefinitionError
from curidask.hash_fields import field_values, has_fields
from curidask.hashing import digest
from curidask.source_files import LoadedSources, Sources
from curidask.source_place import closure_values
from curidask.source_reach import CodeOf, Part, code_of, methods_of
from curidask.stage_spec import IGNORE, TRACK, WARN, StageSpec

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
    _known: dict[tuple[int, tuple[type, ...]], StageCode] = field(default_factory=dict)
    _specs: list[StageSpec] = field(default_factory=list)

    @property
    def by_key(self) -> dict[str, StageCode]:
        """The code of all stages that were called, by what enters their keys."""
        return {code.key: code for code in self._known.values()}

    def of(self, spec: StageSpec, params: Any, gathered: Iterable[Any] = ()) -> StageCode:
        """The code of a stage that gets such a parameter set, and gathers records with such ones.

        Raises
        ------
        StageDefinitionError
            For a file in `extra_code` that cannot be read.
        UnstableHashError
            For a value in the stage's closure.
        """
        kinds = tuple(_kinds(spec, params, gathered))
        known = self._known.get((id(spec), kinds))
        if known is None:
            self._specs.append(spec)  # or another might get its address
            known = self._known[id(spec), kinds] = self._made(spec, kinds)
        return known

    def _made(self, spec: StageSpec, kinds: tuple[type, ...]) -> StageCode:
        if spec.version:
            return StageCode(f"version {spec.version}")
        mode = spec.code or self.mode
        if mode == IGNORE:
            return StageCode()
        try:
            found: list[CodeOf] = [code_of(spec.function, self.sources)]
            found += [methods_of(kind, self.sources) for kind in kinds]
            held = closure_values(spec.function, self.sources)
        except Exception as error:  # of ours: nothing of the project is run to read it
            raise StageDefinitionError(
                f"The code of the stage {spec.name!r} could not be read ({type(error).__name__}: {error}).",
                where=spec.where,
                fix="give it a version, as in `@stage(..., version='1')`, which then stands for its code",
            ) from error
        where = f"{spec.where}, which was made in a function"
        given = digest(dict(held), where=where) if held else ""
        extra = [self._extra(spec, each) for each in spec.extra_code]
        whole = digest(("code", [code.digest for code in found], given, [of_extra for of_extra, _ in extra]))
        reached = [part for code in found for part in code.parts] + [part for _, parts in extra for part in parts]
        parts = tuple({part.name: part for part in reached}.values())
        unfollowed = tuple(dict.fromkeys(text for code in found for text in code.unfollowed))
        packages = tuple(sorted({name for code in found for name in code.packages}))
        return StageCode(whole if mode == TRACK else "", whole if mode == WARN else "", parts, unfollowed, packages)

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


CodeOfStage = Callable[[StageSpec, Any, Iterable[Any]], StageCode]


def no_code(spec: StageSpec, params: Any, gathered: Iterable[Any]) -> StageCode:
    """Nothing, for a graph in which code does not count."""
    return StageCode()


def _kinds(spec: StageSpec, params: Any, gathered: Iterable[Any]) -> Iterator[type]:
    """The classes of the parameter sets that a stage gets, and of what it uses of them, by their names."""
    found: dict[type, None] = {}
    if spec.params is None:
        _add_kinds([params], found)
    elif params is not None:
        found[type(params)] = None
        _add_kinds([_at(params, name) for name in spec.params], found)
    _add_kinds(gathered, found)
    yield from sorted(found, key=lambda kind: kind.__qualname__)


def _add_kinds(values: Iterable[Any], found: dict[type, None]) -> None:
    """Add the classes of what has fields, and of what is in these."""
    pending = list(values)
    while pending:
        value = pending.pop()
        if has_fields(type(value)):
            found[type(value)] = None
            pending += [held for held in field_values(value).values() if has_fields(type(held))]


def _at(params: Any, path: str) -> Any:
    for name in path.split("."):
        params = getattr(params, name, None)
    return params
