"""What a worker process writes down while it works, so that it can be read when the process is gone.

It lies in a folder of this machine that the worker and its nanny both know. The kernel keeps what was written whatever
becomes of the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import struct
import tempfile
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from curidask.store.claims import is_running, own_birth, place

RECORD = "flight"
STDOUT = "stdout"
STDERR = "stderr"
FRAMES = "frames"
OWNER = "owner"

UNKNOWN_SECONDS = 3600
"""After which a folder that names no process is nobody's."""

_MEMORY = struct.Struct("<qqqqq")
_LENGTH = struct.Struct("<q")
_JOBS_AT = 64


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker process is running.

    Attributes
    ----------
    session : str
        The run it belongs to; process-wide, workers may serve several.
    label : str
        Stage and record, for messages.
    thread : int
        Identity of the thread that runs it.
    timeout_seconds : float
        0 when it has no limit.
    stdout, stderr : int
        How much had been printed when it began, in bytes.
    worker : str
        The address of the worker. Its nanny may not have heard of it yet when the process dies.
    """

    session: str
    task: int
    label: str
    thread: int
    timeout_seconds: float
    stdout: int
    stderr: int
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the memory of a worker process.

    Attributes
    ----------
    peak_bytes : int
        The most it had since its job began, 0 when it was too short to tell.
    limit_bytes : int
        What it may have, 0 for no limit.
    available_bytes : int
        What was left on the machine.
    kills : int
        How often the kernel had killed a process of the machine for want of memory.
    looked_at : int
        When the last two were looked at, in seconds since the epoch.
    """

    peak_bytes: int = 0
    limit_bytes: int = 0
    available_bytes: int = 0
    kills: int = 0
    looked_at: int = 0


def folder_of(nanny: str, within: str = "") -> Path:
    """The folder of the worker process of a nanny, made by now; only this user can read it.

    Parameters
    ----------
    nanny : str
        Its address.
    within : str
        Another folder than the temporary one to have it in.
    """
    within = within or tempfile.gettempdir()
    base = Path(within) / f"curidask-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        base = Path(tempfile.mkdtemp(prefix="curidask-", dir=within))  # somebody else's; nobody reads ours afterwards
    folder = base / hashlib.sha256(nanny.encode()).hexdigest()[:24]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def own_folder(of: str, within: str = "") -> Path:
    """Such a folder for this process, empty; those of processes that have ended are removed."""
    folder = folder_of(of, within)
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    own(folder)
    sweep(folder)
    return folder


def own(folder: Path) -> None:
    """Note that this process uses a folder."""
    (folder / OWNER).write_text(f"{place()} {os.getpid()} {own_birth()}")


def sweep(folder: Path) -> None:
    """Remove the folders beside one whose processes have ended and left them, as when all were killed at once."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):  # somebody else does the same
            if other != folder and not _is_used(other):
                shutil.rmtree(other)


def _is_used(folder: Path) -> bool:
    try:
        host, pid, born = (folder / OWNER).read_text().split()
        return host != place() or is_running(int(pid), float(born))
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime < UNKNOWN_SECONDS
    except ValueError:  # it is being written
        return True


class CrashLog:
    """Writes down what a process does. Each write is one system call."""

    def __init__(self, folder: Path) -> None:
        own(folder)
        self._file = os.open(folder / RECORD, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write_running(self, running: list[Running]) -> None:
        """Note the jobs that run now."""
        data = json.dumps([asdict(job) for job in running]).encode()
        os.pwrite(self._file, _LENGTH.pack(len(data)) + data, _JOBS_AT)

    def write_memory(self, memory: Memory) -> None:
        """Note the memory."""
        os.pwrite(self._file, _MEMORY.pack(*astuple(memory)), 0)


def read_flight(folder: Path) -> tuple[list[Running], Memory]:
    """What a process was doing last; nothing where it left no record."""
    try:
        data = (folder / RECORD).read_bytes()
        memory = Memory(*_MEMORY.unpack_from(data, 0))
        (length,) = _LENGTH.unpack_from(data, _JOBS_AT)
        rows = json.loads(data[_JOBS_AT + _LENGTH.size :][:length])
        return [Running(**row) for row in rows], memory
    except (OSError, ValueError, TypeError, struct.error):
        return [], Memory()
