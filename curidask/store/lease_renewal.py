"""Signs of life: what keeps the claims of a process from ending, and notices when it was silent for too long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from curidask.errors import CacheError

RENEWALS_A_LEASE = 4
DOUBT = 0.5
"""After what part of a lease without renewal an owner looks whether it was taken over."""

LONGEST_PAUSE_SECONDS = 1.0


def now() -> float:
    """Seconds that go on while the machine sleeps, where it says them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(slots=True)
class Renewed:
    """A claim that is kept renewed.

    Attributes
    ----------
    lease_seconds : float
    write : callable
        Writes it, given the number of the renewal.
    is_mine : callable
        Looks whether nobody has taken it over.
    since : float
        When its owner gave the last sign of life.
    beat : int
        Counts the renewals.
    lost_after : float, optional
        After how many seconds of silence it was lost, when it was.
    """

    lease_seconds: float
    write: Callable[[int], object]
    is_mine: Callable[[], bool]
    since: float = field(default_factory=lambda: now())
    beat: int = 0
    lost_after: float | None = None

    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return now() - self.since

    @property
    def is_in_doubt(self) -> bool:
        """Whether others may think that its owner is dead."""
        return self.silence() > DOUBT * self.lease_seconds

    def look(self) -> None:
        """Find out whether it was taken over, when that may be."""
        if self.lost_after is None and self.is_in_doubt and not self.is_mine():
            self.lost_after = self.silence()

    def renew(self) -> None:
        """Give a sign of life, unless it was taken over."""
        self.look()
        if self.lost_after is None:
            self.beat += 1
            self.write(self.beat)
            self.since = now()


class Renewer:
    """A thread of the process that renews its claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Renewed] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._pause = LONGEST_PAUSE_SECONDS

    def add(self, name: str, held: Renewed) -> None:
        """Renew a claim from now on."""
        with self._lock:
            self._held[name] = held
            if held.lease_seconds / RENEWALS_A_LEASE < self._pause:
                self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="curidask-claims", daemon=True)
                self._thread.start()

    def look(self, name: str) -> float | None:
        """After how many seconds of silence a claim was lost; None when it is held still."""
        with self._lock:
            held = self._held[name]
            held.look()
            return held.lost_after

    def drop(self, name: str) -> bool:
        """Renew it no more; whether it is still held.

        A renewal under way has ended when this returns, so none follows the removal.
        """
        with self._lock:
            held = self._held.pop(name)
            held.look()
            return held.lost_after is None

    def _run(self) -> None:
        while True:
            with self._lock:
                self._pause = self._renew()
                self._wake.clear()
            self._wake.wait(self._pause)

    def _renew(self) -> float:
        """Renew what is due; the seconds until something may be due again."""
        pause = LONGEST_PAUSE_SECONDS
        for held in self._held.values():
            interval = held.lease_seconds / RENEWALS_A_LEASE
            pause = min(pause, interval / 2)
            if held.silence() >= interval and held.lost_after is None:
                with suppress(CacheError):  # the next renewal may succeed; otherwise the lease ends, and that is right
                    held.renew()
        return pause


_renewers: dict[int, Renewer] = {}


def renewer() -> Renewer:
    """The renewer of this process: a forked child has none of its parent's threads."""
    renewer = _renewers.get(os.getpid())
    if renewer is None:
        _renewers.clear()
        renewer = _renewers[os.getpid()] = Renewer()
    return renewer
