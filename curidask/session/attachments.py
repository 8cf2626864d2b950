"""What is kept of a run beside its record: notes, the notebook, the image; and where it all is."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from curidask.errors import CacheError, ConfigurationError, CuridaskError, RunFailedError, StageFailedError
from curidask.execution.tracebacks import first_line
from curidask.runs.schema import FILE as RECORD
from curidask.session import export as run_export
from curidask.session.base import Session
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
def kept(manager: Session, keeping: Keeping, on_report: Callable[[Path], None]) -> Iterator[None]:
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


def _fill(manager: Session, failed: CuridaskError | None) -> None:
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


def _report(manager: Session, tell: Callable[[Path], None], *, wanted: bool) -> None:
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


def keep(manager: Session, keeping: Keeping, *, quiet: bool) -> list[str]:
    """Write what is to be kept beside the record and the report; lines that say where it is."""
    lines = []
    if keeping.store_full:
        lines.append(f"folder: {run_export.run_path(manager.config, manager.reference)}")
        lines.append(f"again:  {run_export.reproduce_command(manager)}")
    if keeping.notebook:
        path = write(manager, from_folder=keeping.store_full)
        lines.append(f"notebook: {path}")
        if keeping.docker:
            from curidask.session import image as docker

            lines += docker.prepare(manager, path, quiet=quiet)
    return lines


def places(manager: Session) -> list[str]:
    """Where the cache and the run record are."""
    if manager.dry:
        return []
    lines = [f"cache:  {manager.store.url}"]
    record = run_export.run_path(manager.config, manager.reference) / "run.json"
    if manager.is_recorded and os.path.exists(record):
        lines.append(f"record: {record}")
    return lines


# --- a notebook that reloads a run -----------------------------------------------------------------------------------
# Its records and their states, out of the cache, with nothing computed again.

FIND_PROJECT = """\
# The project's folder: this notebook lies below it.
import os
from pathlib import Path

here = Path.cwd()
root = next((p for p in (here, *here.parents) if (p / {experiment!r}).exists()), Path({root!r}))
os.chdir(root)"""

RUN = """\
# The experiment once more, with what selected this run. Everything comes out of the cache; nothing is written.
from curidask import run_experiment

result = run_experiment(
{arguments}
)
manager = result.manager"""

RECORDS = """\
# The records: parameter set, hash, stages, and the names of what their states hold.
for record in manager.records:
    print(record.get_reference_name(), record.get_hash())
    print("   stages:", ", ".join(record.stages))
    print("   state: ", ", ".join(record.state))"""

STATE = """\
# A value is loaded when it is looked at.
record = manager.records[-1]
{name: record.state[name] for name in record.stage_outputs[-1]} if record.stage_outputs else {}"""


def write(manager: Session, *, from_folder: bool) -> Path:
    """Write the notebook of a run that has ended.

    Parameters
    ----------
    from_folder : bool
        Read from the run's own folder (a store-full run) instead of from the cache it used.

    Returns
    -------
    Path

    Raises
    ------
    CacheError
        When it cannot be written.
    """
    config = manager.config
    path = config.path(config.notebooks) / f"{manager.reference}.ipynb"
    cache = str(run_export.run_path(config, manager.reference)) if from_folder else manager.store.url
    text = json.dumps(_notebook(manager, _relative(cache, config.root)), indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CacheError(
            f"The notebook cannot be written: {error.strerror or error}.",
            where=str(path),
            fix="make the folder writable, or set `notebooks` in the configuration",
        ) from error
    return path


def _relative(cache: str, root: Path) -> str:
    """A folder of the project as seen from the project, so that both can be moved together."""
    if "://" in cache or not Path(cache).is_relative_to(root):
        return cache
    return str(Path(cache).relative_to(root))


def _notebook(manager: Session, cache: str) -> dict[str, Any]:
    config, record = manager.config, manager.run_record
    file = f"{config.experiments}/{record.name.replace('.', '/')}.py"
    sources = [
        ("markdown", _title(manager)),
        ("code", FIND_PROJECT.format(experiment=file, root=str(config.root))),
        ("code", RUN.format(arguments=_arguments(record.name, record.prefix, cache, record.options))),
        ("code", RECORDS),
        ("code", STATE),
    ]
    return {
        "cells": [_cell(number, kind, source) for number, (kind, source) in enumerate(sources)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    cell["source"] = source.splitlines(keepends=True)
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _title(manager: Session) -> str:
    record = manager.run_record
    lines = [f"# {manager.reference}", "", f"Made by `{shlex.join(map(str, record.command))}`."]
    return "\n".join(lines + (["", record.notes] if record.notes else []))


def _arguments(name: str, prefix: str, cache: str, options: Mapping[str, Any]) -> str:
    selected = {key: value for key, value in options.items() if value}
    arguments = {**selected, "prefix": prefix, "cache": cache, "dry": True, "parallel": 0, "mngr": True}
    return "\n".join([f"    {name!r},", *(f"    {key}={value!r}," for key, value in arguments.items())])
