"""Small functions for experiments: commands, the state of code and packages, texts for people."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curidask.core.keywords import keywords
from curidask.errors import ProjectError
from curidask.runs.record import TIMESTAMP_FORMAT

if TYPE_CHECKING:
    from curidask.record import Record

__all__ = [
    "TIMESTAMP_FORMAT",
    "add_args_combo_hash",
    "check_git_dirty_workingdir",
    "get_command_output",
    "get_configuration",
    "get_current_commit",
    "get_os",
    "get_pip_freeze",
    "human_readable_mem_usage",
    "human_readable_time",
    "preview_object",
    "run_command",
]

logger = logging.getLogger("curidask.utils")

NO_REPOSITORY = "No git repository found"


# --- commands --------------------------------------------------------------------------------------------------------
@keywords()
def run_command(cmd: str | Sequence[str]) -> int:
    """Run a command, and print it and what it prints, line by line as it comes.

    Parameters
    ----------
    cmd : sequence of str, or str
        The program and its arguments, or a line of them. No shell is started for it.

    Returns
    -------
    int
        The command's exit code.

    Raises
    ------
    ProjectError
        When there is no such program, or it cannot be started.
    """
    words = _words(cmd)
    print(shlex.join(words), flush=True)
    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        raise ProjectError(
            f"The command cannot be run: {error.strerror or error}.",
            where=shlex.join(words),
            fix="install the program, or give the path to it",
        ) from error
    with process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    return process.returncode


@keywords()
def get_command_output(cmd: str | Sequence[str], silent: bool = False) -> str:
    """What a command prints, without the last line break; empty when it fails.

    Parameters
    ----------
    cmd : sequence of str, or str
        See `run_command`.
    silent : bool
        Log no warning when there is no such program.
    """
    try:
        done = subprocess.run(_words(cmd), capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        if not silent:
            logger.warning("%s cannot be run: %s", shlex.join(_words(cmd)), error.strerror or error)
        return ""
    return done.stdout.removesuffix("\n") if done.returncode == 0 else ""


def _words(cmd: str | Sequence[str]) -> list[str]:
    words = shlex.split(cmd) if isinstance(cmd, str) else [os.fspath(word) for word in cmd]
    if not words:
        raise ProjectError("The command is empty.", fix="give a program and its arguments, as in ['git', 'status']")
    return words


# --- where it runs ---------------------------------------------------------------------------------------------------
@keywords()
def get_current_commit() -> str:
    """The commit that is checked out around the current folder, or a text that says that there is no repository."""
    from curidask.runs.record import git_state

    return str(git_state(Path.cwd()).get("commit", NO_REPOSITORY))


@keywords()
def check_git_dirty_workingdir() -> bool:
    """Whether tracked files have changes that are not committed; also True outside of a repository."""
    from curidask.runs.record import git_state

    return bool(git_state(Path.cwd()).get("changed", True))


@keywords()
def get_pip_freeze() -> str:
    """The installed packages, as lines that pip reads."""
    from curidask.session.export import requirements

    return "\n".join(requirements())


@keywords()
def get_os() -> str:
    """Name and version of the operating system."""
    return platform.platform()


@keywords()
def get_configuration() -> dict[str, str]:
    """The project's configuration under the keys of older projects; paths as seen from the current folder.

    `curidask.session.config.load_config` gives all of it.
    """
    from curidask.session.config import load_config

    config = load_config()

    def seen(place: str) -> str:
        return place if "://" in place or "," in place else os.path.relpath(config.path(place))

    notebooks = os.path.dirname(config.notebooks) if config.notebooks.endswith("/experiments") else config.notebooks
    return {
        "experiments_module_name": config.experiments.replace("/", "."),
        "params_module_name": config.params.replace("/", "."),
        "manager_cache_path": os.path.dirname(seen(config.runs)) or os.curdir,
        "cache_path": seen(config.cache),
        "runs_path": seen(config.runs),
        "logs_path": seen(config.logs),
        "notebooks_path": seen(notebooks),
        "reports_path": seen(config.reports),
        "report_css_path": seen(config.report_css or os.path.join(config.reports, "style.css")),
    }


# --- texts -----------------------------------------------------------------------------------------------------------
@keywords()
def preview_object(object: Any) -> str:
    """A text of a line about a value: type, shape or length, and how it begins."""
    from curidask.core.preview import preview

    return preview(object)


@keywords()
def human_readable_mem_usage(byte_count: float) -> str:
    """A number of bytes in the unit that suits it, as in ``1.23 GB``; negative ones too."""
    from curidask.core.units import format_size

    return "-" * (byte_count < 0) + format_size(abs(byte_count))


@keywords()
def human_readable_time(seconds: float) -> str:
    """A time in the unit that suits it, as in ``250 ms``."""
    from curidask.session.progress import duration

    return f"{seconds * 1000:.3g} ms" if abs(seconds) < 1 else duration(seconds)


# --- old names -------------------------------------------------------------------------------------------------------
@keywords()
def add_args_combo_hash(active_record: Record, records: Sequence[Record]) -> str:
    """Let a record stand for all the records that go into it; see `Record.set_aggregate`.

    Parameters
    ----------
    active_record : Record
        The aggregate's own.
    records : sequence of Record
        In the order that counts.

    Returns
    -------
    str
        The combined hash, 32 hex digits.
    """
    active_record.set_aggregate(records)
    return active_record.get_hash()
