"""The files of a project's experiment and parameter modules, found without importing any."""

from __future__ import annotations

from pathlib import Path

from curidask.session.config import Config


def module_files(config: Config, folder: str) -> dict[str, Path]:
    """The modules in a folder of the project by name, with dots for subfolders.

    A package is one too, unless its ``__init__.py`` is empty; like Python, it goes before a module of its name.
    """
    root = config.path(folder)
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.py")) if root.is_dir() else ():
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1] if path.stat().st_size else ()
        if parts and not any(part.startswith(("_", ".")) for part in parts):
            found.setdefault(".".join(parts), path)
    return found
