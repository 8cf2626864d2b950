"""What a stage changes of its process is undone after it, so that no stage depends on which one ran before it there.

Each kind of state is one function in `KINDS`: it looks at how things are and returns what puts them back.

Not undone is what belongs to modules rather than to the process: their globals and caches, what they keep by thread,
and the options of packages other than numpy and matplotlib.
"""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import operator
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from _signal import (  # type: ignore[import-not-found]  # those of `signal` make enums, slowly
    getsignal,
    pthread_sigmask,
)
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from curidask.execution.process.logging_state import Loggers
from curidask.execution.process.output_capture import Descriptors, flush, reopened

# --- random numbers without a seed -----------------------------------------------------------------------------------
# Others in each stage, and none of a stage's doing in what comes after it.

WORDS = 4
"""Of 32 bits, from which numpy's generator starts."""


def start_anew() -> None:
    """Start the global generators of Python and numpy from the system's entropy.

    Neither a seed that an earlier stage set nor one that the project's modules set when they were imported may decide
    what a stage draws: it would depend on which stages ran before it, in its process.
    """
    random.seed(os.urandom(4 * WORDS))
    _start_numpy_anew()


def _start_numpy_anew() -> None:
    numpy_random = loaded("numpy.random")
    if numpy_random is None:
        return
    entropy = os.urandom(4 * WORDS)
    words = [int.from_bytes(entropy[start : start + 4], "little") for start in range(0, len(entropy), 4)]
    if isinstance(numpy_random.get_bit_generator(), numpy_random.MT19937):
        numpy_random.seed(words)
    else:  # a stage put another one in its place
        numpy_random.set_bit_generator(numpy_random.MT19937(words))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the global generators back after the block: what runs stages in between goes on to draw as if it did not."""
    state = random.getstate()
    numpy_random = loaded("numpy.random")
    generator = numpy_random.get_bit_generator() if numpy_random is not None else None
    numpy_state = numpy_random.get_state(legacy=False) if numpy_random is not None else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy_random is None:
            _start_numpy_anew()
        else:
            numpy_random.set_bit_generator(generator)
            numpy_random.set_state(numpy_state)


# --- the state of packages that stages use, as far as they are loaded ------------------------------------------------
Restore = Callable[[], None]

NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""How numpy begins."""


def loaded(name: str) -> ModuleType | None:
    """The module, when it is there and whole: another thread may just import it."""
    module = sys.modules.get(name)
    return None if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def numpy_errors() -> Restore:
    """What numpy does about floating-point errors."""
    numpy = loaded("numpy")
    errors, call = (numpy.geterr(), numpy.geterrcall()) if numpy is not None else (NUMPY_ERRORS, None)

    def restore() -> None:
        numpy = loaded("numpy")
        if numpy is not None and (numpy.geterr() != errors or numpy.geterrcall() is not call):
            numpy.seterr(**errors)
            numpy.seterrcall(call)

    return restore


def numpy_printing() -> Restore:
    """How numpy prints arrays."""
    before = loaded("numpy")
    options = before.get_printoptions() if before is not None else None

    def restore() -> None:
        numpy = loaded("numpy")
        if numpy is not None and options is not None and numpy.get_printoptions() != options:
            numpy.set_printoptions(**options)

    return restore


def own_decimal_context() -> None:
    """Let the context variables of this place have a decimal context of their own: a copy of them shares it."""
    decimal = loaded("decimal")
    if decimal is not None:
        decimal.setcontext(decimal.getcontext().copy())


_known: dict[str, Any] = {}
"""A copy of matplotlib's parameters, since to compare them with it takes a tenth of the time of a new one."""


def rc_parameters() -> Restore:
    """Matplotlib's parameters except its backend, which it cannot change back."""
    saved = _parameters()

    def restore() -> None:
        matplotlib = loaded("matplotlib")
        if matplotlib is None:
            return
        wanted = saved or _copied(matplotlib.rcParamsOrig)
        if not dict.__eq__(wanted, matplotlib.rcParams):
            dict.update(matplotlib.rcParams, _copied(wanted, without="backend"))  # as matplotlib's own context does

    return restore


def _parameters() -> dict[str, Any]:
    global _known  # noqa: PLW0603  # it is there to be found again
    matplotlib = loaded("matplotlib")
    if matplotlib is None:
        return {}
    if not dict.__eq__(_known, matplotlib.rcParams):
        _known = _copied(matplotlib.rcParams)
    return _known


def _copied(parameters: dict[str, Any], without: str = "") -> dict[str, Any]:
    """Lists, too, since they are often changed in place."""
    items = dict.items(parameters)
    return {name: value[:] if type(value) is list else value for name, value in items if name != without}


def figures() -> Restore:
    """Pyplot's open figures: a stage begins with none, and those that it leaves are closed."""
    saved = _open_figures()
    hidden = saved.copy() if saved is not None else {}
    if saved:
        saved.clear()

    def restore() -> None:
        now = _open_figures()
        if now:
            sys.modules["matplotlib.pyplot"].close("all")
        if now is not None:
            now.update(hidden)

    return restore


def _open_figures() -> dict[int, Any] | None:
    pyplot = loaded("matplotlib.pyplot")
    figures: dict[int, Any] | None = pyplot._pylab_helpers.Gcf.figs if pyplot is not None else None
    return figures


# --- a forked child of a process that runs stages handles no signals, log records and warnings as its parent does ----
# The parent's handlers draw on its terminal, write to its log and take locks that a thread of it, which the child has
# not, may hold. A child logs to its standard error instead, where a worker hears it.

DEFAULTS = {signal.SIGINT: signal.default_int_handler}


class _ToStderr(logging.StreamHandler[Any]):
    """Writes to what is standard error when it writes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr


def is_ours(thing: object) -> bool:
    """Whether a handler or function comes from this package."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "curidask"


def forget_handlers() -> None:
    """Forget what the parent set up here."""
    for logger in (logging.root, logging.getLogger("curidask")):
        others = [h for h in logger.handlers if not any(map(is_ours, (h, *h.filters)))]
        if len(others) < len(logger.handlers):
            logger.handlers[:] = others
            logging.root.addHandler(_ToStderr())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        if is_ours(signal.getsignal(number)):
            signal.signal(number, DEFAULTS.get(number, signal.SIG_DFL))
    if is_ours(warnings.showwarning):
        warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]  # there is no other way
    if is_ours(sys.unraisablehook):
        sys.unraisablehook = sys.__unraisablehook__


# --- process state ---------------------------------------------------------------------------------------------------
Kind = Callable[[], Restore]

T = TypeVar("T")

SIGNALS = [number for number in signal.valid_signals() if number < 32]
"""Without the real-time ones."""

TIMER_SLACK_SECONDS = 0.1


def setting(get: Callable[[], T], put: Callable[[T], object]) -> Kind:
    """A kind of state that is read with one function and set with another.

    Parameters
    ----------
    put : callable
        Given what `get` returned, if it returns something else now.
    """

    def save() -> Restore:
        saved = get()

        def restore() -> None:
            if get() != saved:
                put(saved)

        return restore

    return save


# --- kinds -----------------------------------------------------------------------------------------------------------
def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was removed


def _go_to(folder: str) -> None:
    with contextlib.suppress(OSError):  # the stage removed it
        os.chdir(folder)


def _start_method() -> str | None:
    multiprocessing = loaded("multiprocessing")
    return multiprocessing.get_start_method(allow_none=True) if multiprocessing is not None else None


def _put_start_method(method: str | None) -> None:
    sys.modules["multiprocessing"].set_start_method(method, force=True)


def environment() -> Restore:
    """The environment variables, and with them the time zone."""
    contents: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # a copy of the rest decodes it all
    saved = contents.copy()

    def restore() -> None:
        if contents == saved:
            return
        zone = contents.get(b"TZ")
        for name in contents.keys() - saved.keys():
            del os.environb[name]
        for name, value in saved.items():
            if contents.get(name) != value:
                os.environb[name] = value
        if zone != saved.get(b"TZ"):
            time.tzset()

    return restore


_probable_umask = [0o022]


def umask() -> Restore:
    """The umask, which can only be read by setting it: to what it is already, since other threads may make files."""
    saved = os.umask(_probable_umask[0])
    if saved != _probable_umask[0]:
        os.umask(saved)
        _probable_umask[0] = saved

    def restore() -> None:
        os.umask(saved)

    return restore


def streams() -> Restore:
    """The standard streams, and where their descriptors lead."""
    saved = sys.stdin, sys.stdout, sys.stderr
    descriptors = Descriptors()

    def restore() -> None:
        now = sys.stdin, sys.stdout, sys.stderr
        if any(map(operator.is_not, now, saved)) or descriptors.have_changed():
            flush()  # to where the stage led it
            del now  # a stream around one of them closes it when it goes
            sys.stdin, sys.stdout, sys.stderr = saved
            descriptors.put_back()
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = getattr(sys, name)
            if stream is not None:  # as in a process that was started without
                setattr(sys, name, reopened(stream, number))

    return restore


def warning_filters() -> Restore:
    """Which warnings are shown, and how; those that were shown before count as not shown yet."""
    _forget_shown()
    filters: Any = warnings.filters
    saved, show = filters[:], warnings.showwarning

    def restore() -> None:
        if warnings.filters is not filters or filters != saved:
            filters[:] = saved
            warnings.filters = filters
            _forget_shown()  # what was decided by other filters
        if warnings.showwarning is not show:
            logging.captureWarnings(getattr(show, "__module__", "") == "logging")
            warnings.showwarning = show

    return restore


def _forget_shown() -> None:
    with warnings.catch_warnings():  # for its effect: each module forgets which of its warnings were shown
        pass


def level_names() -> Restore:
    """The names of levels that are logged."""
    tables: tuple[dict[Any, Any], ...] = (logging._levelToName, logging._nameToLevel)
    saved = [table.copy() for table in tables]

    def restore() -> None:
        for table, contents in zip(tables, saved, strict=True):
            if table != contents:
                table.clear()
                table.update(contents)

    return restore


ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    (sys, "excepthook"),
    (sys, "displayhook"),
    (sys, "breakpointhook"),
    (threading, "excepthook"),
    (logging, "raiseExceptions"),
    (logging, "lastResort"),
)


def attributes() -> Restore:
    """What is set by putting something in the place of a module's attribute."""
    saved = [getattr(module, name) for module, name in ATTRIBUTES]

    def restore() -> None:
        for (module, name), value in zip(ATTRIBUTES, saved, strict=True):
            if getattr(module, name) is not value:
                setattr(module, name, value)

    return restore


def signals() -> Restore:
    """The handlers of signals, which only the main thread can set, and the timer of one of them."""
    handlers = [(number, getsignal(number)) for number in SIGNALS] if _is_main_thread() else []
    seconds, interval = signal.getitimer(signal.ITIMER_REAL)
    ends = time.monotonic() + seconds

    def restore() -> None:
        if not interval:
            _set_timer(max(ends - time.monotonic(), 0.0) if seconds else 0.0)
        for number, handler in handlers if _is_main_thread() else []:
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _set_timer(left: float) -> None:
    """Let the timer ring when it would have; before its handler goes, since a signal without one ends the process."""
    now = signal.getitimer(signal.ITIMER_REAL)[0]
    if abs(now - left) > TIMER_SLACK_SECONDS or (now and not left):
        signal.setitimer(signal.ITIMER_REAL, left)


LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_CPU)
"""Those that would fail other stages; to look at one takes half a microsecond."""


def limits() -> Restore:
    """What the system grants the process; a hard limit that was lowered stays, except for root."""
    saved = [resource.getrlimit(number) for number in LIMITS]

    def restore() -> None:
        for number, before in zip(LIMITS, saved, strict=True):
            now = resource.getrlimit(number)
            if now == before:
                continue
            for limit in (before, (before[0], now[1])):
                with contextlib.suppress(ValueError, OSError):
                    resource.setrlimit(number, limit)
                    break

    return restore


KINDS: tuple[Kind, ...] = (
    setting(_folder, _go_to),
    environment,
    umask,
    setting(lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    streams,
    warning_filters,
    signals,
    setting(sys.getrecursionlimit, sys.setrecursionlimit),
    setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
    setting(gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    setting(gc.get_threshold, lambda counts: gc.set_threshold(*counts)),
    setting(gc.get_debug, gc.set_debug),
    setting(threading.stack_size, threading.stack_size),
    setting(threading.gettrace, threading.settrace),
    setting(threading.getprofile, threading.setprofile),
    limits,
    setting(_start_method, _put_start_method),
    setting(sys.getswitchinterval, sys.setswitchinterval),
    setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    setting(partial(pthread_sigmask, signal.SIG_BLOCK, ()), partial(pthread_sigmask, signal.SIG_SETMASK)),
    setting(logging.getLogRecordFactory, logging.setLogRecordFactory),
    setting(logging.getLoggerClass, logging.setLoggerClass),
    level_names,
    attributes,
    numpy_errors,
    numpy_printing,
)

KINDS_FOR_REPORTS: tuple[Kind, ...] = (rc_parameters, figures)
"""What the reports and cachers of a stage draw with."""


def tracing() -> Restore:
    """What is called for each step of this thread, unless it is a debugger: it may have to stop in a later stage."""
    trace, profile = sys.gettrace(), sys.getprofile()

    def restore() -> None:
        now = sys.gettrace()
        if now is not trace and not _is_debugger(now):
            sys.settrace(trace)
        if sys.getprofile() is not profile:
            sys.setprofile(profile)

    return restore


def _is_debugger(trace: object) -> bool:
    debugger = loaded("bdb")
    return debugger is not None and isinstance(getattr(trace, "__self__", None), debugger.Bdb)


# --- around a stage --------------------------------------------------------------------------------------------------
class Kept:
    """A context in which a stage's function is called and what it returned is stored; afterwards all is as before.

    What is drawn at random without a seed differs from context to context. Where several threads of a process run
    stages at the same time, it is as before once none of them does.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.loggers: Loggers | None = None
        self._restore_thread: Restore = lambda: None
        self._restores: list[Restore] = []
        self._last_restores: list[Restore] = []

    def __enter__(self) -> Kept:
        """Look at how things are."""
        with _lock:
            if not _are_other_threads():
                self.loggers = Loggers()
                self._restores = [*(kind() for kind in KINDS), self.loggers.restore_own]
                self._last_restores = [*(kind() for kind in KINDS_FOR_REPORTS), self.loggers.restore]
            _active.append(self)
        self._restore_thread = tracing()
        start_anew()
        return self

    def undo(self) -> None:
        """Put back all that might change how what the stage returned is stored."""
        self._restore_thread()
        with _lock:
            if not _are_other_threads():
                for restore in self._restores:
                    restore()

    def _end(self) -> None:
        for restore in (*self._restores, *self._last_restores):
            restore()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Put all back."""
        self._restore_thread()
        with _lock:
            _active.remove(self)
            if _are_other_threads():
                _waiting.append(self)
                return
            self._end()
            while _waiting and not _active:
                _waiting.pop(0)._end()  # one that began inside another left before it


os.register_at_fork(after_in_child=forget_handlers)

_lock = threading.RLock()
_active: list[Kept] = []
_waiting: list[Kept] = []


def _are_other_threads() -> bool:
    thread = threading.get_ident()
    return any(kept.thread != thread for kept in _active)


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Have our own loggers work as they did before the stage that runs now, while the block runs."""
    loggers = _active[0].loggers if _active else None
    if loggers is None:
        yield
        return
    with loggers.own():
        yield
