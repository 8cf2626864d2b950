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


def is_running(pid: int, before: float) -> bool:
    """Whether the process that had a number at a time is alive."""
    import psutil

    try:
        process = psutil.Process(pid)
        # The number may be that of a later process by now.
        return bool(process.create_time() <= before + 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
