"""Calling a stage's function: again after an exception, for a limited time, and never out of its bounds."""

from __future__ import annotations

import contextvars
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from curidask.errors import CuridaskError, StageExitError
from curidask.execution.base import Job
from curidask.execution.process.context import Surroundings
from curidask.execution.process.package_state import own_decimal_context
from curidask.execution.timeout import limited
from curidask.execution.tracebacks import first_line

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0

T = TypeVar("T")


def with_retries(attempt: Callable[[], T], job: Job, warn: Callable[[str], None]) -> T:
    """Try as often as the stage asks for, with growing pauses.

    Parameters
    ----------
    attempt : callable
        Runs the stage and keeps what it returns.
    job : Job
    warn : callable
        Told of each exception that another attempt follows.

    Raises
    ------
    Exception
        That of the last attempt; at once, when it is an error of ours, since those do not pass by themselves.
    """
    retries = job.spec.options.retries
    for number in range(retries):
        try:
            return attempt()
        except CuridaskError:
            raise
        except Exception as error:
            pause = pause_seconds(number)
            warn(f"{job.label} raised {first_line(error)}; attempt {number + 2} of {retries + 1} in {pause:.1f} s")
        time.sleep(pause)
    return attempt()


def pause_seconds(number: int) -> float:
    """How long to wait after a failed attempt: twice as long each time, with jitter, so that many do not meet again."""
    longest: float = min(FIRST_PAUSE_SECONDS * 2**number, LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1.0)


def call_stage(job: Job, arguments: list[Any], named: dict[str, Any], surroundings: Surroundings) -> Any:
    """Call the function, in a context of its own for what it does to context variables.

    Raises
    ------
    StageTimeoutError
        When it ran longer than it may.
    StageExitError
        When it called ``sys.exit()``.
    """
    pid = os.getpid()
    function, where = job.spec.function, job.label
    context = contextvars.copy_context()
    context.run(own_decimal_context)
    call = partial(context.run, function, *arguments, **named)
    try:
        return limited(call, job.spec.options.timeout_seconds, where, surroundings)
    except SystemExit as error:
        if os.getpid() == pid:
            raise StageExitError(
                f"The stage called sys.exit({'' if error.code is None else repr(error.code)}).",
                where=where,
                fix="return from the function instead, or raise an exception to let the stage fail",
            ).with_traceback(error.__traceback__) from None
        raise
    finally:
        if os.getpid() != pid:
            _end_child()


def _end_child() -> None:
    """End a child process that the stage forked and that came back from its function: it must not go on as a worker."""
    error = sys.exc_info()[1]
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # nobody reads it any more
            continue
    os._exit(code)
