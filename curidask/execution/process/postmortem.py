"""Why a worker process died, found out on its machine from what it left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from traceback import FrameSummary

from curidask.execution.process import crash_record
from curidask.execution.process.crash_record import Memory, Running, read_flight
from curidask.execution.process.monitor import count_kills
from curidask.execution.process.output_capture import text_of
from curidask.execution.stage_call import user_frames

TOPIC = "curidask-deaths"
"""Under which dask carries these reports to the driver."""

TIMEOUT = "timeout"
MEMORY = "memory"
UNKNOWN = ""

NEAR_LIMIT = 0.85
"""The share of its memory limit that a process had for its violent end to be taken for a want of memory."""

FRESH_SECONDS = 5
"""How old a look at the machine may be to be compared with one after a death."""

LAST_LINES = 20
LAST_BYTES = 16_000


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker process.

    Attributes
    ----------
    worker : str
        Its address.
    cause : str
        ``timeout``, ``memory`` or empty.
    how : str
        How the process ended, in words.
    running : tuple of Running
        The jobs that it was running.
    peak_bytes, limit_bytes : int
        The most memory that it had, and what it may have; 0 for unknown and for no limit.
    output : tuple of str
        What the jobs printed last.
    frames : tuple of (str, int, str)
        Where the job was, as far as it is known: file, line and function, outermost first.
    """

    worker: str
    cause: str = UNKNOWN
    how: str = ""
    running: tuple[Running, ...] = ()
    peak_bytes: int = 0
    limit_bytes: int = 0
    output: tuple[str, ...] = ()
    frames: tuple[tuple[str, int, str], ...] = ()

    def to_text(self) -> str:
        """Encode for travel."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Death:
        """Decode."""
        values = json.loads(text)
        return replace(
            cls(**values),
            running=tuple(Running(**row) for row in values["running"]),
            output=tuple(values["output"]),
            frames=tuple((file, line, name) for file, line, name in values["frames"]),
        )


def examine(folder: Path, worker: str, exit_code: int, largest_child: int) -> Death:
    """Find out what a process died of.

    Parameters
    ----------
    folder : Path
        What it left; see `curidask.execution.process.crash_record`.
    worker : str
        Its address.
    exit_code : int
        Negative for a signal.
    largest_child : int
        What the kernel says of the memory that it had, in bytes; 0 when it cannot be told from that of others.
    """
    running, memory = read_flight(folder)
    memory = replace(memory, peak_bytes=max(memory.peak_bytes, largest_child))
    trace = _read(folder / crash_record.FRAMES)
    return Death(
        next((job.worker for job in running if job.worker), worker),
        _cause(exit_code, memory, trace, is_running=bool(running)),
        _in_words(exit_code),
        tuple(running),
        memory.peak_bytes,
        memory.limit_bytes,
        tuple(_last_lines(folder, running)),
        tuple(_users(frames_of(trace, {job.thread for job in running}))),
    )


def end_orphans(folder: Path) -> None:
    """End the processes that a worker process's jobs had started and that have outlived it.

    They are those that still print to its files; a pool of processes would wait for ever for the one that is gone.
    """
    files = {str(folder / crash_record.STDOUT), str(folder / crash_record.STDERR)}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if files & {os.readlink(process / "fd" / number) for number in ("1", "2")}:
                os.kill(int(process.name), signal.SIGKILL)


def _users(frames: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    """The stage's own. Found out here, since the driver may have this package in another place."""
    kept = user_frames([FrameSummary(file, line, name) for file, line, name in frames])
    return [(frame.filename, frame.lineno or 0, frame.name) for frame in kept]


def _cause(exit_code: int, memory: Memory, trace: str, *, is_running: bool) -> str:
    if not is_running:
        return UNKNOWN
    if exit_code == 1 and trace.startswith("Timeout ("):
        return TIMEOUT
    if exit_code not in (-signal.SIGKILL, -signal.SIGTERM):
        return UNKNOWN
    near = memory.limit_bytes > 0 and memory.peak_bytes >= NEAR_LIMIT * memory.limit_bytes
    is_fresh = time.time() - memory.looked_at < FRESH_SECONDS
    by_kernel = exit_code == -signal.SIGKILL and is_fresh and count_kills() > memory.kills
    return MEMORY if near or by_kernel else UNKNOWN


def _in_words(exit_code: int) -> str:
    if exit_code >= 0:
        return f"it exited with code {exit_code}"
    try:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"it was ended by signal {-exit_code}"


def _last_lines(folder: Path, running: list[Running]) -> list[str]:
    lines: list[str] = []
    if running:
        for name, start in (
            (crash_record.STDOUT, min(job.stdout for job in running)),
            (crash_record.STDERR, min(job.stderr for job in running)),
        ):
            lines += _lines_from(folder / name, start)
    return lines[-LAST_LINES:]


def _lines_from(path: Path, start: int) -> list[str]:
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - LAST_BYTES))
            data = file.read()
    except OSError:
        return []
    return [text_of(line) for line in data.rstrip(b"\n").split(b"\n")[-LAST_LINES:]] if data else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)|^Stack \(")


def frames_of(trace: str, threads: set[int]) -> list[tuple[str, int, str]]:
    """The frames of one of these threads, or of the current one, out of what faulthandler wrote; outermost first.

    Parameters
    ----------
    threads : set of int
        Their identities.
    """
    current: list[tuple[str, int, str]] = []
    wanted: list[tuple[str, int, str]] = []
    into: list[tuple[str, int, str]] = []
    for line in trace.splitlines():
        if thread := _THREAD.match(line):
            is_wanted = thread[1] is not None and int(thread[1], 16) in threads
            into = wanted if is_wanted else [] if line.startswith("Thread") else current
        elif frame := _FRAME.match(line):
            into.append((frame[1], int(frame[2]), frame[3]))
    return list(reversed(wanted or current))
