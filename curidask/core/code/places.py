"""Where functions and classes that are values stand in the sources."""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curidask.core.code.canonical_source import Function, acting
from curidask.core.code.identity import computed_defaults, node_of
from curidask.core.code.modules import Statement, statements_of, table_of_function
from curidask.core.code.scopes import Key, LoadedSources, Resolver, Scope, Sources
from curidask.core.hash_fields import field_values, has_fields

PLAIN = (bool, int, float, complex, str, bytes, type(None), types.FunctionType, type)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function or class is defined.

    Attributes
    ----------
    key : Key
        Where it is found by its name, if it is; else the statement by itself.
    title : str
        For people.
    around : Key or None
        The definition in the module that it is within.
    """

    module: str
    key: Key
    statement: Statement
    title: str
    around: Key | None = None

    @property
    def parameters(self) -> frozenset[str]:
        """Those of the functions that it is within."""
        scope: Scope | None = self.key[0]
        found: frozenset[str] = frozenset()
        while scope is not None:
            found |= scope.table.parameters - scope.table.entries.keys()
            scope = scope.around
        return found


def layers(value: Any) -> list[Any]:
    """The functions and classes that a value is made of, the innermost of what was decorated first."""
    if isinstance(value, functools.partial | functools.partialmethod):
        return layers(value.func)
    if isinstance(value, types.MethodType):
        owner = value.__self__
        return [*layers(value.__func__), owner if isinstance(owner, type) else type(owner)]
    if isinstance(value, staticmethod | classmethod):
        return layers(value.__func__)
    if isinstance(value, property):
        return [layer for part in (value.fget, value.fset, value.fdel) if part is not None for layer in layers(part)]
    if isinstance(value, type):
        return [value]
    inner = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
    own = [value] if isinstance(value, types.FunctionType) else []
    if inner is not None:
        return [*layers(inner), *own]
    if own or isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType):
        return [value]
    return layers(value.func) if isinstance(value, functools.cached_property) else [type(value)]


def find(value: Any, resolver: Resolver) -> Place | None:
    """The place of a function or class; None where it is not the project's, and where there is no source."""
    module = module_of(value)
    scope = resolver.module(module)
    if scope is None:
        return None
    path = next((p for text in _texts(value, module, resolver) if (p := _path_to(value, text))), None)
    return _from_name(value, module, scope) if path is None else _from_path(path, module, scope)


def module_of(value: Any) -> str:
    """The module that a function or class is defined in."""
    own = value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else None
    return str(own or getattr(value, "__module__", None) or "")


def name_of(value: Any) -> str:
    """The qualified name of a function or class."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _texts(value: Any, module: str, resolver: Resolver) -> Iterator[tuple[str, bool]]:
    source = resolver.sources.module(module)
    is_cells = source is not None and source.is_cells
    code = _code(value)
    text = None if code is None else resolver.sources.text(code.co_filename)
    if text is not None:
        yield text, is_cells
    elif source is not None:
        yield from ((text, is_cells) for text in reversed(source.texts))


def _code(value: Any) -> types.CodeType | None:
    """The code of a function, or of a method that a class has of its own."""
    if isinstance(value, types.FunctionType):
        return value.__code__
    methods = (f for f in vars(value).values() if isinstance(f, types.FunctionType)) if isinstance(value, type) else ()
    own = (f.__code__ for f in methods if f.__qualname__ == f"{value.__qualname__}.{f.__name__}")
    return next((code for code in own if code.co_filename and not code.co_filename.startswith("<string")), None)


# --- in a tree -------------------------------------------------------------------------------------------------------
def _path_to(value: Any, text: tuple[str, bool]) -> list[Any] | None:
    """The way to a definition: the statement of the module, and what it is within in that."""
    code = _code(value)
    for statement in reversed(statements_of(*text) or ()):
        if isinstance(value, types.FunctionType) and code is not None:
            node = node_of(code, statement.node) if has_line(statement.node, code.co_firstlineno) else None
            known = [way for way in _ways(statement.node) if way[-1] is node] if node is not None else []
        else:
            is_near = value.__qualname__.partition(".")[0] in statement.bound
            known = _named(list(_ways(statement.node)), value, code) if is_near else []
        if known:
            return [statement, *known[-1]]
    return None


def _named(ways: list[list[ast.AST]], value: Any, code: types.CodeType | None) -> list[list[ast.AST]]:
    """Ways that the qualified name of a value describes; of several classes those that its methods are in."""
    name = value.__qualname__.replace(".<locals>", "")
    known = [way for way in ways if ".".join(getattr(node, "name", "<lambda>") for node in way) == name]
    if isinstance(value, type):
        known = [way for way in known if isinstance(way[-1], ast.ClassDef)]
        line = getattr(value, "__firstlineno__", None) or (code.co_firstlineno if code is not None else None)
        return [way for way in known if line is not None and has_line(way[-1], line)] or known
    return known


def has_line(node: Any, line: int) -> bool:
    """Whether a statement, with its decorators, covers a line."""
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return bool(first <= line <= node.end_lineno)


def _ways(top: ast.AST) -> Iterator[list[ast.AST]]:
    """The definitions in a statement, each with those around it."""
    pending: list[tuple[ast.AST, list[ast.AST]]] = [(top, [])]
    while pending:
        node, way = pending.pop()
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            way = [*way, node]
            yield way
        pending += [(child, way) for child in reversed(list(ast.iter_child_nodes(node)))]


def _from_path(path: list[Any], module: str, scope: Scope) -> Place:
    top, *way = path
    title = scope.title
    around: Key | None = None
    for index, node in enumerate(way):
        if index == len(way) - 1 or not isinstance(node, Function):
            break  # a method's class counts whole, since it calls others on itself
        around = around or (scope, node.name)
        title = f"{title}{node.name}."
        scope = Scope(title, scope.package, table_of_function(node, top.lines), scope)
    name = getattr(node, "name", "<lambda>")
    bound = [statement for statement in scope.table.entries.get(name, ()) if name in statement.bound]
    if len(bound) == 1 and bound[0].node is node:  # with what is changed of it later on
        return Place(module, (scope, name), bound[0], f"{title}{name}", around)
    statement = top if top.node is node else Statement(node, top.lines, top.is_cell)
    return Place(module, (scope, statement), statement, f"{title}{name}", around)


def _from_name(value: Any, module: str, scope: Scope) -> Place | None:
    """The place of what a module binds to its name without a definition, such as a named tuple."""
    name = name_of(value)
    known = scope.table.entries.get(name, [])
    return Place(module, (scope, name), known[-1], f"{scope.title}{name}") if known else None


# --- the members of a class ------------------------------------------------------------------------------------------
def members(cls: type, resolver: Resolver) -> Iterator[Place]:
    """The places of what a class binds beside its fields, in the order of the names."""
    place = find(cls, resolver)
    node = None if place is None else place.statement.node
    if place is None or not isinstance(node, ast.ClassDef):
        return
    scope = place.key[0]
    bodies = [Statement(part, place.statement.lines) for part in acting(node.body, in_class=True)]
    for statement in sorted(filter(_is_member, bodies), key=lambda s: sorted(s.bound)):
        name = next(iter(sorted(statement.bound)), "")
        yield Place(place.module, (scope, statement), statement, f"{place.title}.{name}".rstrip("."))


def _is_member(statement: Statement) -> bool:
    node = statement.node
    return not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation)


# --- closures --------------------------------------------------------------------------------------------------------
def closure_values(value: Any, sources: Sources | None = None) -> dict[str, Any]:
    """What of a function's closure tells it from another that was made by the same code.

    Parameters
    ----------
    value : callable
        A function; for all else there is nothing.
    sources : Sources, optional
        Where the function around it is read.

    Returns
    -------
    dict
        Name to value: numbers, texts, bytes, None, functions, classes, and containers, dataclasses and arrays of them;
        of a function that was made in another its defaults too. What changes while the function runs is left out: what
        is assigned to as ``nonlocal``, and what the code around it changes in place.
    """
    if not isinstance(value, types.FunctionType):
        return {}
    held = dict(_cells(value))
    if "<locals>" in value.__qualname__:
        held |= {f"default of {name}": each for name, each in computed_defaults(value).items()}
    changed = {"__class__", *_stored(value.__code__)}
    if held.keys() - changed:
        changed |= _changed_around(value, sources or LoadedSources())
    return {name: each for name, each in held.items() if name not in changed and each is not value and is_value(each)}


def _cells(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            yield name, cell.cell_contents


MOST_PARTS = 10_000
"""What holds more is data, and left out."""


def is_value(value: Any) -> bool:
    """Whether a value is data or code, through and through."""
    pending, left = [value], MOST_PARTS
    while pending:
        part, left = pending.pop(), left - 1
        kind = type(part)
        if left < 0 or not (isinstance(part, PLAIN) or kind in _CONTAINERS or _is_data(part)):
            return False
        if kind is dict:
            pending += [*part.keys(), *part.values()]
        elif kind in _CONTAINERS:
            pending += part
        elif kind is functools.partial:
            pending += [part.func, *part.args, *part.keywords.values()]
        elif has_fields(kind):
            pending += field_values(part).values()
    return True


_CONTAINERS = (list, tuple, set, frozenset, dict)


def _is_data(value: Any) -> bool:
    kind = type(value)
    is_array = kind.__module__ == "numpy" and getattr(value, "dtype", None) is not None and not value.dtype.hasobject
    return kind is functools.partial or has_fields(kind) or is_array


def _stored(code: types.CodeType) -> Iterator[str]:
    """The names from around it that code assigns to, or functions within it."""
    stored = (i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF"))
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _stored(part)]
    yield from (name for name in (*stored, *inner) if name in code.co_freevars)


def _changed_around(function: types.FunctionType, sources: Sources) -> set[str]:
    """The names that the function that it was made in assigns to as ``nonlocal``, or changes in place."""
    resolver = Resolver(sources)
    is_own = resolver.is_local(module_of(function))
    texts = _texts(function, module_of(function), resolver) if is_own else ()
    path = next((path for text in texts if (path := _path_to(function, text))), None)
    return {name for part in (ast.walk(path[1]) if path else ()) for name in _changed_by(part)}


def _changed_by(part: ast.AST) -> list[str]:
    """The names of which a part of code changes the value, not the binding."""
    if isinstance(part, ast.Nonlocal):
        return part.names
    if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
        return [part.value.id] if isinstance(part.value, ast.Name) else []
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _CHANGING:
        return [part.func.value.id] if isinstance(part.func.value, ast.Name) else []
    return []


_CHANGING = {
    *("append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "add", "discard", "sort"),
    *("reverse", "popitem", "fill", "put", "resize"),
}
