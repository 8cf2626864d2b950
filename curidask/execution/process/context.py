"""What surrounds a job in the process that runs it: who hears what it says, and what ends it when nothing else does."""

from __future__ import annotations

import contextlib
import linecache
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from curidask.execution.base import Job
from curidask.execution.project.importer import path_on_driver

# --- warnings of stages ----------------------------------------------------------------------------------------------
# Printed as Python prints them, wherever a stage runs, with the file as the user knows it.


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


# --- context ---------------------------------------------------------------------------------------------------------
OUT, ERR, LOG, WARNING = "out", "err", "log", "warning"


@dataclass(frozen=True, slots=True)
class Spoken:
    """Something that a stage printed or logged, or that is said of it, while it runs.

    Attributes
    ----------
    task : int
        The task; -1 for what no stage said.
    kind : str
        ``out`` and ``err`` for a printed line, ``log`` for what was logged, ``warning`` for what we say of it.
    had : sequence of sequence of str
        Of a log record: its level, its logger's name, the file it came from, and the marks of the handlers that have
        had it, see `curidask.execution.process.log_relay`.
    shown : bool
        Whether it went to the terminal already.
    """

    task: int
    kind: str
    text: str
    level: int = 0
    logger: str = ""
    path: str = ""
    had: Sequence[Sequence[str]] = ()
    shown: bool = False


def prefix_of(stage: str, set_name: str) -> str:
    """How a line begins that a stage printed or logged."""
    return f"[{set_name} {stage}] "


class ProcessContext(Protocol):
    """The process around a job."""

    def during(self, job: Job) -> AbstractContextManager[None]:
        """Take what is said while the block runs as said by the job."""
        ...

    def warn(self, job: Job, text: str) -> bool:
        """Tell the user something now; False when nobody hears it."""
        ...

    def last_resort(self, seconds: float) -> AbstractContextManager[None]:
        """End the process when the block runs longer, where it is one that may be ended."""
        ...

    def peak_bytes(self) -> int:
        """The most memory that the process had while the job ran, as far as it is known; 0 when it is not."""
        ...


class Nothing(ProcessContext):
    """A process in which nobody listens."""

    def during(self, job: Job) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def warn(self, job: Job, text: str) -> bool:
        """Nobody hears it."""
        return False

    def last_resort(self, seconds: float) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def peak_bytes(self) -> int:
        """Unknown."""
        return 0


NOTHING = Nothing()
