"""Faults that happen to a process while it works: file operations that fail, kills, interrupts, clocks, somebody else.

They come at the n-th operation on files of an area. An audit hook sees most of the operations before they are done,
whoever asks for them; `os.stat` and `os.write` are replaced. A hook stays for the life of its process, so all of this
is for processes that were forked for one run.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ, WRITE, LIST, STAT, LINK = "read", "write", "list", "stat", "link"
CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "os.utime",
}
NAMED = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.rmdir": "rmdir", "os.link": LINK}
CHANGES = {*NAMED, "os.symlink", "os.chmod", "os.truncate", "os.utime"}
ERRNOS = {
    READ: (errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOENT, errno.ELOOP),
    WRITE: (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT, errno.ENAMETOOLONG),
    LIST: (errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOENT),
    STAT: (errno.EACCES, errno.ESTALE, errno.EIO),
    LINK: (errno.EIO, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EMLINK),
    "rename": (errno.EXDEV, errno.EIO, errno.EACCES, errno.ENOSPC),
    "remove": (errno.EACCES, errno.EIO, errno.EBUSY, errno.ESTALE),
    "mkdir": (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO),
    "rmdir": (errno.EACCES, errno.EBUSY),
}  # fmt: skip
ELSEWHERE_SECONDS = 0.3
"""How long whoever is interrupted by somebody else's run stands still at most."""


@dataclass(frozen=True)
class Rule:
    """What happens at which operation.

    Attributes
    ----------
    area : str
        ``cache``, ``team``, ``runs``, ``logs``, ``reports``, ``near``, ``tmp`` or ``any`` of them; ``stage`` for what
        happens while a stage is called.
    operation : str
    number : int
        At which of them it begins.
    times : int
        How often it happens; -1 for always.
    action : str
        ``error``, ``short``, ``kill``, ``interrupt``, ``clock``, ``beside`` or ``asleep``.
    value : float
        Number of the error, or seconds that the clock is put forward.
    """

    area: str
    operation: str
    number: int
    times: int
    action: str
    value: float = 0


class Injector:
    """Applies rules to this process.

    Parameters
    ----------
    rules : sequence of Rule
    areas : mapping of str to Path
    writable : sequence of Path
        What this process may change; anything else that it changes is noted.
    said : Path
        Where that is noted.
    pipes : tuple of int
        To ask whoever started this process for something, and to hear when it is done.
    """

    is_on = True

    def __init__(
        self,
        rules: Sequence[Rule],
        areas: Mapping[str, Path],
        writable: Sequence[Path],
        said: Path,
        pipes: tuple[int, int],
    ) -> None:
        self.rules = rules
        self.areas = {name: str(path) for name, path in areas.items()}
        self.writable = [str(path) for path in writable]
        self.said = said
        self.pipes = pipes
        self.counts = [0] * len(rules)
        self.done = [0] * len(rules)
        self._within = threading.local()
        self._stat, self._write, self._time = os.stat, os.write, time.time

    def install(self) -> None:
        if any(rule.operation in (STAT, "any") for rule in self.rules):
            os.stat = self.stat  # type: ignore[assignment]
        if any(rule.operation in (WRITE, "any") for rule in self.rules):
            os.write = self.write
        sys.addaudithook(self.audit)

    # --- seeing ------------------------------------------------------------------------------------------------------
    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if isinstance(path, str | bytes):
                self._see(WRITE if writes else READ, os.fsdecode(path), writes)
        elif event in CHANGES:
            self._see_change(event, args)
        elif event in ("os.scandir", "os.listdir") and isinstance(args[0], str | bytes):
            self._see(LIST, os.fsdecode(args[0]), False)

    def _see_change(self, event: str, args: tuple[Any, ...]) -> None:
        paths = args[:2] if event in ("os.rename", "os.link") else args[:1] if event != "os.symlink" else args[1:2]
        places = args[len(args) - len(paths) :] if event != "os.truncate" else (-1,)
        for path, place in zip(paths, places, strict=False):
            if isinstance(path, str | bytes):
                base = os.readlink(f"/proc/self/fd/{place}") + "/" if isinstance(place, int) and place >= 0 else ""
                self._see(NAMED.get(event, ""), base + os.fsdecode(path), path is not args[0] or event != "os.link")

    def stat(self, path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if isinstance(path, str | bytes | os.PathLike) and not kwargs.get("dir_fd"):
            self._see(STAT, os.fsdecode(path), False)
        return self._stat(path, *args, **kwargs)

    def write(self, fd: int, data: Any) -> int:
        if self.is_on and not getattr(self._within, "it", False) and fd > 2:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if self._see(WRITE, path, False) == "short" and len(data) > 1:
                return self._write(fd, bytes(data)[: len(data) // 2])
        return self._write(fd, data)

    def _see(self, operation: str, path: str, changes: bool) -> str:
        if not self.is_on or getattr(self._within, "it", False):
            return ""
        self._within.it = True
        try:
            path = os.path.abspath(path)
            if changes:
                self._check_place(operation, path)
            return self._apply(operation, path)
        finally:
            self._within.it = False

    def _check_place(self, operation: str, path: str) -> None:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if operation == "mkdir" and os.path.isdir(real):
            return  # as `makedirs` does to find out
        if not real.startswith(("/dev/", "/proc/")) and not any(
            real == place or real.startswith(place + "/") for place in self.writable
        ):
            self.note(f"it changed {real} ({operation})")

    def note(self, text: str) -> None:
        fd = os.open(self.said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._write(fd, json.dumps(text).encode() + b"\n")
        os.close(fd)

    # --- doing -------------------------------------------------------------------------------------------------------
    def _apply(self, operation: str, path: str) -> str:
        happens = ""
        for index, rule in enumerate(self.rules):
            if rule.operation not in (operation, "any") or not self._is_in(rule.area, path):
                continue
            self.counts[index] += 1
            if self.counts[index] >= rule.number and self.done[index] != rule.times:
                self.done[index] += 1
                happens = self._happen(rule, path) or happens
        return happens

    def _is_in(self, area: str, path: str) -> bool:
        if area == "any":
            return any(self._is_in(name, path) for name in self.areas if name != "stage")
        place = self.areas[area]
        is_work = path.startswith((f"{place}/.work-", f"{place}/.probe-"))
        return path == place or (path.startswith(place + "/") and not is_work)

    def _happen(self, rule: Rule, path: str) -> str:
        match rule.action:
            case "error":
                raise OSError(int(rule.value), os.strerror(int(rule.value)), path)
            case "short":
                return "short"
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            case "clock":
                before = time.time
                time.time = lambda: before() + rule.value
            case "beside" | "asleep":
                self._ask(rule.action)
        return ""

    def _ask(self, what: str) -> None:
        self._write(self.pipes[1], what[:1].encode())
        if what == "beside":
            select.select([self.pipes[0]], [], [], ELSEWHERE_SECONDS)
        else:
            select.select([self.pipes[0]], [], [], 20)


def hurry(factor: float) -> None:
    """Let time pass faster for this process."""
    started = time.monotonic()
    sleep = time.sleep

    def faster(clock: Callable[..., float]) -> Callable[..., float]:
        def now(*args: Any) -> float:
            return clock(*args) + (real() - started) * (factor - 1)

        return now

    real = time.monotonic
    time.sleep = lambda seconds: sleep(seconds / factor)
    time.clock_gettime = faster(time.clock_gettime)
    time.time = faster(time.time)
    time.monotonic = faster(time.monotonic)  # last, since the others measure by it
