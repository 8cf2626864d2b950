"""The identity of a class that is a value: its statement where it has one of its own, else what it is made of."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import types
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from curidask.core.code.code_identity import (
    first_line,
    function_text,
    is_found,
    is_installed,
    is_installed_module,
    is_made_for_project,
    parsed,
)
from curidask.core.code.parsing import parse
from curidask.core.code.source_files import MAIN, LoadedSources, read_loaded
from curidask.core.code.source_identity import Function, canonical

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_LOCAL, _INSTALLED, _BY_NAME = "local", "installed", "by name"

_kinds: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def is_local_class(cls: type) -> bool:
    """Whether a class of a project is not sure to be what whoever imports its module finds under its name.

    It was defined in a function, made by a call, in a loop, or there is another one of its name.
    """
    kind = _kinds.get(cls)
    if kind is None:
        kind = _kinds[cls] = _kind_of(cls)
    return kind == _LOCAL or (kind == _BY_NAME and not is_found(cls))


def _kind_of(cls: type) -> str:
    if is_installed_module(cls.__module__):
        return _LOCAL if is_made_for_project(cls) else _INSTALLED
    return _LOCAL if "<locals>" in cls.__qualname__ or _is_repeated(cls) or _is_unwritten(cls) else _BY_NAME


def _is_unwritten(cls: type) -> bool:
    """Whether it is of a script that has no source, such as that of ``python -c``."""
    module = LoadedSources().module(cls.__module__) if cls.__module__ in MAIN else None
    return module is not None and not any(module.texts) and not _source(_file_of(cls))


def _is_repeated(cls: type) -> bool:
    """Whether its module may make several classes of its name."""
    source = _source(_file_of(cls))
    for depth, name in enumerate(cls.__qualname__.split(".")):
        found = re.findall(rf"^([ \t]*)class[ \t]+{re.escape(name)}\b", source, re.MULTILINE)
        if len(found) > 1 or (found and found[0] and not depth):
            nodes = _statements(source, cls.__qualname__)
            return len(nodes) > 1 or any(is_in_loop for _, is_in_loop in nodes)
    return False


# --- the statement of a class ----------------------------------------------------------------------------------------
def statement_of(cls: type) -> ast.ClassDef | None:
    """The one class statement that a class may be of; None where there is none, or several."""
    if cls not in _known:
        nodes = _statements(_source(_file_of(cls)), cls.__qualname__)
        _known[cls] = nodes[0][0] if len(nodes) == 1 else None
    return _known[cls]


_known: WeakKeyDictionary[type, ast.ClassDef | None] = WeakKeyDictionary()


def is_in_statement(cls: type, name: str, function: types.FunctionType) -> bool:
    """Whether the statement of a class says which function is behind an attribute."""
    node, code = statement_of(cls), function.__code__
    if node is None or code.co_filename != _file_of(cls):
        return False
    bound = [part for part in node.body if name in _bound_by(part)]
    return bool(bound) and any(_is_of(part, code) for part in node.body)


def is_written_base(cls: type, name: str) -> bool:
    """Whether the statement of a class names a base or metaclass."""
    node = statement_of(cls)
    parts = [] if node is None else [*node.bases, *(keyword.value for keyword in node.keywords)]
    parts = [part.value if isinstance(part, ast.Subscript) else part for part in parts]
    return any(name == getattr(part, "attr", getattr(part, "id", None)) for part in parts)


def _bound_by(statement: ast.stmt) -> set[str]:
    if isinstance(statement, Function):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _is_of(statement: ast.stmt, code: types.CodeType) -> bool:
    """Whether a statement in the body of a class is sure to make a function of this code."""
    if isinstance(statement, Function):
        return statement.name == code.co_name and first_line(statement) == code.co_firstlineno
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return False
    functions = [part for part in ast.walk(statement) if isinstance(part, ast.Lambda)]
    return len(functions) == 1 and code.co_name == "<lambda>" and functions[0].lineno == code.co_firstlineno


def _file_of(cls: type) -> str:
    """The file that the methods of a class say they are from, or that of its module."""
    code = [f.__code__ for f in vars(cls).values() if isinstance(f, types.FunctionType)]
    own = (c.co_filename for c in code if c.co_qualname == f"{cls.__qualname__}.{c.co_name}")
    return next(own, None) or getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def _source(file: str) -> str:
    return (read_loaded(file) if file else None) or ""


def _statements(source: str, qualname: str) -> list[tuple[ast.ClassDef, bool]]:
    """The class statements of a name in a source, and whether each is in a loop outside of functions."""
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError):
        return []
    return list(_found_in(tree.body, qualname.replace(".<locals>", "").split(".")))


def _found_in(body: list[Any], way: list[str], is_in_loop: bool = False) -> Iterator[tuple[ast.ClassDef, bool]]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef):
            parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr)]
            yield from _found_in(parts, way, is_in_loop or isinstance(node, _LOOPS))
        elif node.name == way[0] and len(way) > 1:
            yield from _found_in(node.body, way[1:], is_in_loop)
        elif node.name == way[0] and isinstance(node, ast.ClassDef):
            yield node, is_in_loop


# --- its text --------------------------------------------------------------------------------------------------------
def of_class(cls: type) -> str:
    """The normalised source of a class, or that of its functions where it has none of its own; empty if installed."""
    return "" if is_installed(cls) else _class_text(cls)


@functools.lru_cache(maxsize=1024)
def _class_text(cls: type) -> str:
    try:
        if is_local_class(cls) and "<locals>" not in cls.__qualname__ and statement_of(cls) is None:
            raise OSError
        tree = parse(_dedented(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        functions = [(n, f.__code__) for n, f in sorted(vars(cls).items()) if isinstance(f, types.FunctionType)]
        return "\n".join(f"{name}:{function_text(code)}" for name, code in functions)
    return canonical(tree.body[0])


def _dedented(source: str) -> str:
    return inspect.cleandoc("\n" + source) if source[:1].isspace() else source
