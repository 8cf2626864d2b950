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

from curidask.parsing import parse

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_installed(value: Any) -> bool:
    """Whether a function or class comes from the standard library or an installed package, and can be found by name."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or "<" in getattr(value, "__qualname__", "<"):
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.stdlib_module_names or module.__name__ == "builtins"
    return _is_installed_file(file)


def _is_installed_file(file: str) -> bool:
    return "site-packages" in file or file.startswith(_INSTALLED)


_ONE_NAMESPACE = ("numpy", "pandas", "polars")
"""Packages whose public names are few and all different, while the modules behind them move."""


def public_name(value: Any) -> str:
    """The name of a function or class: with its module where it is installed, without where it is a project's.

    Private modules are left out: what is public stays where it is from version to version, they do not.
    """
    name: str = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{public_module(value.__module__)}:{name}" if is_installed(value) else name


def public_module(name: str) -> str:
    """The name of a module without what is private in it."""
    parts = name.split(".")
    if parts[0] in _ONE_NAMESPACE:
        return parts[0]
    return ".".join(part for part in parts if not part.startswith("_")) or parts[0].lstrip("_")


def of_function(function: types.FunctionType) -> str:
    """The normalised source of a function or lambda, or its byte code where there is no source; empty if installed."""
    if is_installed(function):
        return ""
    code = function.__code__
    if is_wrapper(function) and "<lambda>" not in code.co_qualname:
        return f"{public_module(function.__globals__.get('__name__', ''))}:{code.co_qualname}"
    return _function_text(code)


def is_wrapper(function: types.FunctionType) -> bool:
    """Whether its code is that of an installed package, whatever module and name it bears: a decorator made it."""
    return _is_installed_file(function.__code__.co_filename)


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
    if is_wrapper(function):
        return reached
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
        tree = parse(_dedented(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        functions = [(n, f.__code__) for n, f in sorted(vars(cls).items()) if isinstance(f, types.FunctionType)]
        return "\n".join(f"{name}:{_function_text(code)}" for name, code in functions)
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
    return parse(source)


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


# --- one text for one piece of code, whatever the version of Python --------------------------------------------------
_NO_CODE = ("ctx", "kind", "type_comment", "type_ignores")
"""Fields of a syntax tree that follow from others or do nothing."""


def _dump(node: Any) -> str:
    """A syntax tree as text: empty fields are left out, so those that a newer Python added do not count."""
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return _literal(node)
    fields = {name: value for name, value in _fields(node).items() if value is not None and value != []}
    return f"{type(node).__name__}({','.join(f'{name}={_dump(fields[name])}' for name in sorted(fields))})"


_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _fields(node: ast.AST) -> dict[str, Any]:
    fields = {name: getattr(node, name, None) for name in node._fields if name not in _NO_CODE}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.arg):
        fields = {name: value for name, value in fields.items() if name not in ("returns", "annotation")}
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    return fields


def _joined(values: list[ast.expr]) -> list[Any]:
    """The parts of a formatted string; how its fixed text is cut up differs between versions."""
    joined: list[Any] = []
    for value in values:
        part = value.value if isinstance(value, ast.Constant) else value
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined


def _literal(value: Any) -> str:
    """A constant as text: not `repr`, whose order of sets and escaped characters differ."""
    kind = type(value).__name__
    if isinstance(value, types.CodeType):
        return _byte_code(value)
    if isinstance(value, frozenset):
        return f"{kind}({','.join(sorted(map(_literal, value)))})"
    if isinstance(value, tuple):
        return f"{kind}({','.join(map(_literal, value))})"
    return f"{kind}:{value:x}" if isinstance(value, int) else f"{kind}:{value!a}"


def _byte_code(code: types.CodeType) -> str:
    """A function without a source; another version of Python compiles it to something else."""
    version = ".".join(map(str, sys.version_info[:2]))
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars
    return f"{version}|{code.co_code.hex()}|{counts}|{_literal(names)}|{_literal(code.co_consts)}"
