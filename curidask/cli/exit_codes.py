"""How an error ends a command: one screen, and an exit code.

0: all went well. 1: something failed while it ran. 2: what was asked for cannot be run. 130: interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from curidask.cli.streams import forget_lost_errors, is_output_lost, make_forgiving, tell_of_lost_errors
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
    from curidask.store.backends.disk_errors import what_is_full

    say(traceback_text.rstrip())
    kept = "what had finished is in the cache" if stored else "nothing was stored, as was asked for"
    say(f"error: run() raised {type(error).__name__}; {kept}", fg="red")
    if fix := what_is_full(error):
        say(f"  fix:   {fix}")
