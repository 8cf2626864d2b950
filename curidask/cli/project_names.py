"""Names in a project, found without importing any of it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from curidask.core.code.canonical_source import parse
from curidask.session.config import Config
from curidask.session.project_modules import module_files

MODULES_AT_MOST = 50
"""Modules of the project that are read for the names of stages."""

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def experiments(config: Config) -> dict[str, str]:
    """The experiments with the first line of their docstring."""
    return {name: _summary(tree) for name, tree in _modules(config, config.experiments) if _defines(tree, "run")}


def param_modules(config: Config) -> dict[str, str]:
    """The modules that define ``get_params()``."""
    folders = (config.params, config.experiments)
    return {n: _summary(tree) for f in folders for n, tree in _modules(config, f) if _defines(tree, "get_params")}


def sets(config: Config, experiment: str | None, modules: Sequence[str] = ()) -> dict[str, str]:
    """Names of parameter sets: of earlier runs of the experiment, and written out in ``get_params()``."""
    from curidask.runs import param_registry

    runs = config.path(config.runs)
    listed = param_registry.listing(runs, _module_name(experiment)) if experiment else param_registry.listing(runs)
    found = {name: hash_[:8] for hash_, name in sorted(listed.values(), key=lambda item: item[1])}
    if modules:
        found = {}  # what earlier runs took from other modules would only mislead
    for module in modules or ([experiment] if experiment else []):
        for folder in (config.params, config.experiments):
            tree = _parsed(_file(config, folder, module))
            if tree is not None:
                found |= dict.fromkeys((n for n in _literal_names(tree) if n not in found), "")
                break
    return found


def stages(config: Config, experiment: str | None) -> dict[str, str]:
    """The stages in an experiment's file and in the project's modules that it imports."""
    if not experiment:
        return {}
    pending = [_file(config, config.experiments, experiment)]
    seen: set[Path] = set()
    found: dict[str, str] = {}
    while pending and len(seen) < MODULES_AT_MOST:
        path = pending.pop()
        tree = _parsed(path) if path not in seen else None
        seen.add(path)
        if tree is not None:
            found |= {function.name: _summary(function) for function in _stage_functions(tree)}
            pending.extend(_imported(tree, path, config.root))
    return found


# --- files -----------------------------------------------------------------------------------------------------------
def _modules(config: Config, folder: str) -> Iterator[tuple[str, ast.Module]]:
    for name, path in module_files(config, folder).items():
        tree = _parsed(path)
        if tree is not None:
            yield name, tree


def _module_name(asked: str) -> str:
    return asked.removesuffix(".py").replace("/", ".")


def _file(config: Config, folder: str, module: str) -> Path:
    name = _module_name(module)
    return module_files(config, folder).get(name, config.path(folder) / f"{name}.py")


def _parsed(path: Path) -> ast.Module | None:
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):  # a file that is being written is no reason to complete nothing else
        return None


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """The project's own modules that a module imports."""
    for node in ast.walk(tree):
        names: list[str] = []
        base = root
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = path.parents[node.level - 1]
            prefix = f"{node.module}." if node.module else ""
            names = [node.module or "", *(prefix + alias.name for alias in node.names)]
        for name in filter(None, names):
            place = base.joinpath(*name.split("."))
            yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if os.path.isfile(p))


# --- what is in them -------------------------------------------------------------------------------------------------
def _summary(node: ast.Module | FUNCTION) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _defines(tree: ast.Module, function: str) -> bool:
    """Whether a module has a function of its own, or takes it over from another."""
    for node in tree.body:
        if isinstance(node, FUNCTION) and node.name == function:
            return True
        if isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == function for a in node.names):
            return True
    return False


def _stage_functions(tree: ast.Module) -> Iterator[FUNCTION]:
    for node in tree.body:
        if isinstance(node, FUNCTION) and any(_called(d) in ("stage", "aggregate") for d in node.decorator_list):
            yield node


def _called(node: ast.expr) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _literal_names(tree: ast.Module) -> Iterator[str]:
    """Texts given as ``name=``, or first, to what ``get_params()`` calls."""
    for function in tree.body:
        if isinstance(function, FUNCTION) and function.name == "get_params":
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                given = [keyword.value for keyword in call.keywords if keyword.arg == "name"] or call.args[:1]
                if _called(call)[:1].isupper():
                    yield from (n.value for n in given if isinstance(n, ast.Constant) and isinstance(n.value, str))
