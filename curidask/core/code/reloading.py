"""What became of a project's code since it was read: cells that were run, modules loaded anew, names bound anew."""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from curidask.core.code.code_identity import byte_code, is_installed
from curidask.core.code.source_files import Sources
from curidask.core.code.source_place import is_value
from curidask.core.code.source_scopes import Resolver
from curidask.errors import UnstableHashError
from curidask.hashing import digest

Name = tuple[str, str]
"""A module, and a name in it."""


@dataclass(slots=True)
class Reloaded:
    """Tells when code is to be read again.

    Parameters
    ----------
    sources : Sources

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
    """Whether a value is code, data or an object of the project's; not what packages keep, such as a generator."""
    if isinstance(value, types.FunctionType | type):
        return not is_installed(value)
    kind = type(value)
    return (
        is_value(value)
        or not is_installed(kind)
        or kind is types.SimpleNamespace
        or kind.__module__.partition(".")[0] in _TABLES
    )


def _attributes(value: Any) -> dict[str, Any]:
    """What a class or function holds at the moment, as far as that is data: its source says what it began with."""
    held = vars(value) if isinstance(value, types.FunctionType | type) else {}
    return {name: each for name, each in held.items() if not name.startswith("__") and is_value(each)}


_TABLES = ("pandas", "polars", "pyarrow")


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
