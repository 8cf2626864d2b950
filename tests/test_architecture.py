"""The order of the layers: a module imports only from groups above its own, and what is heavy loads when it is used."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import curidask

PACKAGE = Path(curidask.__file__).parent

GROUPS = [
    ["core", "errors", "hashing", "params", "args", "staging"],
    ["store", "caching"],
    ["execution", "clusters"],
    ["runs", "session", "state", "record", "procedure", "manager", "experiment_run", "experiment", "utils"],
    ["reporting", "cli", "__main__", "standing", "standing_pickler", "graph", "representation", "executors"],
]
LEVEL = {name: level for level, names in enumerate(GROUPS) for name in names}

IMPURE = {"os", "io", "socket", "time", "random", "logging", "subprocess", "tempfile", "shutil", "threading", "asyncio"}
ONLY_IN = {
    "fsspec": {"store/backends/fsspec.py"},
    "obstore": {"store/backends/obstore.py"},
    "distributed": {"execution/dask", "clusters"},
    "dask": {"execution/dask", "clusters"},
}


def modules() -> list[Path]:
    return sorted(
        path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parts
    )


def group_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> list[str]:
    """The modules that a file imports anywhere, but for the sake of types only."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    stack: list[ast.AST] = [ast.parse((PACKAGE / path).read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (_imported(node.module, alias.name) for alias in node.names)
        stack.extend(ast.iter_child_nodes(node))


def _imported(module: str, name: str) -> str:
    """The submodule that is imported from a package, or the module that something is imported from."""
    folder = PACKAGE.parent.joinpath(*module.split("."))
    is_module = (folder / f"{name}.py").exists() or (folder / name).is_dir()
    return f"{module}.{name}" if is_module or module == "curidask" else module


def test_imports_go_upwards_only() -> None:
    inner = [path for path in modules() if path.name != "__init__.py" or len(path.parts) > 1]
    assert [path for path in inner if group_of(path) not in LEVEL] == [], "these belong to no group"
    wrong = []
    for path in inner:
        for name in imports(path):
            package, _, rest = name.partition(".")
            if package == "curidask" and rest and not rest.startswith("__"):
                other = rest.partition(".")[0]
                wrong += [f"{path} imports {name}"] if LEVEL[other] > LEVEL[group_of(path)] else []
    assert wrong == []


def test_what_only_few_modules_may_know() -> None:
    wrong = []
    for path in modules():
        packages = {name.partition(".")[0] for name in imports(path)}
        forbidden = {package for package, allowed in ONLY_IN.items() if not {str(path), str(path.parent)} & allowed}
        forbidden |= IMPURE if LEVEL.get(group_of(path)) == 0 else set()
        wrong += [f"{path} imports {package}" for package in sorted(packages & forbidden)]
    assert wrong == []


def test_faces_are_found_by_name_in_one_place_only() -> None:
    shell = {path for path in modules() if LEVEL.get(group_of(path)) == 3}
    by_name = {str(path) for path in shell if "importlib" in imports(path)}
    # `project_modules` imports what is the user's, `export` asks for the packages' versions.
    assert by_name == {"session/displays.py", "session/project_modules.py", "session/export.py"}


def test_there_are_no_cycles() -> None:
    names = {".".join(("curidask", *path.with_suffix("").parts)).removesuffix(".__init__"): path for path in modules()}
    edges = {name: {i for i in imports(path) if i in names and i != name} for name, path in names.items()}
    edges["curidask"] = set()  # its names load when they are used
    for package in ("curidask.execution", "curidask.store", "curidask.cli"):
        assert not edges[package]
    while edges:
        free = [name for name, used in edges.items() if not used & edges.keys()]
        assert free, f"a cycle among {sorted(edges)}"
        for name in free:
            del edges[name]


HEAVY = {
    "numpy",
    "pandas",
    "matplotlib",
    "distributed",
    "dask",
    "s3fs",
    "obstore",
    "botocore",
    "fsspec",
    "rich",
    "cloudpickle",
}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import curidask", set()),
        ("from curidask import stage, aggregate, Record, ExperimentParameters, ArtifactManager, run_experiment", set()),
        ("import curidask.cli.run", set()),
        ("import curidask.cli.commands", set()),
    ],
)
def test_heavy_packages_load_when_they_are_used(statement: str, allowed: set[str]) -> None:
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) <= allowed
