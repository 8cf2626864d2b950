"""The surroundings of jobs in the driver's own process: what they print stays where it goes, and is heard beside."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from curidask.execution.base import Job
from curidask.execution.process.context import ERR, OUT, WARNING, ProcessContext, Spoken, prefix_of
from curidask.execution.process.process_state import logging_as_before

LONGEST_PART = 16_000
"""Characters of a line without an end after which it counts as one."""

_speaking: list[str] = []


def speaker() -> str:
    """How what is said now begins: with the stage that this process runs for itself, if it runs one that says it."""
    return _speaking[-1] if _speaking and not _telling.now else ""


class ConsoleTee(ProcessContext):
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
        self._tees = {OUT: _Tee(sys.stdout), ERR: _Tee(sys.stderr)}

    @contextmanager
    def during(self, job: Job) -> Iterator[None]:
        """Hear what is printed while the block runs, and undo what a stage does to the streams."""
        _speaking.append(prefix_of(job.spec.name, job.record.name))
        try:
            with (
                self._tees[OUT].replaces("stdout", partial(self._said, job, OUT), self._before),
                self._tees[ERR].replaces("stderr", partial(self._said, job, ERR), self._before),
            ):
                yield
        finally:
            _speaking.pop()

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
        with logging_as_before():
            self._hear(Spoken(job.id, kind, text, shown=True))


class _Telling(threading.local):
    """While it is entered, what this thread writes is not the stage's."""

    now = False

    def __enter__(self) -> None:
        self.now = True

    def __exit__(self, *_: object) -> None:
        self.now = False


_telling = _Telling()


class _Tee:
    """A stream that is written to as before, and whose whole lines are heard while a stage runs.

    What is written while a display makes room, or while it is told what was heard, is not the stage's: the display
    draws on the same terminal, and a stage may have the log written to the very stream that is logged. A stage's child
    processes are not heard, since what they have is a copy of this.

    Attributes
    ----------
    beneath : file
        The stream itself, for what is not said by the stage.
    """

    def __init__(self, stream: Any) -> None:
        self.beneath = stream
        self._before: Callable[[], None] | None = None
        self._hear: Callable[[str], None] | None = None
        self._part = ""
        self._pid = os.getpid()

    @contextmanager
    def replaces(self, name: str, hear: Callable[[str], None], before: Callable[[], None]) -> Iterator[None]:
        """Have what is written to a stream of `sys`, where there is one, heard while the block runs.

        One object does it for all jobs, since what a stage leaves behind may hold on to it, as a logging handler of a
        module that the stage was the first to import, or each thread that began meanwhile. So it holds on to nothing
        of the session afterwards.
        """
        stream = getattr(sys, name)
        if stream is None:  # as in a process that was started without
            yield
            return
        earlier = self.beneath, self._hear, self._before
        self.beneath = self.beneath if stream is self else stream
        self._hear, self._before = hear, before
        _hand_on(self.beneath)
        setattr(sys, name, self)
        try:
            yield
        finally:
            setattr(sys, name, stream)
            self._end_line()
            self.beneath, self._hear, self._before = earlier

    @property
    def buffer(self) -> _Buffer:
        """The same for bytes, where the stream takes them."""
        return _Buffer(self, self.beneath.buffer)

    def write(self, text: str) -> int:
        """Write, once the terminal is ready for it."""
        return self.put(self.beneath, text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def put(self, target: Any, what: Any) -> int:
        """Write text to the stream, or bytes to its buffer."""
        hear, before = self._hear, self._before  # a thread that a stage has left may write when the stage ends
        if hear is None or before is None or _telling.now or os.getpid() != self._pid:
            return int(target.write(what))
        with _telling:
            before()
        written = int(target.write(what))
        text = what if isinstance(what, str) else bytes(what).decode("utf-8", "replace")
        if "\n" in text:
            _hand_on(target)
        with _telling:
            self._tell(hear, text)
        return written

    def _tell(self, hear: Callable[[str], None], text: str) -> None:
        *lines, part = (self._part + text).split("\n")
        for line in lines:
            hear(_visible(line))
        # What was overwritten is dropped at once: a progress bar writes for hours without a line break.
        self._part = _visible(part) + "\r" * part.endswith("\r")
        if len(self._part) > LONGEST_PART:
            hear(self._part)
            self._part = ""

    def _end_line(self) -> None:
        """Hear an unfinished last line; on a terminal, end it, or what is drawn next would overwrite it."""
        part, self._part = self._part, ""
        with _telling, contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            if self._hear is not None and _visible(part).strip():
                self._hear(_visible(part))
            if part and self.beneath.isatty():
                self.beneath.write("\n")

    def close(self) -> None:
        """Leave it open: it is everybody's."""

    def detach(self) -> _Buffer:
        """Leave it attached."""
        return self.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


class _Buffer:
    """What bytes are written to, beneath a stream; a stage that wraps it in a stream of its own does not close it."""

    def __init__(self, tee: _Tee, beneath: Any) -> None:
        self._tee = tee
        self._beneath = beneath

    def write(self, data: bytes) -> int:
        """Write, once the terminal is ready for it."""
        return self._tee.put(self._beneath, data)

    def close(self) -> None:
        """Leave it open."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)


def _hand_on(stream: Any) -> None:
    """Let out what a file holds back: a stage may lead the descriptor elsewhere, and then it would go there."""
    if isinstance(stream, io.TextIOWrapper | io.BufferedWriter):  # others, as a notebook's, may take long
        with contextlib.suppress(OSError, ValueError):  # whoever writes next, or ends, is told
            stream.flush()


def _visible(line: str) -> str:
    """A line as a terminal would show it: what was overwritten is left out."""
    return line.rstrip("\r").rpartition("\r")[2]
