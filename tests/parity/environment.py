"""An environment with curifactory, made once for all processes of a test session."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VERSION = "0.20.5"
PACKAGES = (f"curifactory=={VERSION}", "ipython", "jinja2", "pyarrow")
"""What is compared with, and what its displays and tables need."""

SECONDS = 400
"""How long the installation may take."""

MADE = "made"
FAILED = "failed"


class NotInstalledError(Exception):
    """A package cannot be installed here."""


def python_with_curifactory(folder: Path, modules: Sequence[str]) -> Path:
    """The interpreter of the environment in a folder, which is made when it is not there.

    Parameters
    ----------
    folder : Path
        The same for all processes of the session; the first one makes it, the others wait.
    modules : sequence of str
        What is imported there at once, so that they are compiled once and not by each process.

    Raises
    ------
    NotInstalledError
        Naming the packages and the installer's last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / FAILED).exists():
            raise NotInstalledError((folder / FAILED).read_text())
        if not (folder / MADE).exists():
            _make(folder, modules)
            (folder / MADE).touch()
    return folder / "environment" / "bin" / "python"


def shipped_with(python: Path) -> Path:
    """The folder of the curifactory that an interpreter's environment has."""
    (found,) = python.parent.parent.glob("lib/python*/site-packages/curifactory")
    return found


def _make(folder: Path, modules: Sequence[str]) -> None:
    environment = str(folder / "environment")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv:
        commands = (
            [uv, "venv", "--quiet", "--python", sys.executable, environment],
            [uv, "pip", "install", "--quiet", "--python", environment, *PACKAGES],
        )
    else:
        commands = (
            [sys.executable, "-m", "venv", environment],
            [f"{environment}/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", *PACKAGES],
        )
    for command in commands:
        problem = _problem(command)
        if problem:
            told = f"{' and '.join(PACKAGES)} cannot be installed here: {problem}"
            (folder / FAILED).write_text(told)
            raise NotInstalledError(told)
    # What is installed but cannot be imported is no reason to skip.
    subprocess.run([f"{environment}/bin/python", "-c", f"import {', '.join(modules)}"], check=True)


def _problem(command: Sequence[str]) -> str:
    """The last words of a command that fails; nothing of one that ends well."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {SECONDS} seconds"
    return done.stderr.strip()[-500:] or f"exit code {done.returncode}" if done.returncode else ""
