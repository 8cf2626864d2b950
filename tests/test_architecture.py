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
    [
        "redaction",
        "errors",
        "expected_types",
        "keywords",
        "near_names",
        "hash_fields",
        "param_classes",
        "used_params",
        "params",
        "args",
        "parsing",
        "preview",
        "source_identity",
        "source_names",
        "source_modules",
        "code_identity",
        "class_identity",
        "local_classes",
        "source_files",
        "source_scopes",
        "source_definitions",
        "source_place",
        "source_reach",
        "param_shapes",
        "param_frames",
        "read_params",
        "encoding",
        "encoding_families",
        "encoding_packages",
        "carried_code",
        "hashing",
        "reloaded",
        "stage_options",
        "stage_spec",
        "staging",
        "graph",
        "representation",
        "planner",
        "run_events",
        "runstate",
    ],
    ["copies", "interrupts", "standing", "standing_pickler", "caching", "store"],
    ["executors", "clusters"],
    [
        "at_exit",
        "cache_use",
        "config",
        "files",
        "changes",
        "state",
        "displays",
        "loading",
        "module_files",
        "recorded",
        "history",
        "stage_code",
        "code_changes",
        "code_store",
        "explaining",
        "evidence",
        "lineage",
        "run_causes",
        "unused_params",
        "run_diff",
        "snapshots",
        "tracing",
        "waiting",
        "listening",
        "policy",
        "jobs",
        "contents",
        "deciding",
        "lineage_keeper",
        "stage_failures",
        "determinism",
        "announcing",
        "counting",
        "run_status",
        "resuming",
        "reported",
        "logs",
        "param_registry",
        "run_folder",
        "runner",
        "reading",
        "publishing",
        "record",
        "run_cache",
        "run_keeping",
        "later_stages",
        "session_facts",
        "placement",
        "manager",
        "procedure",
        "terminal",
        "progress",
        "queries",
        "run_notebook",
        "image_files",
        "docker",
        "keeping",
        "experiment_run",
        "experiment",
        "utils",
    ],
    ["reporting", "notebook", "cli", "__main__"],
]
LEVEL = {name: level for level, names in enumerate(GROUPS) for name in names}

IMPURE = {"os", "io", "socket", "time", "random", "logging", "subprocess", "tempfile", "shutil", "threading", "asyncio"}
ONLY_IN = {
    "fsspec": {"store/fsspec_objects.py"},
    "obstore": {"store/obstore_objects.py", "store/obstore_stores.py"},
    "distributed": {"executors/dask_worker.py", "executors/plugins.py", "executors/silence.py", "clusters"},
    "dask": {"executors/sending.py", "executors/cargo.py", "executors/chains.py", "clusters"},
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
        forbidden = {package for package, allowed in ONLY_IN.items() if not {str(path), path.parts[0]} & allowed}
        forbidden |= IMPURE if LEVEL.get(group_of(path)) == 0 else set()
        wrong += [f"{path} imports {package}" for package in sorted(packages & forbidden)]
    assert wrong == []


def test_faces_are_found_by_name_in_one_place_only() -> None:
    shell = {path for path in modules() if LEVEL.get(group_of(path)) == 3}
    by_name = {str(path) for path in shell if "importlib" in imports(path)}
    # `loading` imports what is the user's, `run_folder` asks for the packages' versions.
    assert by_name == {"displays.py", "loading.py", "run_folder.py"}


def test_there_are_no_cycles() -> None:
    names = {".".join(("curidask", *path.with_suffix("").parts)).removesuffix(".__init__"): path for path in modules()}
    edges = {name: {i for i in imports(path) if i in names and i != name} for name, path in names.items()}
    edges["curidask"] = set()  # its names load when they are used
    for package in ("curidask.executors", "curidask.store", "curidask.cli"):
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
        ("import curidask.cli.experiment", set()),
        ("import curidask.cli.curidask", set()),
    ],
)
def test_heavy_packages_load_when_they_are_used(statement: str, allowed: set[str]) -> None:
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) <= allowed
