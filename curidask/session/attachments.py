"""What is kept of a run beside its record: notes, the notebook, the image; and where it all is."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from curidask.errors import ConfigurationError, CuridaskError, RunFailedError, StageFailedError
from curidask.execution.tracebacks import first_line
from curidask.manager import ArtifactManager
from curidask.runs import export as run_export
from curidask.runs.schema import FILE as RECORD
from curidask.session.events import show_warning

TEMPLATE = """

# Notes for this run; the first line is their title. Lines that begin with '#' are left out.
# An empty message keeps no notes.
"""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is to be kept of a run.

    Attributes
    ----------
    store_full, report, notebook, docker, log : bool
        The folder with all of it, the report, the notebook, the image, the log.
    all_loggers : bool
        Whether the log has what all packages log.
    log_debug : bool
        Whether the log has DEBUG messages too.
    """

    store_full: bool
    report: bool
    notebook: bool
    docker: bool
    log: bool
    all_loggers: bool
    log_debug: bool = False


# --- notes -----------------------------------------------------------------------------------------------------------
def ask_for_notes(given: str | None, *, kept: bool) -> Callable[[], str]:
    """What gives the notes of a run, if need be in an editor; to be called when it is known that the run can begin.

    Parameters
    ----------
    given : str or None
        The notes; empty to open the editor, None for none.
    kept : bool
        Whether the run has a record to keep them in.

    Raises
    ------
    ConfigurationError
        When there is no terminal for an editor.
    """
    if given is None:
        return str
    if not kept:
        warnings.warn("the notes are not kept, since the run keeps no record", stacklevel=2)
        return str
    if given.strip():
        return given.strip
    editor = _editor()
    if editor is None and not sys.stdin.isatty():
        raise ConfigurationError(
            "Notes without a text open an editor, which needs a terminal.", where="--notes", fix="write --notes TEXT"
        )
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
    try:
        text = click.edit(TEMPLATE, editor=editor, require_save=False) or ""
    except click.ClickException as error:
        raise CuridaskError(
            f"The notes cannot be edited: {error.message}", where="--notes", fix="write --notes TEXT, or set $EDITOR"
        ) from error
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()


# --- after the run ---------------------------------------------------------------------------------------------------
@contextmanager
def kept(manager: ArtifactManager, keeping: Keeping, on_report: Callable[[Path], None]) -> Iterator[None]:
    """Make the report and fill the folder when a run has ended, also when stages failed."""
    failed: CuridaskError | None = None
    report = keeping.report and manager.is_recorded
    try:
        yield
    except (RunFailedError, StageFailedError) as error:
        failed = error
    except Exception:
        _report(manager, on_report, wanted=report)
        raise
    _report(manager, on_report, wanted=report)  # before the folder is filled, which gets a copy
    if keeping.store_full:
        _fill(manager, failed)
    if failed is not None:
        raise failed


def _fill(manager: ArtifactManager, failed: CuridaskError | None) -> None:
    """Fill the run's folder; that it cannot be filled hides no failure of a stage."""
    try:
        for text in run_export.fill(manager):
            warnings.warn(text, stacklevel=2)
    except CuridaskError as error:
        if failed is None:
            raise
        show_warning(f"the run's folder is not whole: {error}")
        return
    if failed is not None:
        folder = run_export.run_path(manager.config, manager.reference)
        warnings.warn(f"the run failed; what it has is stored in {folder}", stacklevel=2)


def _report(manager: ArtifactManager, tell: Callable[[Path], None], *, wanted: bool) -> None:
    """Write the report, of a run that has a record. One that cannot be written, or is interrupted, fails no run."""
    if not (wanted and os.path.exists(manager.run_folder / RECORD)):  # where it cannot be kept, that is told
        return
    try:
        tell(manager.generate_report())
    except KeyboardInterrupt:
        show_warning(f"the report was interrupted; `experiment reports {manager.reference}` writes it")
    except Exception as error:
        said = str(error) if isinstance(error, CuridaskError) else first_line(error)
        show_warning(f"the report could not be written: {said}")


def keep(manager: ArtifactManager, keeping: Keeping, *, quiet: bool) -> list[str]:
    """Write what is to be kept beside the record and the report; lines that say where it is."""
    lines = []
    if keeping.store_full:
        lines.append(f"folder: {run_export.run_path(manager.config, manager.reference)}")
        lines.append(f"again:  {run_export.reproduce_command(manager)}")
    if keeping.notebook:
        from curidask.session import run_notebook

        path = run_notebook.write(manager, from_folder=keeping.store_full)
        lines.append(f"notebook: {path}")
        if keeping.docker:
            from curidask.session import docker

            lines += docker.prepare(manager, path, quiet=quiet)
    return lines


def places(manager: ArtifactManager) -> list[str]:
    """Where the cache and the run record are."""
    if manager.dry:
        return []
    lines = [f"cache:  {manager.store.url}"]
    record = run_export.run_path(manager.config, manager.reference) / "run.json"
    if manager.is_recorded and os.path.exists(record):
        lines.append(f"record: {record}")
    return lines
