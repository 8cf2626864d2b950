"""The worker process around the stages: it hears what they print and log, and writes down what they do."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curidask.execution.base import Job
from curidask.execution.process import crash_record
from curidask.execution.process.context import LOG, NOTHING, WARNING, ProcessContext, print_warning
from curidask.execution.process.crash_record import CrashLog, Memory, Running
from curidask.execution.process.log_relay import marks_of
from curidask.execution.process.output_capture import Capture, flush
from curidask.execution.project.importer import path_on_driver

# --- what the operating system says of memory ------------------------------------------------------------------------
# How much this process has had, how much is left, whom it killed for it.

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
VMSTAT = Path("/proc/vmstat")


class HighWater:
    """The most memory that this process has had since it was last asked to begin anew.

    On Linux the kernel keeps the mark, so no peak is missed between two looks; elsewhere it is the highest look.
    """

    def __init__(self) -> None:
        self._highest = 0

    def begin(self) -> None:
        """Forget what was."""
        self._highest = 0
        with contextlib.suppress(OSError):
            CLEAR.write_text("5")

    def peak_bytes(self) -> int:
        """The mark."""
        self._highest = max(self._highest, _from_status("VmHWM") or _resident_bytes())
        return self._highest


def available_bytes() -> int:
    """What the machine has left."""
    import psutil

    return int(psutil.virtual_memory().available)


def count_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


def _from_status(name: str) -> int:
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


# --- monitor ---------------------------------------------------------------------------------------------------------
TOPIC = "curidask-said"
"""Under which dask carries what stages say to the driver."""

LOOK_SECONDS = 0.1
"""How often what is printed is passed on, and memory looked at."""

LOOKS_AT_MACHINE = 10
"""After how many of these the whole machine's memory is looked at."""

LARGEST_MESSAGE = 16_000
"""Characters in one message, about; the scheduler keeps the last thousand messages."""

Item = tuple[Any, ...]
"""The fields of a `Spoken`, as far as they are not the defaults."""


class WorkerMonitor(ProcessContext):
    """The surroundings of jobs on a worker.

    Parameters
    ----------
    folder : Path
        Where to write down what happens; see `curidask.execution.process.crash_record`.
    send : callable
        Sends a message to the driver, from any thread.
    limit_bytes : int
        The memory that the process may have, 0 for no limit.
    """

    def __init__(self, folder: Path, send: Callable[[str], None], limit_bytes: int) -> None:
        self._send = send
        self._record = CrashLog(folder)
        self._capture = Capture(folder / crash_record.STDOUT, folder / crash_record.STDERR)
        self._frames = os.open(
            folder / crash_record.FRAMES, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        if not faulthandler.is_enabled():
            faulthandler.enable(self._frames, all_threads=False)
        self._limit_bytes = limit_bytes
        self._lock = threading.RLock()
        self._running: dict[int, tuple[Job, Running]] = {}
        self._said: list[Item] = []
        self._mark = HighWater()
        self._memory = Memory(limit_bytes=limit_bytes)
        self._measured: Running | None = None
        self._wake = threading.Event()
        self._is_watching = False
        self._looked_at = 0.0
        self.session = ""
        self.address = ""
        self.level = logging.WARNING
        self._are_logs_printed = False
        self._forwarder = _Forwarder(self)
        logging.getLogger().addHandler(self._forwarder)
        warnings.showwarning = print_warning

    def listen(self) -> None:
        """Hear what is logged, also when a project has set up logging at import, in the place of what was there."""
        root = logging.getLogger()
        root.setLevel(min(self.level, root.level or self.level))
        is_gone = self._forwarder not in root.handlers
        is_printed = any(_prints(handler) for handler in root.handlers if handler is not self._forwarder)
        self._are_logs_printed = is_printed and (is_gone or self._are_logs_printed)
        if is_gone:
            root.addHandler(self._forwarder)

    # --- ProcessContext -----------------------------------------------------------------------------------------------
    @contextmanager
    def during(self, job: Job) -> Iterator[None]:
        """Take what is said while the block runs as said by the job."""
        self._begin(job)
        try:
            yield
        finally:
            self._end()

    def warn(self, job: Job, text: str) -> bool:
        """Send a warning now."""
        with self._lock:
            self._hear_prints()
            self._said.append((job.id, WARNING, text))
            self._send_said()
        return True

    @contextmanager
    def last_resort(self, seconds: float) -> Iterator[None]:
        """End the process when the block runs longer; it works also while native code holds the interpreter."""
        os.ftruncate(self._frames, 0)
        os.lseek(self._frames, 0, os.SEEK_SET)
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._frames)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def peak_bytes(self) -> int:
        """The mark since the first look at the job that runs; 0 when it was over before."""
        with self._lock:
            entry = self._running.get(threading.get_ident())
            if entry is None or entry[1] is not self._measured:
                return 0
            return self._mark.peak_bytes()

    # --- jobs --------------------------------------------------------------------------------------------------------
    def _begin(self, job: Job) -> None:
        with self._lock:
            stdout, stderr = self._capture.begin()
            thread = threading.get_ident()
            timeout = job.spec.options.timeout_seconds or 0.0
            running = Running(self.session, job.id, job.label[:500], thread, timeout, stdout, stderr, self.address)
            self._running[thread] = (job, running)
            self._record.write_running([r for _, r in self._running.values()])
            if not self._is_watching:
                self._is_watching = True
                self._wake.set()

    def _end(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            job, _ = self._running[thread]
            self._said += [(job.id, kind, line) for kind, line in self._capture.end()]
            self._send_said()
            del self._running[thread]
            self._record.write_running([r for _, r in self._running.values()])

    # --- what is said ------------------------------------------------------------------------------------------------
    def log(self, record: logging.LogRecord) -> None:
        """Pass a record on, after what was printed before it."""
        with self._lock:
            entry = self._running.get(threading.get_ident()) or next(iter(self._running.values()), None)
            if entry is None:
                return
            flush()
            self._hear_prints()
            path = path_on_driver(record.pathname)
            had = marks_of(record.name)
            said = (entry[0].id, LOG, record_text(record), record.levelno, record.name, path, had)
            self._said.append((*said, self._are_logs_printed))

    def _hear_prints(self) -> None:
        job = next(iter(self._running.values()))[0]
        self._said += [(job.id, kind, line) for kind, line in self._capture.new_lines()]

    def _send_said(self) -> None:
        """Send what was said, in messages of a size that the scheduler can keep."""
        message: list[Item] = []
        size = 0
        for item in self._said:
            if size > LARGEST_MESSAGE:
                self._send_message(message)
                message, size = [], 0
            message.append(item)
            size += len(item[2]) + 50
        if message:
            self._send_message(message)
        self._said.clear()

    def _send_message(self, message: list[Item]) -> None:
        with contextlib.suppress(Exception):  # the worker is closing
            self._send(json.dumps([self.session, message]))

    # --- watching ----------------------------------------------------------------------------------------------------
    def watch(self) -> None:
        """Look at what runs, for as long as the process lives; for a thread of its own."""
        looks = 0
        while True:
            if not self._is_watching:
                self._wake.wait()
                self._wake.clear()
            time.sleep(LOOK_SECONDS)
            with self._lock:
                self._is_watching = bool(self._running)
                if self._is_watching:
                    self._look(with_machine=looks % LOOKS_AT_MACHINE == 0)
                    looks += 1

    def _look(self, *, with_machine: bool) -> None:
        self._hear_prints()
        self._send_said()
        running = next(iter(self._running.values()))[1]
        if running is not self._measured:
            self._mark.begin()
            self._measured = running
        available, kills = self._memory.available_bytes, self._memory.kills
        if with_machine:
            available, kills = available_bytes(), count_kills()
            self._looked_at = time.time()
        self._memory = Memory(self._mark.peak_bytes(), self._limit_bytes, available, kills, int(self._looked_at))
        self._record.write_memory(self._memory)


class _Forwarder(logging.Handler):
    """Passes on what is logged while jobs run."""

    def __init__(self, host: WorkerMonitor) -> None:
        super().__init__()
        self._host = host

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._host.log(record)
        except Exception:
            self.handleError(record)


def record_text(record: logging.LogRecord) -> str:
    """The message of a log record with its traceback, as a plain formatter writes it."""
    return _FORMATTER.format(record)[:LARGEST_MESSAGE]


_FORMATTER = logging.Formatter("%(message)s")

_hosts: dict[int, WorkerMonitor] = {}


def _prints(handler: logging.Handler) -> bool:
    return not isinstance(handler, logging.FileHandler | logging.NullHandler)


def is_host() -> bool:
    """Whether this process is there for jobs."""
    return os.getpid() in _hosts


def listen_again() -> None:
    """Hear what is logged also if a project that was imported has set up logging."""
    if is_host():
        _hosts[os.getpid()].listen()


def here(session: str) -> ProcessContext:
    """The surroundings in this process of the jobs of a run."""
    host = _hosts.get(os.getpid())
    if host is None:
        return NOTHING
    host.session = session
    return host


def set_up(folder: Path, send: Callable[[str], None], limit_bytes: int, level: int, address: str = "") -> WorkerMonitor:
    """Make this process the host of jobs; it is again when it was already.

    Parameters
    ----------
    folder, send, limit_bytes
        See `WorkerMonitor`.
    level : int
        From which level on log records are passed on.
    address : str
        Of the worker.
    """
    host = _hosts.get(os.getpid())
    if host is None:
        host = _hosts[os.getpid()] = WorkerMonitor(folder, send, limit_bytes)
        # dask makes its workers daemons, which must not have children; but a stage may use a pool of processes. That
        # ends with the worker, see `curidask.execution.process.postmortem.end_orphans`.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # there is no other way
        threading.Thread(target=host.watch, name="curidask-host", daemon=True).start()
    host.address = address
    host.level = level
    host.listen()
    return host
