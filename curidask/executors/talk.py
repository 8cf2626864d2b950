"""The surroundings of jobs in the driver's own process: what they print stays where it goes, and is heard beside."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TextIO

from curidask.executors.base import Job
from curidask.executors.surroundings import ERR, OUT, WARNING, Spoken, Surroundings, prefix_of

_speaking: list[str] = []


def speaker() -> str:
    """How what is logged now begins: with the stage that this process runs for itself, if it runs one."""
    return _speaking[-1] if _speaking else ""


class Overheard(Surroundings):
    """The surroundings of jobs of an executor that runs them in this process.

    Parameters
    ----------
    hear : callable
        Given what is said.
    before : callable
        Called before something is printed, so that a display can make room.
    """

    def __init__(self, hear: Callable[[Spoken], None], before: Callable[[], None]) -> None:
        self._hear = hear
        self._before = before

    @contextmanager
    def during(self, job: Job) -> Iterator[None]:
        """Hear what is printed while the block runs, and undo what a stage does to the streams."""
        _speaking.append(prefix_of(job.spec.name, job.record.name))
        streams = sys.stdout, sys.stderr
        out, err = (
            _Tee(s, partial(self._said, job, k), self._before) for s, k in zip(streams, (OUT, ERR), strict=True)
        )
        sys.stdout, sys.stderr = out, err
        try:
            with _kept_open():
                yield
        finally:
            sys.stdout, sys.stderr = streams
            _speaking.pop()
            out.end()
            err.end()

    def warn(self, job: Job, text: str) -> bool:
        """Tell it now."""
        self._hear(Spoken(job.id, WARNING, text))
        return True

    def last_resort(self, seconds: float) -> AbstractContextManager[None]:
        """Do nothing: this process is the driver."""
        return contextlib.nullcontext()

    def peak_bytes(self) -> int:
        """Unknown: what this process has is not the stage's alone."""
        return 0

    def _said(self, job: Job, kind: str, text: str) -> None:
        self._hear(Spoken(job.id, kind, text, shown=True))


@contextmanager
def _kept_open() -> Iterator[None]:
    """Open the file descriptors of the standard streams again when a stage closed them."""
    kept = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):
            kept[number] = os.dup(number)
    try:
        yield
    finally:
        for number, copy in kept.items():
            try:
                os.fstat(number)
            except OSError:
                os.dup2(copy, number)
            os.close(copy)


class _Tee:
    """A stream that is written to as before, and whose whole lines are heard.

    Attributes
    ----------
    beneath : file
        The stream itself, for what is not said by the stage.
    """

    def __init__(self, stream: TextIO, hear: Callable[[str], None], before: Callable[[], None]) -> None:
        self.beneath = stream
        self._hear = hear
        self._before = before
        self._part = ""

    def write(self, text: str) -> int:
        """Write, once the terminal is ready for it."""
        self._before()
        written = self.beneath.write(text)
        if isinstance(text, str):
            *lines, self._part = (self._part + text).split("\n")
            for line in lines:
                self._hear(line.rpartition("\r")[2])
        return written

    def close(self) -> None:
        """Leave it open: it is everybody's."""

    def end(self) -> None:
        """Hear an unfinished last line."""
        if self._part.strip():
            self._hear(self._part.rpartition("\r")[2])
        self._part = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)
