"""What a function or class reaches: the code of a stage, read from the source without running anything.

The rule is that of R's targets: functions and globals, found by their names, and what these reach in turn, as long as
it is the project's. Only the source counts, never a value.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from curidask.core.code.code_identity import has_source, public_name
from curidask.core.code.source_definitions import Definition, Definitions, Part, world_of
from curidask.core.code.source_files import LoadedSources, Sources
from curidask.core.code.source_identity import Function
from curidask.core.code.source_modules import digest
from curidask.core.code.source_names import Unseen
from curidask.core.code.source_place import Place, closure_values, find, layers, members, module_of, name_of
from curidask.core.code.source_scopes import Key, Resolver, Scope

__all__ = ["CodeOf", "Part", "closure_values", "code_of", "methods_of"]


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
