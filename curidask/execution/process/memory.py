"""What the operating system says of memory: how much this process has had, how much is left, whom it killed for it."""

from __future__ import annotations

import contextlib
from pathlib import Path

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
