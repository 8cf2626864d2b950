"""What a project's source files import, read without importing: packages, and files of the project itself."""

from __future__ import annotations

import ast
import functools
import os
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from curidask.core.code.canonical_source import parse
from curidask.core.code.identity import INSTALLED

# --- whose a file is that a module was loaded from -------------------------------------------------------------------
# The project's, an installed package's, Python's, or of neither.

_STANDARD = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})


def is_own_file(path: str | Path, root: Path) -> bool:
    """Whether a file is the project's own: below its folder, but not installed below it."""
    text = os.fspath(path)
    if ".." in text:  # as where a file puts a folder beside the project on the path
        text = os.path.normpath(text)
    # Asked of each loaded module, so most are told by their text alone.
    if not text.startswith(os.path.join(root, "")) or text.startswith(_STANDARD):
        return False
    return not any(_is_installed(part) for part in _folders(Path(text), root))


def is_elsewhere(module: ModuleType, root: Path) -> bool:
    """Whether a module is neither a project's own, nor installed, nor part of Python or of curidask."""
    file = getattr(module, "__file__", None)
    return bool(file) and module.__name__.partition(".")[0] != FRAMEWORK and is_file_elsewhere(str(file), root)


def is_file_elsewhere(file: str, root: Path) -> bool:
    """The same of a file, other than of curidask."""
    if file.startswith(_STANDARD):
        return False
    path = Path(os.path.normpath(file))
    return not path.is_relative_to(root) and not set(INSTALLED).intersection(path.parts)


def _folders(path: Path, root: Path) -> Iterator[Path]:
    for folder in path.parents:
        if folder == root:
            return
        yield folder


def _is_installed(folder: Path) -> bool:
    return folder.name in INSTALLED or (folder / "pyvenv.cfg").exists()


# --- imports ---------------------------------------------------------------------------------------------------------
FRAMEWORK = "curidask"


@dataclass(frozen=True, slots=True)
class Imported:
    """What source files import.

    Attributes
    ----------
    packages : mapping of str to bool
        Top-level names that are neither the standard library's nor the project's, and whether the code does without
        them (an import in a ``try`` that catches its failure).
    files : tuple of Path
        The source files that were read: those given and the project's own that they import, directly or not.
    """

    packages: Mapping[str, bool]
    files: tuple[Path, ...]


def scan(
    start: Iterable[Path],
    root: Path,
    read_source: Callable[[Path], bytes] = Path.read_bytes,
    taken: Collection[str] = (),
) -> Imported:
    """Read source files and follow their imports within the project.

    Parameters
    ----------
    root : Path
        The project's folder.
    read_source : callable, optional
        Gives the source of a file.
    taken : collection of str
        Names that are not the project's though it has such files.
    """
    folders = [root, *(Path(entry) for entry in sys.path if _is_below(entry, root))]
    packages: dict[str, bool] = {}
    pending = [path.resolve() for path in start]
    read: dict[Path, None] = {}
    while pending:
        path = pending.pop()
        if path in read:
            continue
        read[path] = None
        for name, is_optional in _imports(path, read_source):
            if name.startswith("."):
                pending += _files(path.parents[len(name) - len(name.lstrip(".")) - 1], name.lstrip("."))
                continue
            top = name.partition(".")[0]
            own = [file for folder in folders for file in _files(folder, name)] if top not in taken else []
            pending += own
            if top not in taken:  # and maybe without an __init__.py
                own = own or [folder / top for folder in folders if (folder / top).is_dir()]
            if not own and top not in sys.stdlib_module_names and top not in (FRAMEWORK, "__main__"):
                packages[top] = packages.get(top, True) and is_optional
    return Imported(packages, tuple(read))


@functools.lru_cache(maxsize=1024)
def top_level_imports(source: bytes) -> frozenset[str]:
    """The top-level names of the modules that a source imports, without relative imports."""
    imported = _imports_in(source)
    return frozenset(name.partition(".")[0] for name, _ in imported if not name.startswith("."))


def _is_below(entry: str, root: Path) -> bool:
    path = Path(os.path.normpath(entry))
    return path != root and path.is_relative_to(root) and not any(part in INSTALLED for part in path.parts)


def _files(folder: Path, name: str) -> list[Path]:
    """The files that importing a module from a folder loads; none when it is not there."""
    found: list[Path] = []
    for part in filter(None, name.split(".")):
        module = folder / f"{part}.py"
        if module.is_file():
            return [*found, module.resolve()]
        folder = folder / part
        if not folder.is_dir():
            break
        package = folder / "__init__.py"
        if package.is_file():
            found.append(package.resolve())
    return found


def _imports(path: Path, read_source: Callable[[Path], bytes]) -> Iterator[tuple[str, bool]]:
    try:
        source = read_source(path)
    except OSError:
        return
    yield from _imports_in(source)


def _imports_in(source: bytes) -> Iterator[tuple[str, bool]]:
    """The modules that a source imports, relative ones with leading dots, and whether it does without them."""
    try:
        tree: ast.AST = parse(source)
    except (SyntaxError, ValueError):
        return
    pending = [(tree, False)]
    while pending:
        node, is_optional = pending.pop()
        if isinstance(node, ast.If) and _is_for_types(node.test):
            pending += [(child, is_optional) for child in node.orelse]
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, is_optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, is_optional) for name in _imported_from(node))
        if isinstance(node, ast.Try):
            is_optional = is_optional or any(map(_catches_import, node.handlers))
        pending += [(child, is_optional) for child in ast.iter_child_nodes(node)]


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    base = "." * node.level + (node.module or "")
    yield base
    separator = "" if base.endswith(".") else "."
    yield from (f"{base}{separator}{alias.name}" for alias in node.names if alias.name != "*")


def _is_for_types(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _catches_import(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {getattr(kind, "id", "") for kind in caught}
    return handler.type is None or bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})
