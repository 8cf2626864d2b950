"""What a worker process prints, also from native code and child processes, as lines.

While a job runs, file descriptors 1 and 2 lead to files. So what was printed last can be read after the process was
killed, and reading costs a job that prints nothing next to nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from curidask.execution.process.context import ERR, OUT

# --- where the descriptors of the standard streams lead --------------------------------------------------------------
# Native code and child processes write past `sys.stdout`.

NUMBERS = (0, 1, 2)

Target = tuple[int, int]
"""Device and number of what a descriptor leads to."""


class _Copy:
    """A second descriptor to the same, open for as long as anybody may want it back."""

    def __init__(self, number: int, target: Target) -> None:
        self.target = target
        self.number = os.dup(number)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.number)


_copies: dict[int, _Copy] = {}
"""By descriptor; they last, so that what nobody changes costs a look and no copy."""


class Descriptors:
    """Where they lead now; what is closed then may be anything later."""

    def __init__(self) -> None:
        self._copies = {number: _copy_of(number, target) for number in NUMBERS if (target := _target(number))}

    def have_changed(self) -> bool:
        """Whether one leads elsewhere, or was closed."""
        return any(_target(number) != copy.target for number, copy in self._copies.items())

    def put_back(self) -> None:
        """Lead those that have changed to where they led."""
        for number, copy in self._copies.items():
            if _target(number) != copy.target:
                os.dup2(copy.number, number)


def _target(number: int) -> Target | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copy_of(number: int, target: Target) -> _Copy:
    known = _copies.get(number)
    if known is None or known.target != target:
        known = _copies[number] = _Copy(number, target)
    return known


# --- output capture --------------------------------------------------------------------------------------------------
LONGEST_LINE_BYTES = 16_000
"""What has no line break goes out in pieces of this size."""

READ_BYTES = 1 << 20
"""How much is read of each file at a time: ten times that in a second."""

READ_AT_END_BYTES = 1 << 22
"""How much is read of what a job has printed and was not read when it ended; the rest is counted."""

KEPT_BYTES = 1 << 20
"""A file that has grown beyond this is emptied when its job has ended."""

LARGEST_BYTES = 1 << 26
"""A file that has grown beyond this is emptied while its job runs."""


class Printed:
    """One of the two files.

    Parameters
    ----------
    number : int
        The file descriptor that leads to it.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._usual = os.dup(number)
        os.set_inheritable(self._usual, False)
        self._part = b""
        self.position = 0

    @property
    def size(self) -> int:
        """How much there is, in bytes."""
        return os.fstat(self._file).st_size

    def take_over(self) -> None:
        """Lead the file descriptor to the file."""
        os.dup2(self._file, self.number)

    def give_back(self) -> None:
        """Lead it to where it led, whatever the job did to it."""
        os.dup2(self._usual, self.number)

    def new_lines(self) -> list[str]:
        """What was printed since the last look, or a piece of it when it is much."""
        if self.size <= self.position:
            return []
        data = os.pread(self._file, READ_BYTES, self.position)
        self.position += len(data)
        *lines, self._part = (self._part + data).split(b"\n")
        if len(self._part) > LONGEST_LINE_BYTES:
            lines.append(self._part)
            self._part = b""
        self._empty(LARGEST_BYTES)
        return [text_of(line) for line in lines]

    def last_lines(self) -> list[str]:
        """What was printed since the last look and to the end of the job."""
        lines = []
        until = self.position + READ_AT_END_BYTES
        while self.size > self.position and self.position < until:
            lines += self.new_lines()
        if self._part:
            lines.append(text_of(self._part))
            self._part = b""
        if self.size > self.position:
            lines.append(f"… ({self.size - self.position} bytes more were printed)")
            self.position = self.size
        return lines

    def begin(self) -> None:
        """Make room for another job."""
        self._empty(KEPT_BYTES)

    def _empty(self, beyond: int) -> None:
        # A child process may print between the look and the cut; what it prints then is lost, and only then.
        if self.position > beyond and self.size == self.position:
            os.ftruncate(self._file, 0)
            self.position = 0


def text_of(line: bytes) -> str:
    """A line as text, as a terminal would show it: bytes that are no text replaced, what was overwritten left out."""
    text = line.decode("utf-8", "replace").rstrip("\r")
    return text.rpartition("\r")[2][:LONGEST_LINE_BYTES]


class Capture:
    """Both files, and Python's streams over them."""

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._files = (Printed(stdout, 1), Printed(stderr, 2))
        self._depth = 0
        self._streams = (_lasting(sys.stdout, 1), _lasting(sys.stderr, 2))

    def begin(self) -> tuple[int, int]:
        """From now on what is printed is a job's; how much was printed before it, in bytes."""
        if not self._depth:
            flush()
            for file in self._files:
                file.begin()
                file.take_over()
            self._mend_streams()
        self._depth += 1
        return self._files[0].position, self._files[1].position

    def end(self) -> list[tuple[str, str]]:
        """The job has ended; what it printed last."""
        flush()
        self._depth -= 1
        if not self._depth:
            self._mend_streams()
            for file in self._files:
                file.give_back()
        return [(kind, line) for kind, file in self._named for line in file.last_lines()]

    def new_lines(self) -> list[tuple[str, str]]:
        """What was printed since the last look: ``out`` or ``err``, and the line."""
        return [(kind, line) for kind, file in self._named for line in file.new_lines()]

    @property
    def _named(self) -> Iterator[tuple[str, Printed]]:
        return zip((OUT, ERR), self._files, strict=True)

    def _mend_streams(self) -> None:
        """Undo what a stage did to the streams: closed them, or put others in their place."""
        sys.stdout, sys.stderr = self._streams  # a stream around one of them closes it when it goes
        self._streams = (_lasting(self._streams[0], 1), _lasting(self._streams[1], 2))
        sys.stdout, sys.stderr = self._streams


def flush() -> None:
    """Hand on what Python still holds of what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a stage may have put anything there
            stream.flush()


def reopened(stream: TextIO | None, number: int) -> TextIO:
    """The stream, or another one over the file descriptor when it was closed."""
    try:
        works = stream is not None and not stream.closed
    except Exception:
        works = False
    if stream is None or not works:
        return open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    return stream


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    """The stream, or another one when it was closed; it lets lines out as they are printed."""
    stream = reopened(stream, number)
    if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return stream
