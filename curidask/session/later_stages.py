"""Whether a project could define further stages after its modules were loaded: in a function, or by another import."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import linecache
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from curidask.execution.project.file_owners import is_own_file
from curidask.execution.project.imports import FRAMEWORK

_MAKERS = ("stage", "aggregate")
_LOADERS = ("import_module", "run_path", "run_module", "exec_module", "reload", "__import__")
_EVALUATORS = ("exec", "eval")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def may_come_later(root: Path) -> bool:
    """Whether a stage may be defined that is not defined yet, as far as the loaded modules tell.

    Those are read that are the project's, in `root`, and others that use curidask. In doubt it is so.
    """
    return any(_may_define(module) for module in list(sys.modules.values()) if _is_read(module, root))


def _is_read(module: ModuleType, root: Path) -> bool:
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not isinstance(file, str) or name.partition(".")[0] == FRAMEWORK:
        return False
    return is_own_file(file, root) or any(_is_ours(value) for value in list(vars(module).values()))


def _is_ours(value: object) -> bool:
    """Whether it is a module of curidask or one of its decorators; to look into other things may load something."""
    if isinstance(value, ModuleType):
        name = vars(value).get("__name__")
    elif isinstance(value, FunctionType) and value.__name__ in _MAKERS:
        name = value.__module__
    else:
        return False
    return isinstance(name, str) and name.partition(".")[0] == FRAMEWORK


def _may_define(module: ModuleType) -> bool:
    try:
        tree = ast.parse("".join(linecache.getlines(str(module.__file__))))
    except (SyntaxError, ValueError):
        return True
    if not tree.body and not str(module.__file__).endswith("__init__.py"):
        return True  # there is no source
    makers = {*_MAKERS, *_renamed(tree)}
    inside = list(_in_functions(tree))
    imports = [node for node in inside if isinstance(node, ast.Import | ast.ImportFrom)]
    named = (_name(node) for node in inside)
    if any(name in makers or name in _LOADERS for name in named):
        return True
    if any(isinstance(node, ast.Name) and node.id in _EVALUATORS for node in inside):
        return True
    # A decorator that is kept under a name, or handed on, may be used anywhere.
    return any(_name(node) in makers for node in _outside(tree)) or any(
        _brings_stages(module, node) for node in imports
    )


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _renamed(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname for alias in node.names if alias.name in _MAKERS and alias.asname)


def _in_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.Lambda):
            for part in node.body if isinstance(node, Function) else [node.body]:
                yield from ast.walk(part)


def _outside(tree: ast.Module) -> Iterator[ast.AST]:
    """What is run when a module is loaded, without decorators."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.ClassDef):
            pending += node.body
        elif not isinstance(node, Function | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _brings_stages(module: ModuleType, node: ast.Import | ast.ImportFrom) -> bool:
    return any(_has_stages(name) for name in _imported(module, node) if name not in sys.modules)


def _imported(module: ModuleType, node: ast.Import | ast.ImportFrom) -> Iterable[str]:
    """The modules that an import may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = module.__package__ or ""
    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
    there = vars(sys.modules[base]) if base in sys.modules else {}
    return [
        str(base),
        *(f"{base}.{alias.name}" for alias in node.names if base in sys.modules and alias.name not in there),
    ]


def _has_stages(name: str) -> bool:
    """Whether a module that is not loaded may define stages: any that is no package of others, or one that needs us."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == FRAMEWORK:
        return False
    owners = importlib.metadata.packages_distributions().get(top)
    if owners is None:
        return True
    needed = [need for owner in owners for need in importlib.metadata.requires(owner) or ()]
    return any(re.match(rf"{FRAMEWORK}\b", need) for need in needed)
