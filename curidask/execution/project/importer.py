"""Importing a project's modules: ordinary imports, out of the sources that were there when a run began.

On the driver each source is kept as it was imported. On a worker the same sources are what is imported, from the
project's folder where the worker sees it and from a folder of the run elsewhere; an edit in between changes nothing. In
both, what curidask, dask and the standard library import for themselves is never a file of the project.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import linecache
import os
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from typing import Any

from curidask.execution.project.imports import FRAMEWORK, is_elsewhere, is_own_file, top_level_imports

# --- names of modules that a project cannot have for its own files, since what curidask needs has them ---------------
# A process has one module of a name. If a project's ``queue.py`` were that one, dask would get it too, or the project
# would not get it where dask came first. So it never is: in each process of a run alike, by what the driver finds out
# when the run begins.

ROOTS = ("curidask", "distributed")


def may_be_taken(name: str, outside: Sequence[str]) -> bool:
    """Whether a top-level name is that of something outside of a project that others than the project import.

    Parameters
    ----------
    outside : sequence of str
        Where to look for it.
    """
    if name in sys.builtin_module_names:
        return True
    if PathFinder.find_spec(name, outside) is None:
        return False
    return name in sys.stdlib_module_names or name in _needed()


def is_taken(name: str) -> bool:
    """Whether such a name is that of something that is there already, or that we need.

    Of the standard library those are taken that are loaded once dask, numpy and pandas are: the others Python would
    look for in the project's folder first.
    """
    return name not in sys.stdlib_module_names or name in sys.modules or name in sys.builtin_module_names


@functools.cache
def _needed() -> frozenset[str]:
    """The names that the packages bring which curidask can use, and which those need."""
    import importlib.metadata

    found: set[str] = set()
    pending = [*ROOTS]
    while pending:
        name = _normal(pending.pop())
        if name not in found:
            found.add(name)
            pending += _requirements(name)
    by_name = importlib.metadata.packages_distributions()
    return frozenset(name for name, owners in by_name.items() if found.intersection(map(_normal, owners)))


def _requirements(distribution: str) -> Iterator[str]:
    import importlib.metadata

    try:
        lines: Iterable[str] = importlib.metadata.requires(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        if distribution in ROOTS or "extra ==" not in line:
            yield re.split(r"[^\w.-]", line, maxsplit=1)[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- importer --------------------------------------------------------------------------------------------------------
OFTEN_IMPORTED = ("distributed", "numpy", "pandas")

Read = Callable[[str], bytes | None]
"""Gives the source of a file; None for one that is not among the sources."""


# --- importing -------------------------------------------------------------------------------------------------------
class ProjectLoader(SourceFileLoader):
    """Loads a module out of its source, never out of byte code, which may be that of another version."""

    def __init__(self, fullname: str, path: str, read: Read) -> None:
        super().__init__(fullname, path)
        self._read = read

    def get_data(self, path: str) -> bytes:
        """The source, or what else lies beside it."""
        found = self._read(path) if path == self.path else None
        return super().get_data(path) if found is None else found

    def get_code(self, fullname: str) -> types.CodeType:
        """Compile the source, and let tracebacks show it whatever becomes of the file."""
        source = self.get_data(self.path)
        lines = importlib.util.decode_source(source).splitlines(keepends=True)
        linecache.cache[self.path] = (len(source), None, lines, self.path)
        code: types.CodeType = self.source_to_code(source, self.path)
        return code


class _FolderFinder:
    """Finds the modules in one folder of a project."""

    def __init__(self, folder: str, read: Read, known: Callable[[], Collection[str]]) -> None:
        self._folder = folder
        self._read = read
        self._known = known
        self._disk = FileFinder(
            folder,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (SourceFileLoader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    def find_spec(self, fullname: str, target: Any = None) -> ModuleSpec | None:
        """Look among the sources first, where a file may lie that is not on the disk any more."""
        base = os.path.join(self._folder, fullname.rpartition(".")[2])
        for path, inside in ((os.path.join(base, "__init__.py"), [base]), (f"{base}.py", None)):
            if path in self._known():
                return self._spec(fullname, path, inside)
        found = self._disk.find_spec(fullname, target)
        if found is not None and type(found.loader) is SourceFileLoader and found.origin is not None:
            return self._spec(fullname, found.origin, found.submodule_search_locations)
        if found is None and any(name.startswith(base + os.sep) for name in self._known()):
            found = ModuleSpec(fullname, None)
            found.submodule_search_locations = [base]
        return found

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Give names and whether they are packages: for `pkgutil`, which looks for plug-ins."""
        listed = pkgutil.iter_importer_modules(self._disk)  # type: ignore[attr-defined]  # its stubs do not have it
        found: dict[str, bool] = dict(listed)
        for path in self._known():
            name, _, inside = path.removeprefix(self._folder + os.sep).partition(os.sep)
            if path.startswith(self._folder + os.sep) and (inside == "__init__.py" or name.endswith(".py")):
                found.setdefault(name.removesuffix(".py"), bool(inside))
        found.pop("__init__", None)
        yield from ((prefix + name, found[name]) for name in sorted(found))

    def _spec(self, fullname: str, path: str, inside: list[str] | None) -> ModuleSpec | None:
        loader = ProjectLoader(fullname, path, self._read)
        return importlib.util.spec_from_file_location(fullname, path, loader=loader, submodule_search_locations=inside)

    def invalidate_caches(self) -> None:
        """Look at the disk again."""
        self._disk.invalidate_caches()


class _OutsideFinder:
    """Gives a name that is taken to the one that has it, whoever imports it and whatever the project has."""

    def __init__(self, project: ImportedProject) -> None:
        self._project = project

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find the module outside of the project; None to go on as usual."""
        if path is not None or fullname not in self._project.taken or fullname in sys.builtin_module_names:
            return None
        found = PathFinder.find_spec(fullname, self._project.outside(), target)
        if found is None:
            raise ModuleNotFoundError(f"No module named {fullname!r} outside of the project", name=fullname)
        return found

    def invalidate_caches(self) -> None:
        """Nothing is kept."""


class ImportedProject:
    """A project whose modules this process imports; one at a time.

    Parameters
    ----------
    root : Path
        Its folder here.
    folders : sequence of str
        Where to import from, in order: the root, or folders below it. Those that are not on ``sys.path`` come to its
        beginning.
    sources : mapping of str to bytes, optional
        What is imported, by path here. Without, it is what lies on the disk when it is imported, which is kept.
    packages : mapping of str to sequence of str
        Folders that are packages without an ``__init__.py``, by name: otherwise an installed package of that name
        would be found instead, since a folder without one comes last, wherever it lies on the path.
    origin : str, optional
        Its folder on the driver; the same by default.
    always : sequence of str
        Names that are the project's even if Python has modules of that name.
    taken : mapping of str to str, optional
        As the attribute, where the driver has found it out.

    Attributes
    ----------
    records : bool
        Whether sources are kept as they are imported, as on the driver.
    is_fixed : bool
        Whether a file that was read already is imported as it was then, and not as it is now.
    taken : dict of str to str
        Names that are not the project's though it has such files, with the files; see
        `curidask.execution.project.importer`. What a script has imported before it entered the project is what
        Python gave it, and remains.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[str],
        sources: Mapping[str, bytes] | None = None,
        packages: Mapping[str, Sequence[str]] | None = None,
        origin: str = "",
        always: Sequence[str] = (),
        taken: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.origin = origin or str(root)
        self._always = always
        self.folders = list(folders)
        self.sources = dict(sources or {})
        self.records = sources is None
        self.is_fixed = False
        self._packages = dict(packages or {})
        self._outside_finder = _OutsideFinder(self)
        self._path_before: list[str] = []
        self._set_aside: dict[str, types.ModuleType] = {}
        self.taken = dict(taken or {})

    def copied(self) -> ImportedProject:
        """The same for another process on this machine."""
        return ImportedProject(
            self.root, self.folders, self.sources, self._packages, self.origin, self._always, self.taken
        )

    def enter(self) -> None:
        """Import from this project from now on."""
        if self.records:
            self.taken = self._find_taken()
        self._set_aside = self._others()
        for name in self._set_aside:
            del sys.modules[name]
        self._path_before = list(sys.path)
        sys.path[:0] = [folder for folder in self.folders if folder not in sys.path]
        sys.path_hooks.insert(0, self._hook)
        sys.meta_path.insert(0, self._outside_finder)
        self._forget_finders()
        for name, places in self._packages.items():
            if "." not in name:  # the others are found in those
                _make_package(name, places)
        importlib.invalidate_caches()

    def _find_taken(self) -> dict[str, str]:
        names = dict(_top_level(self.folders, self.sources))
        outside = self.outside()
        free = {*self._packages, *self._always, FRAMEWORK}
        names = {name: file for name, file in names.items() if name not in free and may_be_taken(name, outside)}
        own = [name for name in names if name in sys.modules and self.owns(sys.modules[name])]
        if names:
            _load_others({name: sys.modules.pop(name) for name in own}, outside)
        return {name: file for name, file in names.items() if name not in own and is_taken(name)}

    def _others(self) -> dict[str, types.ModuleType]:
        """Modules of something else under names of the project, and their submodules."""
        names = {*self._packages, *(name for name, _ in _top_level(self.folders, self.sources))} - {
            FRAMEWORK,
            "__main__",
        }
        foreign = [name for name in names - self.taken.keys() if name in sys.modules]
        tops = {name for name in foreign if not self.owns(sys.modules[name])}
        return {name: m for name, m in list(sys.modules.items()) if tops and name.partition(".")[0] in tops}

    def taken_imports(self) -> dict[str, str]:
        """Names that the project's sources import and that are taken, with the project's files of that name."""
        imported: set[str] = set()
        for path, source in self.sources.items() if self.taken else ():
            if path.endswith(".py"):
                imported |= top_level_imports(source)
        return {name: file for name, file in sorted(self.taken.items()) if name in imported}

    def leave(self) -> None:
        """Forget the project's modules, and import from it no more."""
        loaded = {name: m for name, m in list(sys.modules.items()) if not name.startswith("__")}
        added = tuple(os.path.join(entry, "") for entry in sys.path if entry and entry not in self._path_before)
        own = {name: m for name, m in loaded.items() if self.owns(m) or self._is_below(m, added)}
        for name, module in own.items():
            del sys.modules[name]
            _unbind(name, module)
        sys.path[:] = [entry for entry in sys.path if entry in self._path_before]
        if self._hook in sys.path_hooks:
            sys.path_hooks.remove(self._hook)
        if self._outside_finder in sys.meta_path:
            sys.meta_path.remove(self._outside_finder)
        self._forget_finders()
        sys.modules.update(self._set_aside)
        for path in self.sources:
            linecache.cache.pop(path, None)

    def owns(self, module: types.ModuleType) -> bool:
        """Whether a loaded module is the project's own."""
        file = getattr(module, "__file__", None)
        if file:
            top = module.__name__.partition(".")[0]
            return top != FRAMEWORK and is_own_file(file, self.root)
        places = list(getattr(module, "__path__", []))
        return bool(places) and all(is_own_file(Path(place, "x"), self.root) for place in places)

    def _is_below(self, module: types.ModuleType, added: tuple[str, ...]) -> bool:
        """Whether a module was found in a folder beside the project, which the project has put on the path."""
        return (getattr(module, "__file__", None) or "").startswith(added) and is_elsewhere(module, self.root)

    def path(self) -> list[str]:
        """The entries of ``sys.path`` that are the project's."""
        return [entry for entry in sys.path if is_own_file(Path(entry, "x").absolute(), self.root)]

    def outside(self) -> list[str]:
        """The entries of ``sys.path`` that are not."""
        own = set(self.path())
        return [entry for entry in sys.path if entry not in own]

    def source(self, path: str) -> bytes:
        """The source of a file as it was imported, or as it is now when it was not imported yet."""
        if path not in self.sources:
            self.sources[path] = Path(path).read_bytes()
        return self.sources[path]

    def _hook(self, path: str) -> _FolderFinder:
        if not is_own_file(Path(path, "x"), self.root) or not (os.path.isdir(path) or self._has_below(path)):
            raise ImportError
        return _FolderFinder(path, self._read, self._known)

    def _has_below(self, path: str) -> bool:
        return any(name.startswith(path + os.sep) for name in self.sources)

    def _known(self) -> Collection[str]:
        """The files that are imported whatever lies on the disk."""
        return () if self.records and not self.is_fixed else self.sources

    def _read(self, path: str) -> bytes | None:
        if self.records and not (self.is_fixed and path in self.sources):
            self.sources[path] = Path(path).read_bytes()
        return self.sources.get(path)

    def _forget_finders(self) -> None:
        for path in list(sys.path_importer_cache):
            if is_own_file(Path(path, "x"), self.root):
                del sys.path_importer_cache[path]


def _top_level(folders: Iterable[str], sources: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names that can be imported from folders, with the file or folder."""
    for folder in folders:
        inside = {path[len(folder) + 1 :].partition(os.sep)[0] for path in sources if path.startswith(folder + os.sep)}
        for entry in {*inside, *(os.listdir(folder) if os.path.isdir(folder) else ())}:
            path = os.path.join(folder, entry)
            name, extension = os.path.splitext(entry)
            if extension == ".py" or (not extension and os.path.exists(os.path.join(path, "__init__.py"))):
                yield name, path


def _load_others(own: Mapping[str, types.ModuleType], outside: list[str]) -> None:
    """Load what others than the project load, so that they do not get the project's files under names of Python's.

    That is dask, and the packages that stages import most, on workers maybe before the project.
    """
    before, sys.path[:] = list(sys.path), outside
    try:
        for package in OFTEN_IMPORTED:
            if PathFinder.find_spec(package, outside) is not None:
                importlib.import_module(package)
    finally:
        sys.path[:] = before
        sys.modules.update(own)


def _make_package(name: str, places: Sequence[str]) -> None:
    if list(getattr(sys.modules.get(name), "__path__", [])) == list(places):
        return
    for other in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
        del sys.modules[other]  # another project's, or an installed package
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = list(places)
    sys.modules[name] = importlib.util.module_from_spec(spec)


def _unbind(name: str, module: types.ModuleType) -> None:
    """Let the package around a module forget it too."""
    parent, _, child = name.rpartition(".")
    if parent in sys.modules and vars(sys.modules[parent]).get(child) is module:
        delattr(sys.modules[parent], child)


_entered: list[ImportedProject] = []


def enter(project: ImportedProject) -> None:
    """Import from a project, and from no other one."""
    leave()
    project.enter()
    _entered.append(project)


def leave() -> None:
    """Forget the project that was entered."""
    while _entered:
        _entered.pop().leave()


def path_on_driver(path: str) -> str:
    """The path of a project's file as the user knows it, for messages."""
    if not _entered:
        return path
    root, origin = str(_entered[0].root), _entered[0].origin
    return origin + path[len(root) :] if path.startswith(root + os.sep) else path


def entered() -> ImportedProject | None:
    """The project that this process imports from."""
    return _entered[0] if _entered else None
