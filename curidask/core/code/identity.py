"""The identity of a function that is a value: its source without what does not matter.

Comments, docstrings, layout and line numbers do not count. Code of installed packages counts by name only. May read
source files through `inspect`; this is the pure core's one look at a file.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from curidask.core.code.canonical_source import canonical, literal, parse

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

INSTALLED = ("site-packages", "dist-packages")
"""Names of folders in which packages are installed."""

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_installed(value: Any) -> bool:
    """Whether a function or class comes from the standard library or an installed package, and can be found by name."""
    if "<" in getattr(value, "__qualname__", "<") or not is_installed_module(getattr(value, "__module__", "") or ""):
        return False
    return not (isinstance(value, type) and is_made_for_project(value))


def is_made_for_project(cls: type) -> bool:
    """Whether a package made a class that is the project's, as `types.new_class` and the metaclasses of packages do.

    It bears the name of the module that made it, and is not found there.
    """
    known = _made_for_project.get(cls)
    if known is None:
        known = _made_for_project[cls] = not is_found(cls) and any(_is_of_project(kind) for kind in (cls, *cls.__mro__))
    return known


_made_for_project: WeakKeyDictionary[type, bool] = WeakKeyDictionary()

_MAKERS = ("types", "abc")
"""Modules that make classes for others."""


def is_found(code: Any) -> bool:
    """Whether whoever asks its module for the name of a class or function gets it."""
    found: Any = sys.modules.get(code.__module__)
    for part in code.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is code


def _is_of_project(cls: type) -> bool:
    kinds = (cls.__module__, type(cls).__module__)
    if not all(map(is_installed_module, kinds)) or (cls.__module__ in _MAKERS and not is_found(cls)):
        return True
    functions = [part for part in vars(cls).values() if isinstance(part, types.FunctionType)]
    return not is_found(cls) and any(not is_wrapper(f) and f.__code__.co_filename[:1] != "<" for f in functions)


def is_installed_module(name: str) -> bool:
    """Whether a module that is loaded is the standard library's or that of an installed package."""
    module = sys.modules.get(name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.stdlib_module_names or module.__name__ == "builtins"
    return is_installed_file(file)


def is_installed_file(file: str) -> bool:
    """Whether a file is the standard library's or that of an installed package."""
    return "site-packages" in file or file.startswith(_INSTALLED)


_ONE_NAMESPACE = ("numpy", "pandas", "polars")
"""Packages whose public names are few and all different, while the modules behind them move."""


def public_name(value: Any) -> str:
    """The name of a function or class: with its module where it is installed, without where it is a project's.

    Private modules are left out: what is public stays where it is from version to version, they do not.
    """
    name: str = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{public_module(value.__module__, name)}:{name}" if is_installed(value) else name


_NAMES_IN_KEYS = {
    ("curidask.core.preview", "ArtifactRepresentation"): "curidask.representation",
    ("curidask.core.spec", "OutputSpec"): "curidask.stage_spec",
    ("curidask.core.spec", "StageOptions"): "curidask.stage_options",
    ("curidask.core.spec", "StageSpec"): "curidask.stage_spec",
}
"""Where classes of ours once lay of which objects may be parameters, such as stages."""


def public_module(name: str, of: str = "") -> str:
    """The name of a module, of something in it where that is given, without what is private in it."""
    parts = _NAMES_IN_KEYS.get((name, of), name).split(".")
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
    return function_text(code)


def is_wrapper(function: types.FunctionType) -> bool:
    """Whether its code is that of an installed package, whatever module and name it bears: a decorator made it."""
    return is_installed_file(function.__code__.co_filename)


def computed_defaults(function: types.FunctionType) -> dict[str, Any]:
    """The defaults of a function that its source does not tell, by argument."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    found = {**dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)), **(function.__kwdefaults__ or {})}
    node = _find_node(function.__code__) if found else None
    if node is not None:
        arguments = node.args
        positional = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
        written = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        written |= {
            arg.arg: value for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value
        }
        found = {name: value for name, value in found.items() if not isinstance(written.get(name), ast.Constant)}
    return found


def attributes_of(function: types.FunctionType) -> dict[str, Any]:
    """What the project has set on a function; not what decorators keep there."""
    own = function.__dict__
    if not own or is_wrapper(function) or str(function.__globals__.get("__name__")).startswith("curidask."):
        return {}
    return {name: value for name, value in own.items() if name != "__wrapped__"}


def reached_values(function: types.FunctionType) -> dict[str, Any]:
    """What a function takes from around it: its closure, and the project's constants and functions it names."""
    names = function.__code__.co_freevars
    cells = function.__closure__ or ()
    reached = {name: _cell(cell) for name, cell in zip(names, cells, strict=True)}
    if is_wrapper(function):
        return reached
    is_constant = _is_constant if has_source(function) else is_plain_data
    for name, value in sorted(_named_by(function).items()):
        if is_constant(value) or _is_project_code(value):
            reached[f"global {name}"] = value
    return reached


def _named_by(function: types.FunctionType) -> dict[str, Any]:
    """What the names in a function's code are; without a source also in the modules of the project that it names."""
    names, around = _global_names(function.__code__), function.__globals__
    found = {name: around[name] for name in names if name in around}
    if has_source(function):
        return found
    modules = [value for value in found.values() if isinstance(value, types.ModuleType)]
    modules += [sys.modules[name] for name in names if name in sys.modules and name not in found]
    for module in modules:
        if not is_installed_module(module.__name__) and module.__name__ != "__main__":
            found |= {f"{module.__name__}.{name}": vars(module)[name] for name in names if name in vars(module)}
    return found


def has_source(function: types.FunctionType) -> bool:
    """Whether the source of a function is known: that of a file, or of a cell or line that was typed."""
    file = function.__code__.co_filename
    return is_typed(file) if file.startswith("<") else _is_readable(file)


def is_typed(file: str) -> bool:
    """Whether a name that is no file's is that of a cell or line of which the text is known.

    Since Python 3.13 the text of ``python -c`` is known as ``<string>``, as all that `exec` compiles is called.
    """
    return file != "<string>" and file in linecache.cache


@functools.lru_cache(maxsize=4096)
def _is_readable(file: str) -> bool:
    return bool(linecache.getlines(file))


def _is_constant(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex | str | bytes)


MOST_ITEMS = 1_000
"""Larger containers are data rather than constants."""


def is_plain_data(value: Any, depth: int = 5) -> bool:
    """Whether a value is a constant, or a container of them."""
    if value is None or _is_constant(value):
        return True
    if type(value) not in (tuple, list, set, frozenset, dict) or not depth or len(value) > MOST_ITEMS:
        return False
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return all(is_plain_data(part, depth - 1) for part in parts)


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
def function_text(code: types.CodeType) -> str:
    """The normalised source of code, or its byte code where there is no source."""
    node = _find_node(code)
    return canonical(node) if node is not None else byte_code(code)


def _find_node(code: types.CodeType) -> FunctionNode | None:
    try:
        if code.co_filename.startswith("<") and not is_typed(code.co_filename):
            return None
        lines, _ = inspect.findsource(code)
        tree = parsed("".join(lines))
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return node_of(code, tree)


def node_of(code: types.CodeType, tree: ast.AST) -> FunctionNode | None:
    """The function or lambda of a code object in its file; several lambdas on a line are told apart by their column."""
    nodes = [node for node in _functions(tree) if first_line(node) == code.co_firstlineno]
    nodes = [node for node in nodes if getattr(node, "name", "<lambda>") == code.co_name]
    if len(nodes) > 1:
        spans = {p[:4] for p in code.co_positions() if p[2] is not None and p[0] is not None}
        nodes = [node for node in nodes if _covers(node, spans)]
        # Of lambdas within lambdas the innermost that covers the code is the one.
        nodes.sort(key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0), reverse=False)
        nodes = nodes[:1]
    return nodes[0] if nodes else None


@functools.lru_cache(maxsize=64)
def parsed(source: str) -> ast.Module:
    """The tree of a source; see `curidask.core.code.canonical_source.parse`."""
    return parse(source)


def _functions(tree: ast.AST) -> Iterator[FunctionNode]:
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode):
            yield node


def first_line(node: FunctionNode) -> int:
    """The line on which a function begins, with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    lines: list[int] = [node.lineno, *(decorator.lineno for decorator in decorators)]
    return min(lines)


def _covers(node: FunctionNode, spans: set[Any]) -> bool:
    body = node.body if isinstance(node.body, ast.expr) else node
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    inside = [s for s in spans if start <= (s[0], s[2]) and (s[1], s[3]) <= end]
    return bool(inside) and any((s[0], s[2]) == start or (s[1], s[3]) == end for s in inside)


# --- functions without a source --------------------------------------------------------------------------------------
def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return byte_code(value)
    return f"tuple({','.join(map(_constant, value))})" if isinstance(value, tuple) else literal(value)


def byte_code(code: types.CodeType) -> str:
    """A function without a source; another version of Python compiles it to something else."""
    version = ".".join(map(str, sys.version_info[:2]))
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars
    return f"{version}|{code.co_code.hex()}|{counts}|{_constant(names)}|{_constant(code.co_consts)}"
