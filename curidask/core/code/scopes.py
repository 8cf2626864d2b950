"""Where the sources of modules are read, and where names lead in them: through imports to the definitions."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.machinery
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from curidask.core.code.canonical_source import Function
from curidask.core.code.identity import is_installed_file, is_typed
from curidask.core.code.modules import Statement, Table, chain_of, table_of, table_of_cells, table_of_function
from curidask.core.code.names import WHOLE, Import, Unseen, Use

# --- where the source of a module is read: as it was loaded, and from a notebook's cells -----------------------------
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


# --- where names lead: through the imports of a project's modules to the definitions ---------------------------------
UNKNOWN = "unknown name"

_BUILTINS = frozenset(dir(builtins))

ALL_OF_OTHERS = "*import"
"""Stands for what a module takes with a star from installed packages."""


@dataclass(eq=False)
class Scope:
    """A place in which names are looked up: a module, or a function's body within one.

    Attributes
    ----------
    title : str
        For people, with a dot at its end unless it is empty.
    package : str
        What relative imports start from.
    problem : str
        Why its source cannot be followed; empty if it can.
    """

    title: str
    package: str
    table: Table
    around: Scope | None = None
    problem: str = ""

    @property
    def module(self) -> str:
        """The name of the module, of a scope that is one."""
        return self.title.rstrip(".") or MAIN[0]

    def absolute(self, what: Import) -> str:
        """The full name of the module that is imported from."""
        package = self.package.split(".") if what.level else []
        return ".".join(filter(None, [*package[: len(package) - what.level + 1], what.module]))

    @functools.cached_property
    def imports(self) -> list[tuple[str, list[str]]]:
        """The modules that are imported, each after those that it is in, and what is taken from them."""
        found: dict[str, list[str]] = {}
        for what in self.table.imports:
            parts = self.absolute(what).split(".")
            for end in range(1, len(parts) + 1):
                found.setdefault(".".join(parts[:end]), [])
            found[".".join(parts)] += [what.name] if what.name else []
        return list(found.items())


Key: TypeAlias = "tuple[Scope, str | Statement]"
"""A definition: a name in a scope, all of a module (`WHOLE`), or one statement by itself."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a name leads to that is no definition of the project.

    Attributes
    ----------
    kind : str
        "installed", "parameter" (of a function around), or why it cannot be followed.
    """

    name: str
    kind: str = "installed"


Target: TypeAlias = "Key | Outside"


@functools.lru_cache(maxsize=256)
def _without_source(name: str) -> Table:
    return Table([])


# --- from a name to a definition -------------------------------------------------------------------------------------
@dataclass(eq=False)
class Resolver:
    """Follows names through the modules of a project."""

    sources: Sources
    _modules: dict[str, Scope | None] = field(default_factory=dict)

    def module(self, name: str) -> Scope | None:
        """A module of the project; None for one that is not the project's."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def is_local(self, name: str) -> bool:
        """Whether a module is the project's."""
        return self.module(name) is not None

    def _read(self, name: str) -> Scope | None:
        source = self.sources.module(name) if name else None
        if source is None:
            return None
        table = (table_of_cells if source.is_cells else table_of)(source.texts)
        problem = "" if table is not None else "syntax error in"
        if not source.texts and not source.is_cells:
            problem = "C extension"
        table = table or _without_source(name)
        key = ("" if name in MAIN else f"{name}.", source.package, problem)
        if key not in table.scopes:  # the same one as long as the source is
            table.scopes[key] = Scope(key[0], source.package, table, problem=problem)
        scope: Scope = table.scopes[key]
        return scope

    def resolve(self, scope: Scope, use: Use) -> list[Target]:
        """The definitions that a name with attributes may lead to, in order."""
        seen: set[Any] = set()
        if use.root == WHOLE:
            return [(_outermost(scope), WHOLE)]
        if isinstance(use.root, str):
            found = self._look_up(scope, use.root, use.steps, seen)
            return found if use.is_sure else [t for t in found if isinstance(t, tuple) or t.kind != UNKNOWN]
        return [target for what in use.root for target in self.follow(scope, what, use.steps, seen)]

    def _look_up(self, scope: Scope, name: str, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        if name in scope.table.entries:
            return self._entry(scope, name, steps, seen)
        if name in scope.table.parameters:
            return [Outside(name, "parameter")]
        if scope.around is not None:
            return self._look_up(scope.around, name, steps, seen)
        found = self._from_stars(scope, name, steps, seen)
        is_known = found or name in _BUILTINS or (name.startswith("__") and name.endswith("__"))
        return found if is_known else [Outside(name, UNKNOWN)]

    def _entry(self, scope: Scope, name: str, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        if (scope, name, steps) in seen:
            return []
        seen.add((scope, name, steps))
        statements = scope.table.entries[name]
        found = [t for s in statements for what in s.bound.get(name, ()) for t in self.follow(scope, what, steps, seen)]
        is_own = scope.table.is_contested(name) or any(name in s.bound and not s.is_import for s in statements)
        is_own = is_own or (
            any(isinstance(t, Outside) and t.kind == "installed" for t in found)
            and any(s.is_import for s in statements)
        )
        return [(scope, name), *found] if is_own else found

    def _from_stars(self, scope: Scope, name: str, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        found: list[Target] = []
        if (scope, name, "*") in seen:
            return found
        seen.add((scope, name, "*"))
        for what in scope.table.stars:
            module = scope.absolute(what)
            other = self.module(module)
            if other is None:
                found.append((scope, ALL_OF_OTHERS))
            elif name in (other.table.exported or (name,)) and (other.table.exported or not name.startswith("_")):
                found += self._member(module, name, steps, seen)
        return [target for target in dict.fromkeys(found) if isinstance(target, tuple) or target.kind != UNKNOWN]

    def follow(self, scope: Scope, what: Import, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        """The definitions that an import, with the attributes asked of it, leads to."""
        module = scope.absolute(what)
        return self._member(module, what.name, steps, seen) if what.name else self._of_module(module, steps, seen)

    def _of_module(self, module: str, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        if steps:
            return self._member(module, steps[0], steps[1:], seen)
        scope = self.module(module)
        if scope is None:
            return [Outside(module)]
        return [Outside(module, scope.problem)] if scope.problem else [(scope, WHOLE)]

    def _member(self, module: str, name: str, steps: tuple[str, ...], seen: set[Any]) -> list[Target]:
        scope = self.module(module)
        if scope is None:
            return [Outside(f"{module}.{name}")]
        if scope.problem:
            return [Outside(module, scope.problem)]
        found: list[Target] = []
        if name in scope.table.entries:
            found = self._entry(scope, name, steps, seen)
        if not found and self.is_local(f"{module}.{name}"):
            return self._of_module(f"{module}.{name}", steps, seen)
        found = found or self._from_stars(scope, name, steps, seen)
        if found or name in scope.table.entries:
            return found
        if "__getattr__" in scope.table.entries or name == "__dict__":
            return [(scope, WHOLE)]
        return [] if name.startswith("__") else [Outside(f"{module}.{name}", UNKNOWN)]


def _outermost(scope: Scope) -> Scope:
    while scope.around is not None:
        scope = scope.around
    return scope


# --- what modules change of each other -------------------------------------------------------------------------------
Changes: TypeAlias = dict[Key, list[tuple[Scope, Statement]]]


def imported_scopes(resolver: Resolver, modules: Iterable[str]) -> Iterator[Scope]:
    """These modules and all that they import, directly or not, of the project."""
    pending = list(modules)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        scope = None if name in seen else resolver.module(name)
        seen.add(name)
        if scope is None:
            continue
        yield scope
        for module, names in scope.imports:
            pending.append(module)
            found = resolver.module(module)
            # What is imported from a package may be a module, also where the package itself imports it so.
            pending += [f"{module}.{n}" for n in names if found is not None and not _is_defined(found, n)]


_LOADING = frozenset(("import_module", "__import__"))
"""What imports modules."""


def find_unseen_imports(resolver: Resolver, scopes: Iterable[Scope]) -> dict[tuple[Scope, Unseen], str]:
    """What modules import under computed names when they are imported, themselves or by a function that they call."""
    found: dict[tuple[Scope, Unseen], str] = {}
    for scope in scopes:
        run = [s for s in scope.table.statements if not isinstance(s.node, Function | ast.ClassDef) and not s.is_cell]
        for statement in run if scope.module not in MAIN else ():
            for of, unseen in _unseen_imports(resolver, scope, statement, set()):
                found[of, unseen] = f"{unseen.what} in {of.module} (line {unseen.line})"
    return found


def _unseen_imports(
    resolver: Resolver, scope: Scope, statement: Statement, seen: set[Key]
) -> Iterator[tuple[Scope, Unseen]]:
    yield from ((scope, unseen) for unseen in statement.names.unseen if unseen.what in _LOADING)
    for key in (key for call in statement.names.calls for key in _keys(resolver.resolve(scope, call))):
        if key not in seen and isinstance(key[1], str):
            seen.add(key)
            of = [s for s in key[0].table.entries.get(key[1], ()) if isinstance(s.node, Function) and not s.is_stage]
            yield from (each for inner in of for each in _unseen_imports(resolver, key[0], inner, seen))


def _is_defined(scope: Scope, name: str) -> bool:
    """Whether a name of a module is bound by more than imports."""
    return any(name in s.bound and not s.is_import for s in scope.table.entries.get(name, ()))


def find_changes(resolver: Resolver, scopes: Iterable[Scope]) -> Changes:
    """Statements that change names of other modules, and those that do so by what they call."""
    found: Changes = {}
    for scope in scopes:
        for statement in scope.table.statements:
            for key in dict.fromkeys(_changed_by(resolver, scope, statement)):
                if statement not in key[0].table.entries.get(str(key[1]), ()):
                    found.setdefault(key, []).append((scope, statement))
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """A statement that sets something for the whole process.

    Attributes
    ----------
    label : str
        What it calls, as it is written.
    packages : frozenset of str
        Of which it sets something, by their top-level names.
    within : Statement
        The one of the module that it is, or is in.
    """

    scope: Scope
    label: str
    packages: frozenset[str]
    within: Statement


def find_settings(resolver: Resolver, scopes: Iterable[Scope]) -> dict[Statement, Setting]:
    """Statements that set something of packages for the whole process."""
    found: dict[Statement, Setting] = {}
    for scope in scopes:
        for outer, use, statement in ((s, *each) for s in scope.table.statements for each in s.settings):
            targets = resolver.resolve(scope, use)
            tops = {top for target in targets for top in _set_by(resolver, target, scope.module in MAIN, set())}
            if tops - {FRAMEWORK}:
                found[statement] = Setting(scope, use.label, frozenset(tops), outer)
    return found


def _set_by(resolver: Resolver, target: Target, is_script: bool, seen: set[Key]) -> Iterator[str]:
    """The packages of which something is set when this is called; a script calls for other reasons, too."""
    if isinstance(target, Outside):
        yield from [target.name.partition(".")[0]] if target.kind == "installed" else []
        return
    scope, name = target
    if is_script or target in seen or not isinstance(name, str):
        return
    seen.add(target)
    for statement in scope.table.entries.get(name, ()):
        if isinstance(statement.node, Function) and name in statement.bound and not statement.is_stage:
            inner = Scope(scope.title, scope.package, table_of_function(statement.node, statement.lines), scope)
            uses = [use for part in inner.table.statements for use, _ in part.settings]
            for other in (other for use in uses for other in resolver.resolve(inner, use)):
                yield from _set_by(resolver, other, is_script, seen)


def _changed_by(resolver: Resolver, scope: Scope, statement: Statement) -> Iterator[Key]:
    """What a statement changes: of other modules, and by what it calls."""
    for use in statement.changes:
        yield from (key for key in _keys(resolver.resolve(scope, use)) if key[0] is not scope)
    for use in statement.filled:
        yield from (k for k in _keys(resolver.resolve(scope, use)) if k[0].table.is_constant(str(k[1])))
    for call in statement.calls:
        for key in _keys(resolver.resolve(scope, call)):
            yield from _effects(resolver, key, isinstance(statement.node, ast.ClassDef), set())


def _effects(resolver: Resolver, key: Key, is_derived: bool, seen: set[Key]) -> Iterator[Key]:
    """What a function changes when it is called, or a class when another is derived from it."""
    if key in seen:
        return
    seen.add(key)
    scope, name = key
    for statement in scope.table.entries.get(str(name), ()):
        is_class = isinstance(statement.node, ast.ClassDef)
        is_run = not statement.is_stage if isinstance(statement.node, Function) else is_class and is_derived
        if name not in statement.bound or not is_run:
            continue
        if statement.sees_subclasses:
            yield key
        uses = statement.names.changes if not is_class or statement.sees_subclasses else ()
        inner = [use for base in statement.bases for use in chain_of(base)] if is_class else statement.names.calls
        yield from (changed for use in uses for changed in _keys(resolver.resolve(scope, use)))
        for use in inner:
            for other in _keys(resolver.resolve(scope, use)):
                yield from _effects(resolver, other, is_class, seen)


def _keys(targets: Iterable[Target]) -> Iterator[Key]:
    return (target for target in targets if isinstance(target, tuple) and target[1] != WHOLE)
