"""What a function or class reaches: the code of a stage, read from the source without running anything.

The rule is that of R's targets: functions and globals, found by their names, and what these reach in turn, as long as
it is the project's. Only the source counts, never a value.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from curidask import source_place
from curidask.source_files import FRAMEWORK, LoadedSources, Sources
from curidask.source_identity import Function
from curidask.source_modules import STAGES, Statement, chain_of, digest
from curidask.source_names import WHOLE, Names, Unseen, Use, imported, names_of
from curidask.source_scopes import ALL_OF_OTHERS, Key, Outside, Resolver, Scope, changes_between


@dataclass(frozen=True, slots=True)
class Part:
    """A definition that is reached.

    Attributes
    ----------
    name : str
        Module and qualified name, for people.
    kind : str
        "function", "class", "constant", "module" or "cell".
    digest : str
        Of what counts of its source.
    source : str
        Its source as it stands.
    """

    name: str
    kind: str
    digest: str
    source: str


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
    """

    digest: str
    parts: tuple[Part, ...]
    unfollowed: tuple[str, ...]
    packages: tuple[str, ...]


# --- from a definition to all that it reaches ------------------------------------------------------------------------
@dataclass(eq=False)
class Definition:
    """A definition with what it leads to.

    Attributes
    ----------
    part : Part
    leads : list of (str, list of Key)
        By the names in its source.
    """

    part: Part
    leads: list[tuple[str, list[Key]]]


@dataclass(eq=False)
class Reach:
    """One walk over all that is reached.

    Parameters
    ----------
    resolver : Resolver
    modules : tuple of str
        The modules that the walk starts in.
    given : frozenset of str
        The parameters of functions around, whose values are told elsewhere.
    titles : dict of Statement to str
        How the statements are called that it starts from.
    named : list of str
        What counts by its name only.
    """

    resolver: Resolver
    modules: tuple[str, ...]
    given: frozenset[str] = frozenset()
    titles: dict[Statement, str] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    found: dict[Key, Definition] = field(default_factory=dict)
    unfollowed: dict[str, None] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    told: set[tuple[Scope, Unseen]] = field(default_factory=set)

    def follow(self, start: Key) -> None:
        """Add a definition and all that it reaches, each once, in an order that the names in the sources give."""
        pending = [start]
        while pending:
            key = pending.pop()
            if key in self.found:
                continue
            self.found[key] = definition = self._definition(key)
            pending += reversed([next_key for _, keys in definition.leads for next_key in keys])

    def result(self) -> CodeOf:
        """What was found."""
        place = {key: str(index) for index, key in enumerate(self.found)}
        told = [d.part.digest + "".join(f" {n} {','.join(place[k] for k in keys)}" for n, keys in d.leads)
                for d in self.found.values()]  # fmt: skip
        for name in sorted(self.resolver.unreadable):
            self.unfollowed[f"the source of {name}, which cannot be read"] = None
        parts = tuple(definition.part for definition in self.found.values())
        return CodeOf(digest(*self.named, *told), parts, tuple(self.unfollowed), tuple(sorted(self.packages)))

    def _definition(self, key: Key) -> Definition:
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
                imports.update(self._installed(scope, statement, str(key[1])))
            else:
                without, used = self._used(scope, statement)
                names.append((scope, used))
                texts.append(statement.canonical(without, self.resolver.is_local))
        title = self._title(key)
        own = {id(statement) for _, statement in pieces}
        leads = [(label, keys) for label, keys in self._leads(names, title, own, key) if keys]
        source = "\n".join(statement.source for _, statement in pieces)
        return Definition(Part(title, _kind(key, pieces), digest(*sorted(imports), *texts), source), leads)

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
        if what == WHOLE:
            plain = [s for s in scope.table.statements if isinstance(s.node, Function) and not s.decorators]
            plain.sort(key=lambda s: str(s.node.name))  # whose order plays no role
            return [(scope, s) for s in [*(s for s in scope.table.statements if s not in plain), *plain]]
        if what == ALL_OF_OTHERS:
            return [(scope, s) for s in scope.table.statements if "*" in s.bound]
        return [(scope, s) for s in scope.table.entries[what]] + self._changes_elsewhere(key)

    def _changes_elsewhere(self, key: Key) -> list[tuple[Scope, Statement]]:
        changes = changes_between(self.resolver, self.modules).get(key, [])
        return sorted(changes, key=lambda piece: piece[1].canonical((), self.resolver.is_local))

    def _installed(self, scope: Scope, statement: Statement, name: str) -> Iterator[str]:
        """What an import takes from installed packages, under this name or all."""
        for bound, what in imported(statement.node):
            module = self.resolver.absolute(scope, what)
            if name in (bound, f"{bound}import", WHOLE) and not what.level and not self.resolver.is_local(module):
                self._note(Outside(module))
                yield f"{bound} {module} {what.name}"

    def _used(self, scope: Scope, statement: Statement) -> tuple[tuple[ast.expr, ...], Names]:
        """What decorators of a statement do not count, and what the rest uses; of ``@stage``, its cachers."""
        without, names = [], statement.names
        for decorator, used in statement.decorators:
            if self._is_stage(scope, decorator):
                without.append(decorator)
                names += _cachers(decorator)
            else:
                names += used
        return tuple(without), names

    def _is_stage(self, scope: Scope, decorator: ast.expr) -> bool:
        targets = [target for use in chain_of(decorator) for target in self.resolver.resolve(scope, use)]
        names = [target.name.split(".") for target in targets if isinstance(target, Outside)]
        return any(name[0] == FRAMEWORK and name[-1] in STAGES for name in names)

    def _leads(
        self, names: list[tuple[Scope, Names]], title: str, own: set[int], key: Key
    ) -> Iterator[tuple[str, list[Key]]]:
        targets: dict[str, dict[Key, None]] = {}
        for scope, used in names:
            for use in used.uses:
                keys = targets.setdefault(use.label, {})
                for target in self.resolver.resolve(scope, use):
                    if isinstance(target, Outside):
                        self._note(target, title)
                    elif target != key and not self._is_within(target, own):
                        keys[target] = None
            for unseen in used.unseen:
                of = [] if unseen.of is None else self.resolver.resolve(scope, unseen.of)
                is_module = any(isinstance(target, tuple) and target[1] == WHOLE for target in of)
                if (unseen.of is None or is_module) and (scope, unseen) not in self.told:
                    self.told.add((scope, unseen))
                    self.unfollowed[f"{unseen.what} in {title} (line {unseen.line})"] = None
        yield from ((label, list(targets[label])) for label in sorted(targets))

    def _is_within(self, target: Key, own: set[int]) -> bool:
        scope, what = target
        statements = scope.table.entries.get(what, ()) if isinstance(what, str) else (what,)
        return bool(statements) and all(id(statement) in own for statement in statements)

    def _note(self, outside: Outside, title: str = "") -> None:
        top = outside.name.partition(".")[0]
        if outside.kind == "C extension":
            self.unfollowed[f"C extension {outside.name}"] = None
        elif outside.kind == "parameter":
            if outside.name not in self.given:
                self.unfollowed[f"the value of {outside.name} in {title}"] = None
        elif top and top not in sys.stdlib_module_names and top != FRAMEWORK:
            self.packages.add(top)


def _cachers(decorator: ast.expr) -> Names:
    if not isinstance(decorator, ast.Call):
        return Names()
    named = [keyword.value for keyword in decorator.keywords if keyword.arg == "cachers"]
    return names_of(*decorator.args[2:3], *named)


def _is_registered(statement: Statement, what: str | Statement) -> bool:
    """Whether it is a definition that is only put into something of this name, by a decorator."""
    is_definition = isinstance(statement.node, Function | ast.ClassDef)
    return is_definition and isinstance(what, str) and what != WHOLE and what not in statement.bound


def _kind(key: Key, pieces: list[tuple[Scope, Statement]]) -> str:
    if key[1] == WHOLE:
        return "module" if key[0].title else "cell"
    nodes = [
        statement.node for _, statement in pieces if isinstance(statement.node, Function | ast.ClassDef | ast.Lambda)
    ]
    if not nodes:
        return "constant"
    return "class" if isinstance(nodes[-1], ast.ClassDef) else "function"


# --- what is asked ---------------------------------------------------------------------------------------------------
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
        What a function's closure holds counts by its source only; see `curidask.source_place.closure_values`.
    """
    resolver = Resolver(sources or LoadedSources())
    found = list(_placed(value, resolver, []))
    places = [place for _, place in found if place is not None]
    given = frozenset(name for layer, _ in found for name in source_place.closure_values(layer, resolver.sources))
    reach = Reach(resolver, tuple(place.module for place in places), given)
    for place in places:
        if place.around not in reach.found:  # as a decorator that what it decorates has led to
            reach.titles[place.statement] = place.title
            reach.follow(place.key)
    for layer, lost in found:
        if lost is None and resolver.is_local(source_place.module_of(layer)):
            reach.unfollowed[f"{source_place.name_of(layer)}, which has no source"] = None
            reach.named.append(source_place.name_of(layer))
    return reach.result()


def _placed(value: Any, resolver: Resolver, seen: list[Any]) -> Iterator[tuple[Any, source_place.Place | None]]:
    """The functions and classes that a value is made of, after those that they were given when they were made."""
    for layer in source_place.layers(value):
        if any(layer is known for known in seen):
            continue
        seen.append(layer)
        place = source_place.find(layer, resolver)
        held = source_place.closure_values(layer, resolver.sources) if place is not None else {}
        for name in sorted(held.keys() & (place.parameters if place is not None else ())):
            if isinstance(held[name], types.FunctionType | type):
                yield from _placed(held[name], resolver, seen)
        yield layer, place


def methods_of(cls: type, sources: Sources | None = None) -> CodeOf:
    """The code of a class without its fields: for objects whose fields are told elsewhere, such as parameter sets.

    Methods, properties and what else its body binds without a type hint count, its bases' too; so a class with nothing
    but fields has no parts. See `code_of`.
    """
    resolver = Resolver(sources or LoadedSources())
    places = [place for kind in cls.__mro__ for place in source_place.members(kind, resolver)]
    reach = Reach(resolver, tuple(place.module for place in places))
    for place in places:
        reach.titles[place.statement] = place.title
        reach.follow(place.key)
    return reach.result()
