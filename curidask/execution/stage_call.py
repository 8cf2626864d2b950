"""Calling a stage's function: again after an exception, for a limited time, and never out of its bounds."""

from __future__ import annotations

import bdb
import contextvars
import ctypes
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from curidask.errors import CuridaskError, StageExitError, StageTimeoutError, TimeIsUp
from curidask.execution.base import Job
from curidask.execution.process.context import ProcessContext
from curidask.execution.process.process_state import own_decimal_context
from curidask.execution.tracebacks import FRAMEWORK, first_line

# --- a time limit around a stage's function --------------------------------------------------------------------------
# First an exception inside it, then, on a worker, the end of the process.
#
# In the main thread a timer's signal raises the exception, also out of a sleep or a wait. In another thread, as on
# workers, it is raised when the thread comes back to Python code. Neither interrupts native code; there only the end
# of the process helps, which a worker can afford.

SHORTEST_GRACE_SECONDS = 1.0
LONGEST_GRACE_SECONDS = 10.0


def grace(seconds: float) -> float:
    """How long a stage has after its time is up to clean up."""
    return min(max(seconds, SHORTEST_GRACE_SECONDS), LONGEST_GRACE_SECONDS)


def limited(call: Callable[[], Any], seconds: float | None, where: str, surroundings: ProcessContext) -> Any:
    """Call a stage's function and let it run for no longer than that.

    Parameters
    ----------
    seconds : float or None
        None for no limit.
    where : str
        The stage, for the message.

    Raises
    ------
    StageTimeoutError
        When it ran longer, whatever it raised or returned then.
    """
    if seconds is None:
        return call()
    limit = _AlarmLimit() if _may_use_alarm() else _ThreadLimit()
    late: BaseException | None = None
    try:
        with surroundings.last_resort(seconds + grace(seconds)):
            returned = _within(call, seconds, limit)
    except BaseException as error:
        if not limit.frames:
            raise
        late = None if isinstance(error, TimeIsUp) else error
    if limit.frames:
        raise too_long(seconds, where, limit.frames) from late
    return returned


def _within(call: Callable[[], Any], seconds: float, limit: _AlarmLimit | _ThreadLimit) -> Any:
    # The exception comes once, and at any point between start and stop: also where stop begins.
    try:
        limit.start(seconds)
        return call()
    finally:
        try:
            limit.stop()
        except TimeIsUp:
            limit.stop()


def too_long(seconds: float, where: str, frames: Sequence[traceback.FrameSummary]) -> StageTimeoutError:
    """The error of a stage that ran longer than its limit.

    Parameters
    ----------
    frames : sequence of FrameSummary
        Where it was, outermost first.
    """
    lines = traceback.StackSummary.from_list(user_frames(frames)).format()
    text = f"Where it was when its {seconds:g} s were up (most recent call last):\n" + "".join(lines)
    return StageTimeoutError(
        f"ran longer than {seconds:g} s",
        where=where,
        fix="look at where it was; if it needs the time, give the stage a larger `timeout_seconds`",
        traceback_text=text if lines else "",
    )


def user_frames(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames of the stage: what is below the place where it is called, without our own."""
    places = [place for place, frame in enumerate(frames) if frame.filename == __file__]
    below = frames[places[-1] + 1 :] if places else frames
    return [frame for frame in below if not frame.filename.startswith(FRAMEWORK)]


def _may_use_alarm() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


class _AlarmLimit:
    """Raises out of a signal handler, in the main thread."""

    def __init__(self) -> None:
        self.frames: list[traceback.FrameSummary] = []
        self._seconds = 0.0
        self._before: Callable[[int, FrameType | None], object] | int | None = None

    def start(self, seconds: float) -> None:
        self._seconds = seconds
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before if self._before is not None else signal.SIG_DFL)

    def _ring(self, _number: int, frame: FrameType | None) -> None:
        tracer = sys.gettrace()
        if isinstance(getattr(tracer, "__self__", None), bdb.Bdb):
            signal.setitimer(signal.ITIMER_REAL, self._seconds)  # somebody looks at it in a debugger
            return
        self.frames = list(traceback.extract_stack(frame))
        raise TimeIsUp


class _ThreadLimit:
    """Raises in the thread that it was started in, from another one.

    Whoever takes the one token first decides: the timer, then the time was up; or the stage, then it ended in time. So
    the exception never comes after `stop` has returned.
    """

    def __init__(self) -> None:
        self.frames: list[traceback.FrameSummary] = []
        self._token = [None]
        self._raised = threading.Event()
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._timer: threading.Timer | None = None

    def start(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._token.pop()
            return
        except IndexError:
            pass
        self._raised.wait()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, None)

    def _ring(self) -> None:
        try:
            self._token.pop()
        except IndexError:
            return
        frame = sys._current_frames().get(self._thread.value)
        self.frames = list(traceback.extract_stack(frame)) if frame is not None else [_UNKNOWN]
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, ctypes.py_object(TimeIsUp))
        self._raised.set()


_UNKNOWN = traceback.FrameSummary(__file__, 0, "unknown")


# --- stage call ------------------------------------------------------------------------------------------------------
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0

T = TypeVar("T")


def with_retries(attempt: Callable[[], T], job: Job, warn: Callable[[str], None]) -> T:
    """Try as often as the stage asks for, with growing pauses.

    Parameters
    ----------
    attempt : callable
        Runs the stage and keeps what it returns.
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


def call_stage(job: Job, arguments: list[Any], named: dict[str, Any], surroundings: ProcessContext) -> Any:
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
