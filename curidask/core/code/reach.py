"""What a function or class reaches: the code of a stage, read from the source without running anything.

The rule is that of R's targets: functions and globals, found by their names, and what these reach in turn, as long as
it is the project's. Only the source counts, never a value.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from curidask.core.code.canonical_source import Function, canonical
from curidask.core.code.identity import has_source, public_name
from curidask.core.code.modules import STAGES, Statement, chain_of, digest
from curidask.core.code.names import WHOLE, Names, Unseen, Use, imported, names_of
from curidask.core.code.places import Place, closure_values, find, layers, members, module_of, name_of
from curidask.core.code.scopes import (
    ALL_OF_OTHERS,
    FRAMEWORK,
    MAIN,
    Changes,
    Key,
    LoadedSources,
    Outside,
    Resolver,
    Scope,
    Setting,
    Sources,
    find_changes,
    find_settings,
    find_unseen_imports,
    imported_scopes,
)

# --- the definitions of a project: what counts of one, and to which others it leads ----------------------------------
_RUNNING = frozenset(("subprocess", "runpy"))
"""Modules that run programs."""

_READING = frozenset(
    [*(f"os.{name}" for name in ("system", "popen", "posix_spawn", "posix_spawnp", "startfile"))]
    + ["typing.get_type_hints", "typing_extensions.get_type_hints"]
    + [f"inspect.{name}" for name in ("getdoc", "getsource", "getsourcelines", "get_annotations", "signature")]
)
"""Functions that run a program, or that read of code what does not count."""

HINT_READERS = frozenset(("pydantic", "pydantic_settings", "sqlmodel", "msgspec", "beartype", "typeguard", "typer"))
"""Packages for which type hints are more than hints."""


@dataclass(frozen=True, slots=True)
class Part:
    """A definition that is reached.

    Attributes
    ----------
    name : str
        Module and qualified name, for people.
    kind : str
        "function", "class", "constant", "setting", "module" or "cell".
    digest : str
        Of what counts of its source.
    source : str
        Its source as it stands.
    """

    name: str
    kind: str
    digest: str
    source: str


@dataclass(eq=False)
class Definition:
    """A definition with what it leads to.

    Attributes
    ----------
    leads : list of (str, list of Key)
        By the names in its source.
    unseen : dict of (Scope, Unseen) to str
        What cannot be followed, and how that is told.
    parameters : set of str
        Of functions that it is within, as far as it uses them.
    blind : set of str
        What else it uses that cannot be followed.
    packages : set of str
        Installed ones, by their top-level names, and those of the standard library.
    """

    part: Part
    leads: list[tuple[str, list[Key]]] = field(default_factory=list)
    unseen: dict[tuple[Scope, Unseen], str] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)


@dataclass(eq=False)
class World:
    """Modules as they are, and what was found out about their definitions."""

    changes: Changes
    settings: dict[Statement, Setting] = field(default_factory=dict)
    unseen: dict[tuple[Scope, Unseen], str] = field(default_factory=dict)
    known: dict[Key, Definition] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


_WORLDS: dict[tuple[Scope, ...], World] = {}
_KEPT_WORLDS = 64


def world_of(resolver: Resolver, modules: tuple[str, ...]) -> World:
    """The modules that some are, and that these import: the same as long as none of their sources is another."""
    scopes = tuple(imported_scopes(resolver, modules))
    if scopes not in _WORLDS:
        if len(_WORLDS) >= _KEPT_WORLDS:
            _WORLDS.clear()
        modules = tuple(scope.module for scope in scopes)
        changes, settings = find_changes(resolver, scopes), find_settings(resolver, scopes)
        _WORLDS[scopes] = World(changes, settings, find_unseen_imports(resolver, scopes), modules=modules)
    return _WORLDS[scopes]


@dataclass(eq=False)
class Definitions:
    """Makes definitions.

    Parameters
    ----------
    titles : dict of Statement to str
        How statements are called that are no entries of a module.
    """

    resolver: Resolver
    world: World
    titles: dict[Statement, str] = field(default_factory=dict)

    def is_rebound(self, key: Key) -> bool:
        """Whether the script, or cells that are run again, may bind a name to something else between two calls."""
        scope, name = key
        if scope.around is not None or not isinstance(name, str) or name not in scope.table.entries:
            return False
        by_script = scope.module in MAIN and scope.table.is_repeated(name)
        return by_script or any(other.module in MAIN for other, _ in self.world.changes.get(key, ()))

    def settings(self, found: dict[Key, Definition]) -> Iterator[Key]:
        """The statements that set something of the packages that are used, for the whole process, in any module."""
        packages = {name for made in found.values() for name in made.packages}
        known = {id(statement) for key in found for _, statement in self._pieces(key)}
        for statement, setting in self.world.settings.items():
            if packages & setting.packages and id(setting.within) not in known:
                self.titles[statement] = f"{setting.scope.title}{setting.label}"
                yield setting.scope, statement

    def of(self, key: Key) -> Definition:
        """The definition of a key."""
        scope, what = key
        if scope.around is not None or isinstance(what, Statement):  # which the next call will not find again
            return self._made(key)
        if key not in self.world.known:
            self.world.known[key] = self._made(key)
        return self.world.known[key]

    def _made(self, key: Key) -> Definition:
        pieces = self._pieces(key)
        added = [(scope, s) for scope, s in pieces if _is_registered(s, key[1])]
        pieces = [piece for piece in pieces if piece not in added]
        names = [(scope, Names((Use(s.node.name, (), s.node.name),))) for scope, s in added]
        imports: set[str] = set()
        texts: list[str] = []
        for scope, statement in pieces:
            if statement.is_import:
                bound = [name for name in sorted(statement.bound) if key[1] in (name, WHOLE) and name != "*"]
                names.append((scope, Names(tuple(Use(name, (), name) for name in bound))))
                imports.update(self._installed(scope, statement, key[1]))
            else:
                without, used = self._used(scope, statement)
                names.append((scope, used))
                texts.append(statement.canonical(without, self.resolver.is_local))
                if self._reads_hints(scope, statement, set()):
                    names.append((scope, names_of(*statement.hints)))
                    texts += map(canonical, statement.hints)
        source = "\n".join(statement.source for _, statement in pieces)
        kind = "setting" if key[1] in self.world.settings else _kind(key, pieces)
        made = Definition(Part(self._title(key), kind, digest(*sorted(imports), *texts), source))
        self._add_leads(made, names, key, {id(statement) for _, statement in pieces})
        made.leads += self._in_order(key, pieces)
        return made

    def _in_order(self, key: Key, pieces: list[tuple[Scope, Statement]]) -> Iterator[tuple[str, list[Key]]]:
        """Where the imports lead that bind a name which other statements bind too, with their places among these."""
        scope, name = key
        if not isinstance(name, str) or not scope.table.is_contested(name):
            return
        for place, (of, statement) in enumerate(pieces):
            for what in statement.bound.get(name, ()) if statement.is_import else ():
                targets = self.resolver.follow(of, what, (), set())
                outside = " ".join(target.name for target in targets if isinstance(target, Outside))
                inside = [target for target in targets if isinstance(target, tuple) and target != key]
                yield f"{name} {place} {outside}", inside

    def _title(self, key: Key) -> str:
        scope, what = key
        if isinstance(what, Statement):
            return self.titles[what]
        if what == ALL_OF_OTHERS:
            return f"{scope.title}*"
        return f"{scope.title}{what}" if what != WHOLE else scope.title.rstrip(".") or "notebook"

    def _pieces(self, key: Key) -> list[tuple[Scope, Statement]]:
        scope, what = key
        if isinstance(what, Statement):
            return [(scope, what)]
        statements = scope.table.statements
        if what == WHOLE:
            plain = [s for s in statements if isinstance(s.node, Function) and not s.decorators]
            plain.sort(key=lambda s: str(s.node.name))  # whose order plays no role
            return [(scope, s) for s in [*(s for s in statements if s not in plain), *plain]]
        if what == ALL_OF_OTHERS:
            return [(scope, s) for s in statements if "*" in s.bound]
        changes = self.world.changes.get(key, [])
        ordered = sorted(changes, key=lambda piece: piece[1].canonical((), self.resolver.is_local))
        return [*((scope, s) for s in scope.table.entries[what]), *ordered]

    def _installed(self, scope: Scope, statement: Statement, what: str | Statement) -> Iterator[str]:
        """What an import takes from installed packages, under this name or all."""
        for bound, taken in imported(statement.node):
            is_asked = what in (bound, WHOLE) or (what == ALL_OF_OTHERS and bound == "*")
            module = scope.absolute(taken)
            if is_asked and not taken.level and not self.resolver.is_local(module):
                yield f"{bound} {module} {taken.name}"

    def _used(self, scope: Scope, statement: Statement) -> tuple[tuple[ast.expr, ...], Names]:
        """What decorators of a statement do not count, and what the rest uses; of ``@stage``, its cachers."""
        without, names = [], statement.names
        for decorator, used in statement.decorators:
            if self._is_stage(scope, decorator):
                without.append(decorator)
                names += Names(tuple(use for use in _cachers(decorator) if self._is_own(scope, use)))
            else:
                names += used
        return tuple(without), names

    def _is_own(self, scope: Scope, use: Use) -> bool:
        """Whether a name leads to something that the project defines, and does not only import."""
        found = [target for target in self.resolver.resolve(scope, use) if isinstance(target, tuple)]
        entries = [owner.table.entries.get(what, ()) for owner, what in found if isinstance(what, str)]
        return any(not statement.is_import for statements in entries for statement in statements)

    def _is_stage(self, scope: Scope, decorator: ast.expr) -> bool:
        targets = [target for use in chain_of(decorator) for target in self.resolver.resolve(scope, use)]
        names = [target.name.split(".") for target in targets if isinstance(target, Outside)]
        return any(name[0] == FRAMEWORK and name[-1] in STAGES for name in names)

    def _reads_hints(self, scope: Scope, statement: Statement, seen: set[Statement]) -> bool:
        """Whether a package makes something of the type hints of a definition, as pydantic does."""
        seen.add(statement)
        parts = [*statement.bases, *(decorator for decorator, _ in statement.decorators)]
        for target in (t for part in parts for use in chain_of(part) for t in self.resolver.resolve(scope, use)):
            if isinstance(target, Outside):
                if target.name.partition(".")[0] in HINT_READERS:
                    return True
            elif isinstance(target[1], str) and target[1] in target[0].table.entries:
                around = [s for s in target[0].table.entries[target[1]] if isinstance(s.node, ast.ClassDef)]
                if any(self._reads_hints(target[0], s, seen) for s in around if s not in seen):
                    return True
        return False

    def _add_leads(self, made: Definition, names: list[tuple[Scope, Names]], key: Key, own: set[int]) -> None:
        leads: dict[str, dict[Key, None]] = {}
        for scope, used in names:
            for use in used.uses:
                for target in self.resolver.resolve(scope, use):
                    if isinstance(target, Outside):
                        _note(made, target)
                    elif target != key and not _is_within(target, own):
                        leads.setdefault(use.label, {})[target] = None
            for unseen in used.unseen:
                of = [] if unseen.of is None else self.resolver.resolve(scope, unseen.of)
                if unseen.of is None or any(isinstance(target, tuple) and target[1] == WHOLE for target in of):
                    made.unseen[scope, unseen] = f"{unseen.what} in {made.part.name} (line {unseen.line})"
        made.leads = [(label, list(leads[label])) for label in sorted(leads)]


def _note(made: Definition, outside: Outside) -> None:
    top = outside.name.partition(".")[0]
    if outside.kind == "parameter":
        made.parameters.add(outside.name)
    elif outside.kind != "installed":
        made.blind.add(f"{outside.kind} {outside.name}")
    elif outside.name in _READING or top in _RUNNING:
        made.blind.add(f"{outside.name} in {made.part.name}")
    elif top and top != FRAMEWORK:
        made.packages.add(top)


def _is_within(target: Key, own: set[int]) -> bool:
    scope, what = target
    statements = scope.table.entries.get(what, ()) if isinstance(what, str) else (what,)
    return bool(statements) and all(id(statement) in own for statement in statements)


def _cachers(decorator: ast.expr) -> tuple[Use, ...]:
    if not isinstance(decorator, ast.Call):
        return ()
    named = [keyword.value for keyword in decorator.keywords if keyword.arg == "cachers"]
    return names_of(*decorator.args[2:3], *named).uses


def _is_registered(statement: Statement, what: str | Statement) -> bool:
    """Whether it is a definition that is only put into something of this name, by a decorator."""
    is_definition = isinstance(statement.node, Function | ast.ClassDef)
    return is_definition and isinstance(what, str) and what not in (WHOLE, *statement.bound)


def _kind(key: Key, pieces: list[tuple[Scope, Statement]]) -> str:
    if key[1] == WHOLE:
        return "module" if key[0].title else "cell"
    nodes = [s.node for _, s in pieces if isinstance(s.node, Function | ast.ClassDef | ast.Lambda)]
    if not nodes:
        return "constant"
    return "class" if isinstance(nodes[-1], ast.ClassDef) else "function"


# --- what a function or class reaches --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeOf:
    """All code of the project that a function or class reaches.

    Attributes
    ----------
    digest : str
        The same in each process, folder and version of Python.
    parts : tuple of Part
        What was asked for, and what it reaches.
    unfollowed : tuple of str
        What may lead to more code and cannot be followed.
    packages : tuple of str
        The installed packages that are used, by their top-level names, without the standard library.
    lost : tuple of function
        Those without a source among what was asked for: what they do is to be told from what they are.
    modules : tuple of str
        Those of the project in which all this was looked for.
    rebound : tuple of (str, str)
        Module and name of what a script may bind to something else while it runs.
    """

    digest: str
    parts: tuple[Part, ...]
    unfollowed: tuple[str, ...]
    packages: tuple[str, ...]
    lost: tuple[types.FunctionType, ...] = ()
    modules: tuple[str, ...] = ()
    rebound: tuple[tuple[str, str], ...] = ()


def code_of(value: Any, sources: Sources | None = None) -> CodeOf:
    """The code of a function or class.

    Parameters
    ----------
    value : callable
        A function, method, class or `functools.partial`, or an object that is called, which counts by its class.
    sources : Sources, optional
        Where sources are read; by default as they were loaded.

    Returns
    -------
    CodeOf
        What a function's closure holds counts by its source only; see `closure_values`.
    """
    resolver = Resolver(sources or LoadedSources())
    found = list(_placed(value, resolver, []))
    places = [place for _, place in found if place is not None]
    lost = [name_of(v) for v, place in found if place is None and resolver.is_local(module_of(v))]
    named = lost if places or lost else [public_name(v) for v, _ in found]
    given = {name for v, _ in found for name in closure_values(v, resolver.sources)}
    made = _reached(places, resolver, given, lost, named)
    return replace(made, lost=tuple(v for v, place in found if _is_lost(v, place, resolver)))


def methods_of(cls: type, sources: Sources | None = None) -> CodeOf:
    """The code of a class without its fields: for objects whose fields are told elsewhere, such as parameter sets.

    Methods, properties and what else its body binds without a type hint count, its bases' too; so a class with nothing
    but fields has no parts. See `code_of`.
    """
    resolver = Resolver(sources or LoadedSources())
    return _reached([place for kind in cls.__mro__ for place in members(kind, resolver)], resolver)


def _is_lost(value: Any, place: Place | None, resolver: Resolver) -> bool:
    """Whether a function of the project has no source: at its place, if any, stands only how it was made."""
    if not isinstance(value, types.FunctionType) or not resolver.is_local(module_of(value)) or has_source(value):
        return False
    return place is None or not isinstance(place.statement.node, Function | ast.Lambda)


def _placed(value: Any, resolver: Resolver, seen: list[Any]) -> Iterator[tuple[Any, Place | None]]:
    """The functions and classes that a value is made of, after those that they were given when they were made."""
    for layer in layers(value):
        if any(layer is known for known in seen):
            continue
        seen.append(layer)
        place = find(layer, resolver)
        held = closure_values(layer, resolver.sources) if place is not None and place.parameters else {}
        for name in sorted(held.keys() & (place.parameters if place is not None else ())):
            if isinstance(held[name], types.FunctionType | type):
                yield from _placed(held[name], resolver, seen)
        yield layer, place


def _reached(
    places: list[Place],
    resolver: Resolver,
    given: Set[str] = frozenset(),
    lost: Sequence[str] = (),
    named: Sequence[str] = (),
) -> CodeOf:
    own = {place.key for place in places}
    titles = {place.statement: place.title for place in places}
    definitions = Definitions(resolver, world_of(resolver, tuple(place.module for place in places)), titles)
    found: dict[Key, Definition] = {}
    for place in places:
        if place.around not in found:  # as a decorator is to which what it decorates has led
            _follow(place.key, definitions, found)
    for key in list(definitions.settings(found)):
        _follow(key, definitions, found)
    numbers = {key: str(number) for number, key in enumerate(found)}
    told = []
    for made in found.values():
        leads = [f"{label} {' '.join(numbers[key] for key in keys)}" for label, keys in made.leads]
        told.append("\n".join((made.part.digest, *leads)))
    return CodeOf(
        digest(*named, *told),
        tuple(made.part for made in found.values()),
        tuple(dict.fromkeys(_unfollowed(found, definitions.world.unseen, given, lost))),
        tuple(sorted({n for made in found.values() for n in made.packages} - sys.stdlib_module_names)),
        modules=definitions.world.modules,
        rebound=tuple((key[0].module, str(key[1])) for key in found if key not in own and definitions.is_rebound(key)),
    )


def _follow(start: Key, definitions: Definitions, found: dict[Key, Definition]) -> None:
    """Add a definition and all that it reaches, each once, in an order that the names in the sources give."""
    pending = [start]
    while pending:
        key = pending.pop()
        if key not in found:
            found[key] = made = definitions.of(key)
            pending += reversed([other for _, keys in made.leads for other in keys])


def _unfollowed(
    found: dict[Key, Definition], of_imports: dict[tuple[Scope, Unseen], str], given: Set[str], lost: Sequence[str]
) -> Iterator[str]:
    told: dict[tuple[Scope, Unseen], str] = {}
    for made in found.values():
        for seen, text in made.unseen.items():
            told.setdefault(seen, text)  # all of a module has what a function of it has
        yield from (f"the value of {name} in {made.part.name}" for name in sorted(made.parameters - given))
        yield from sorted(made.blind)
    yield from (told | {each: text for each, text in of_imports.items() if each not in told}).values()
    yield from (f"{name}, which has no source" for name in lost)
