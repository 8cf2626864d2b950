"""The identity of a function or class that is a value: its source without what does not matter.

Comments, docstrings, layout and line numbers do not count. Code of installed packages counts by name only. May read
source files through `inspect`; this is the pure core's one look at a file.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_installed(value: Any) -> bool:
    """Whether a function or class comes from the standard library or an installed package, and can be found by name."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or "<" in getattr(value, "__qualname__", "<"):
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.stdlib_module_names or module.__name__ == "builtins"
    return "site-packages" in file or file.startswith(_INSTALLED)


def of_function(function: types.FunctionType) -> str:
    """The normalised source of a function or lambda, or its byte code where there is no source; empty if installed."""
    if is_installed(function):
        return ""
    return _function_text(function.__code__)


def of_class(cls: type) -> str:
    """The normalised source of a class, or that of its functions where there is no source; empty if installed."""
    if is_installed(cls):
        return ""
    return _class_text(cls)


def reached_values(function: types.FunctionType) -> dict[str, Any]:
    """What a function takes from around it: its closure, and the project's constants and functions it names."""
    names = function.__code__.co_freevars
    cells = function.__closure__ or ()
    reached = {name: _cell(cell) for name, cell in zip(names, cells, strict=True)}
    for name in sorted(_global_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, bool | int | float | complex | str | bytes) or _is_project_code(value):
            reached[f"global {name}"] = value
    return reached


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _is_project_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type) and not is_installed(value)


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


@functools.lru_cache(maxsize=4096)
def _function_text(code: types.CodeType) -> str:
    node = _find_node(code)
    return _dump(node) if node is not None else _byte_code(code)


@functools.lru_cache(maxsize=1024)
def _class_text(cls: type) -> str:
    try:
        tree = ast.parse(_dedented(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        functions = sorted((n, f.__code__) for n, f in vars(cls).items() if isinstance(f, types.FunctionType))
        return "\n".join(f"{name}:{_byte_code(code)}" for name, code in functions)
    return _dump(tree.body[0])


def _dedented(source: str) -> str:
    return inspect.cleandoc("\n" + source) if source[:1].isspace() else source


def _find_node(code: types.CodeType) -> ast.AST | None:
    """The function or lambda of a code object in its file; several lambdas on a line are told apart by their column."""
    try:
        lines, _ = inspect.findsource(code)
        tree = _parsed("".join(lines))
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    nodes = [node for node in _functions(tree) if _first_line(node) == code.co_firstlineno]
    if len(nodes) > 1:
        spans = {p[:4] for p in code.co_positions() if p[2] is not None and p[0] is not None}
        nodes = [node for node in nodes if _covers(node, spans)]
        # Of lambdas within lambdas the innermost that covers the code is the one.
        nodes.sort(key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0), reverse=False)
        nodes = nodes[:1]
    return nodes[0] if nodes else None


@functools.lru_cache(maxsize=64)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> int:
    decorators = getattr(node, "decorator_list", [])
    lines: list[int] = [node.lineno, *(decorator.lineno for decorator in decorators)]
    return min(lines)


def _covers(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, spans: set[Any]) -> bool:
    body = node.body if isinstance(node.body, ast.expr) else node
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    inside = [s for s in spans if start <= (s[0], s[2]) and (s[1], s[3]) <= end]
    return bool(inside) and any((s[0], s[2]) == start or (s[1], s[3]) == end for s in inside)


def _dump(node: ast.AST) -> str:
    copied = ast.parse(ast.unparse(node))
    for inner in ast.walk(copied):
        body = getattr(inner, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_docstring(body[0]):
            del body[0]
    return ast.dump(copied, annotate_fields=False)


def _is_docstring(statement: ast.AST) -> bool:
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _byte_code(code: types.CodeType) -> str:
    constants = [
        _byte_code(c) if isinstance(c, types.CodeType) else f"{type(c).__name__}:{c!r}" for c in code.co_consts
    ]
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{version}|{code.co_code.hex()}|{code.co_names}|{code.co_varnames}|{'|'.join(constants)}"
