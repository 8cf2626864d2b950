"""Whose a file is that a module was loaded from: the project's, an installed package's, Python's, or of neither."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from curidask.execution.project.imports import FRAMEWORK, INSTALLED

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
