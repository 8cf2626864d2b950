"""Where the source of a module is read: as it was loaded, and from a notebook's cells."""

from __future__ import annotations

import importlib.machinery
import linecache
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from curidask.core.code.code_identity import is_installed_file, is_typed

FRAMEWORK = "curidask"
MAIN = ("__main__", "__mp_main__")


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The source of one of the project's modules.

    Attributes
    ----------
    texts : tuple of str
        One text; of a notebook or a session each cell that was run, in this order; none of an extension module.
    package : str
        What its relative imports start from, as ``__package__``.
    is_cells : bool
    """

    texts: tuple[str, ...]
    package: str = ""
    is_cells: bool = False


class Sources(Protocol):
    """The sources of a project."""

    def module(self, name: str) -> ModuleSource | None:
        """The source of a module; None for one that is installed, Python's own, or not there."""

    def text(self, filename: str) -> str | None:
        """What code was compiled from that says it comes from this file; None where that is not known."""


def read_loaded(filename: str) -> str | None:
    """The source of a file as it was when it was first asked for, or imported by a project's loader."""
    lines = linecache.getlines(filename)
    known = _JOINED.get(filename)
    if known is None or known[0] is not lines:
        known = _JOINED[filename] = (lines, "".join(lines))
    return known[1] or None


_JOINED: dict[str, tuple[list[str], str]] = {}
"""Sources in one piece, beside the lines that they were made of."""


@dataclass(eq=False)
class LoadedSources:
    """The sources of this process's modules, and of those that they would import.

    Parameters
    ----------
    owns : callable, optional
        Whether a file is the project's. Without it, each is that is neither installed nor Python's.
    read : callable, optional
        Gives the source of a file, None for one that it does not have; without it, see `read_loaded`.
    """

    owns: Callable[[str], bool] = lambda file: not is_installed_file(file)
    read: Callable[[str], str | None] = read_loaded
    _installed: set[str] = field(default_factory=set, repr=False)
    _owned: dict[str, bool] = field(default_factory=dict, repr=False)

    def module(self, name: str) -> ModuleSource | None:
        """See `Sources`; nothing is imported to find a module."""
        if name in MAIN:
            return self._main(sys.modules[name]) if name in sys.modules else None
        top = name.partition(".")[0]
        if top in self._installed or (top != name and self.module(top) is None):
            return None
        found = self._found(name)
        if found is None and name == top and name in sys.modules:
            self._installed.add(name)
        return found

    def text(self, filename: str) -> str | None:
        """See `Sources`."""
        if filename.startswith("<") and not is_typed(filename):
            return None
        entry = linecache.cache.get(filename, ())
        is_cell = len(entry) == 4 and entry[1] is None  # what is there without a file
        return read_loaded(filename) if is_cell else self.read(filename)

    def _owns(self, file: str) -> bool:
        if file not in self._owned:
            self._owned[file] = self.owns(file)
        return self._owned[file]

    def _found(self, name: str) -> ModuleSource | None:
        spec = None if name.partition(".")[0] == FRAMEWORK else _spec_of(name)
        if spec is None:
            return None
        inside = spec.submodule_search_locations
        if spec.origin is None or not spec.has_location:  # a package without an `__init__.py`
            places = [f"{place}/__init__.py" for place in inside or ()]
            return ModuleSource(("",), name) if places and all(map(self._owns, places)) else None
        if not self._owns(spec.origin):
            return None
        text = None if spec.origin.endswith(tuple(_COMPILED)) else self.read(spec.origin)
        texts = () if spec.origin.endswith(tuple(_COMPILED)) else (text or "",)
        return ModuleSource(texts, name if inside is not None else name.rpartition(".")[0])

    def _main(self, main: types.ModuleType) -> ModuleSource:
        package = str(main.__package__ or "")
        cells = vars(main).get("_ih")
        if isinstance(cells, list):
            return ModuleSource(tuple(map(str, cells)), package, is_cells=True)
        file = getattr(main, "__file__", None)
        if file is not None:
            return ModuleSource((self.read(file) or "",), package)
        typed = [(len(name), name) for name in list(linecache.cache) if name.startswith("<python-input-")]
        return ModuleSource(tuple(self.read(name) or "" for _, name in sorted(typed)), package, is_cells=True)


_COMPILED = [*importlib.machinery.EXTENSION_SUFFIXES, *importlib.machinery.BYTECODE_SUFFIXES]


def _of_folders(name: str, path: Iterable[str]) -> importlib.machinery.ModuleSpec:
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    folders = (Path(place, name.rpartition(".")[2]) for place in path)
    spec.submodule_search_locations = [str(folder) for folder in folders if folder.is_dir()]
    return spec


def _places(locations: Any) -> list[str]:
    """The folders of a package; of one without an `__init__.py` as they were found, since it need not be imported."""
    return list(getattr(locations, "_path", locations) or ())


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__spec__", None)
    parent = name.rpartition(".")[0]
    around = _spec_of(parent) if parent else None
    if parent and (around is None or around.submodule_search_locations is None):
        return None
    path = None if around is None else _places(around.submodule_search_locations)
    for finder in sys.meta_path:
        find: Any = getattr(finder, "find_spec", None)
        try:
            spec: importlib.machinery.ModuleSpec | None = None if find is None else find(name, path, None)
        except KeyError:  # a folder in a package that is not imported, neither with an `__init__.py`
            spec = _of_folders(name, path or ())
        if spec is not None:
            return spec
    return None
