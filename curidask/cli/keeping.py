"""What is kept of a run beside its record: notes, the notebook, the image; and where it all is."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from curidask import run_folder
from curidask.cli.options import EDITOR

if TYPE_CHECKING:
    from curidask.manager import ArtifactManager

TEMPLATE = """

# Notes for this run; the first line is their title. Lines that begin with '#' are left out.
# An empty message keeps no notes.
"""


# --- notes -----------------------------------------------------------------------------------------------------------
def notes(given: str | None, *, dry: bool) -> str | Callable[[], str]:
    """The text for ``--notes``, or what asks for it in an editor."""
    if not given:
        return ""
    if dry:
        warnings.warn("a dry run keeps no run record, so the notes are not kept", stacklevel=2)
        return ""
    if given != EDITOR:
        return given
    editor = _editor()
    if editor is None and not sys.stdin.isatty():
        raise click.UsageError("--notes without a text opens an editor, which needs a terminal: write --notes TEXT.")
    return lambda: _edited(editor)


def _editor() -> str | None:
    """The editor: $VISUAL, $EDITOR, git's; None for one that click finds."""
    for variable in ("VISUAL", "EDITOR"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        done = subprocess.run(["git", "config", "core.editor"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _edited(editor: str | None) -> str:
    text = click.edit(TEMPLATE, editor=editor, require_save=False) or ""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()


# --- after the run ---------------------------------------------------------------------------------------------------
def keep(manager: ArtifactManager, options: dict[str, Any], *, store_full: bool) -> list[str]:
    """Write what the flags ask for; lines that say where it is."""
    lines = []
    if store_full:
        lines.append(f"folder: {run_folder.run_path(manager.config, manager.reference)}")
        lines.append(f"again:  {run_folder.reproduce_command(manager)}")
    if options["notebook"] or options["docker"]:
        from curidask.cli import run_notebook

        path = run_notebook.write(manager, from_folder=store_full)
        lines.append(f"notebook: {path}")
        if options["docker"]:
            from curidask.cli import docker

            lines += docker.prepare(manager, path, quiet=options["quiet"])
    return lines


def places(manager: ArtifactManager) -> list[str]:
    """Where the cache and the run record are."""
    if manager.dry:
        return []
    folder = run_folder.run_path(manager.config, manager.reference)
    return [f"cache:  {manager.store.url}", f"record: {folder / 'run.json'}"]
