"""What names in the functions of a stage may hold of its parameters; see `curidask.core.code.read_params`."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curidask.core.code.param_shapes import Path
from curidask.core.code.source_identity import Function
from curidask.core.code.source_names import Use
from curidask.core.code.source_scopes import Outside, Resolver, Scope


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a stage."""


@dataclass(frozen=True, slots=True)
class Params:
    """Its parameter set, or what a field of it holds that has fields itself."""

    path: Path = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A method of one."""

    function: types.FunctionType
    of: Params


@dataclass(frozen=True, slots=True)
class Local:
    """A function or lambda within a function."""

    node: Any
    frame: Frame


Value: TypeAlias = "Record | Params | Method | Local"
Values: TypeAlias = frozenset[Value]
NOTHING: Values = frozenset()


@dataclass(eq=False, slots=True)
class Frame:
    """The names of a function, and where it stands."""

    scope: Scope
    title: str
    bound: Mapping[str, Any]
    around: Frame | None = None
    names: dict[str, Values] = field(default_factory=dict)
    returned: Values = NOTHING

    def look_up(self, name: str) -> Values:
        """What a name may hold."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names or name in frame.bound:
                return frame.names.get(name, NOTHING)
            frame = frame.around
        return NOTHING

    def imports(self, name: str) -> Any:
        """What a name is by the functions around: "global" where they do not bind it, imports where they import it."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.bound:
                return frame.bound[name]
            frame = frame.around
        return "global"

    @property
    def seen(self) -> tuple[frozenset[tuple[str, Values]], ...]:
        """What names hold that can be seen from here, as far as it is known."""
        around = () if self.around is None else self.around.seen
        return (*around, frozenset(self.names.items()))


def taken_by(
    arguments: ast.arguments, given: Sequence[Values], named: Mapping[str, Values]
) -> dict[str, Values] | None:
    """What the parameters of a function get; None where what is followed goes where it is not taken by its name."""
    in_order = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    by_name = {*(a.arg for a in arguments.args), *(a.arg for a in arguments.kwonlyargs)}
    if any(given[len(in_order) :]) or any(values for name, values in named.items() if name not in by_name):
        return None
    found = dict(zip(in_order, given, strict=False))
    found |= {name: values for name, values in named.items() if name in by_name}
    return {name: values for name, values in found.items() if values}


def definitions(called: ast.expr, frame: Frame, resolver: Resolver) -> Iterator[tuple[Scope, Any] | None]:
    """The functions that a name with attributes leads to; None for each thing that is not one."""
    steps: list[str] = []
    while isinstance(called, ast.Attribute):
        steps.insert(0, called.attr)
        called = called.value
    found = frame.imports(called.id) if isinstance(called, ast.Name) else ()
    if not found or not isinstance(called, ast.Name):
        yield None
        return
    root = called.id if found == "global" else found
    for target in resolver.resolve(frame.scope, Use(root, tuple(steps), called.id)):
        yield None if isinstance(target, Outside) else _plain_function(*target)


def _plain_function(scope: Scope, name: Any) -> tuple[Scope, Any] | None:
    """A definition that is one function without decorators, in its module."""
    statements = scope.table.entries.get(name, ()) if isinstance(name, str) else ()
    nodes = [s.node for s in statements if name in s.bound and not s.is_import]
    plain = len(nodes) == 1 and isinstance(nodes[0], Function) and not nodes[0].decorator_list
    return (scope, nodes[0]) if plain else None
