"""How an error ends a command: one screen, and an exit code.

0: all went well. 1: something failed while it ran. 2: what was asked for cannot be run. 130: interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from curidask.errors import (
    CuridaskError,
    MissingInputError,
    ModuleImportError,
    ParameterError,
    ProjectError,
    RunFailedError,
    StageDefinitionError,
    StageFailedError,
    UnsafeNameError,
)
from curidask.session.terminal import say

# --- standard streams that never stop a command: what cannot be told is dropped --------------------------------------
OUTPUT, ERRORS = 1, 2
"""Descriptors."""


def make_forgiving() -> None:
    """Let standard streams that are closed lead nowhere, and those that fail from then on.

    A broken pipe is still an error on standard output: whoever read it has had enough of it.
    """
    _open_closed()
    _lost.clear()
    sys.stdout = _forgiving(sys.stdout, OUTPUT)
    sys.stderr = _forgiving(sys.stderr, ERRORS)
    atexit.register(_drop_unread)


_lost: dict[int, str] = {}
"""What is to be told of streams that failed, by descriptor."""


def is_output_lost() -> bool:
    """Whether some of what went to standard output could not be written."""
    return OUTPUT in _lost


def forget_lost_errors() -> None:
    """Leave standard output alone, which has what another program may read."""
    _lost.pop(ERRORS, None)


def tell_of_lost_errors() -> None:
    """Say at the end on standard output that standard error failed: before, it would stand in the midst of results."""
    if text := _lost.pop(ERRORS, ""):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            os.write(OUTPUT, text.encode())


def _drop_unread() -> None:
    """Write what waits in standard output; when nobody reads it, Python would end with a code of its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:  # closed
        return
    except OSError:
        _lead_nowhere(OUTPUT)


def _open_closed() -> None:
    """Put a file in the place of closed descriptors: the next file that is opened would become standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(number, True)  # or it would be closed in workers and other child processes


def _forgiving(stream: TextIO | None, number: int) -> TextIO:
    """A stream to the same descriptor; a stream that somebody put in its place stays."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    if type(stream) is not io.TextIOWrapper or not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        return stream
    if stream.fileno() != number:
        return stream
    stream.flush()
    raw = _Forgiving(number)
    is_unbuffered = isinstance(stream.buffer, io.FileIO)  # by `python -u`
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),  # as Python itself makes it
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class _Forgiving(io.FileIO):
    """Writes to a descriptor, and nowhere once that fails."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.name = {OUTPUT: "<stdout>", ERRORS: "<stderr>"}[number]

    def write(self, data: object) -> int:
        """Write bytes; all of them count as written when there is no place for them."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR) or (error.errno == errno.EPIPE and self.name == "<stdout>"):
                raise
            self._give_up(error)
            return len(memoryview(data))  # type: ignore[arg-type]

    def _give_up(self, error: OSError) -> None:
        _lead_nowhere(self.fileno())
        text = _lost[self.fileno()] = f"curidask: what goes to {self.name} is lost from here on: {error.strerror}\n"
        if self.fileno() == OUTPUT:
            with contextlib.suppress(OSError):
                os.write(ERRORS, text.encode())


# --- exit codes ------------------------------------------------------------------------------------------------------
ASKED_WRONGLY = (ProjectError, ParameterError, StageDefinitionError, UnsafeNameError, MissingInputError)
SHOWN_FAILURES = 5
"""Failures shown in full; the run record has all of them."""
AGAIN_SECONDS = 0.05
"""After which an interrupt that came to nothing is sent once more."""


def guarded(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit as its errors say.

    Parameters
    ----------
    command : callable
        Gives True when what it did is kept somewhere. Otherwise all that comes of it is what it writes to standard
        output, so it has failed where that cannot be written.
    """
    make_forgiving()
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _interrupt_again
    try:
        code = _run(command)
    finally:
        tell_of_lost_errors()
    sys.exit(code)


def _run(command: Callable[[], Any]) -> int:
    try:
        is_kept = command() is True
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted; what had finished is in the cache, and the same command does the rest", fg="yellow")
        return 130
    except CuridaskError as error:
        show(error)
        return 2 if isinstance(error, ASKED_WRONGLY) or error.ran_nothing else 1
    except BrokenPipeError:  # the reader of our output has had enough
        sys.stderr.close()
        return 0
    if is_kept:
        return 0
    forget_lost_errors()
    return 1 if is_output_lost() else 0


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Send the signal again when Python dropped its exception: in a finalizer, as the futures of dask have one."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(lost)


def show(error: CuridaskError) -> None:
    """Print an error with what it knows."""
    for failure in error.failures[:SHOWN_FAILURES] if isinstance(error, RunFailedError) else ():
        show(failure)
    text = getattr(error, "traceback_text", "")
    if text:
        say(text.rstrip())
    if isinstance(error, StageFailedError):
        say(f"failed: {error.where}", fg="red")
        say(f"  {error.what}")
        if error.output:
            say("  what it printed last:")
            for line in error.output.splitlines():
                say(f"    | {line}")
        if error.fix:
            say(f"  fix:   {error.fix}")
        return
    label = "error" if not isinstance(error, ModuleImportError) else "import error"
    say(f"{label}: ", fg="red", nl=False)
    say(str(error))
    if isinstance(error, RunFailedError) and len(error.failures) > SHOWN_FAILURES:
        say(f"  ({len(error.failures) - SHOWN_FAILURES} more failures are in the run record)")


def show_user_error(error: Exception, traceback_text: str, *, stored: bool) -> None:
    """Print what the experiment's own ``run()`` raised; `stored` says whether anything was to be."""
    from curidask.store.backends.errors import what_is_full

    say(traceback_text.rstrip())
    kept = "what had finished is in the cache" if stored else "nothing was stored, as was asked for"
    say(f"error: run() raised {type(error).__name__}; {kept}", fg="red")
    if fix := what_is_full(error):
        say(f"  fix:   {fix}")
