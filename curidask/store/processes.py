"""Whether a process that wrote something down is still alive, as far as this machine can tell."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def place() -> str:
    """What tells this host, boot and container apart from others: process numbers mean the same within it only."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@cache
def _birth_of(pid: int) -> float:
    return birth(pid)


def own_birth() -> float:
    """The `birth` of this process."""
    return _birth_of(os.getpid())


def birth(pid: int) -> float:
    """What tells a process apart from others that had its number: when it began, 0 when there is none.

    In seconds since the machine started where the system says that, since a clock may be set meanwhile.
    """
    try:
        # Behind the name, which may have spaces and brackets in it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0.0 if fields[0] in (b"Z", b"X") else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return 0.0
    except (OSError, ValueError, IndexError):
        pass
    return _birth_by_clock(pid)


def _birth_by_clock(pid: int) -> float:
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_running(pid: int, born: float) -> bool:
    """Whether the process that had a number, and this `birth`, is alive."""
    return birth(pid) == born != 0.0
