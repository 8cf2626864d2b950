"""Warnings of stages: printed as Python prints them, wherever a stage runs, with the file as the user knows it."""

from __future__ import annotations

import contextlib
import linecache
import sys
import warnings
from typing import Any

from curidask.execution.project.importer import path_on_driver


def print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Do what `warnings.showwarning` does by itself."""
    stream = file or sys.stderr
    if stream is None:  # as in a process that was started without
        return
    if line is None:  # read where the file is
        line = linecache.getline(filename, lineno)
    text = warnings.formatwarning(message, category, path_on_driver(filename), lineno, line)
    with contextlib.suppress(OSError):
        stream.write(text)
