"""Where names lead: through the imports of a project's modules to the definitions."""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curidask.core.code.source_files import FRAMEWORK, MAIN, Sources
from curidask.core.code.source_identity import Function
from curidask.core.code.source_modules import Statement, Table, chain_of, table_of, table_of_cells, table_of_function
from curidask.core.code.source_names import WHOLE, Import, Unseen, Use

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
    table : Table
    around : Scope or None
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
    name : str
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
    scope : Scope
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
