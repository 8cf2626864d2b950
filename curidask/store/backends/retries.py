"""How long to go on asking a service that fails for the moment."""

from __future__ import annotations

import os
import random
import time

from curidask.store.backends.errors import Failure

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
OUTAGE_SECONDS = 120.0
"""Longer than what is done without for a while (see `curidask.store.tiers`) is left alone: it is then tried once."""


class Patience:
    """Decides whether to try a request again, and after which pause.

    Pauses are drawn evenly between nothing and a limit that doubles each time ("full jitter"), so that clients which
    failed together do not come back together. Requests go on for `seconds` at most. After an outage has used that up,
    all further requests of the process are tried once only, until one succeeds or none was made for a while: else each
    of them would wait as long.

    Parameters
    ----------
    seconds : float
        How long to go on.
    chance : random.Random, optional
        Where the pauses are drawn from.
    """

    def __init__(self, seconds: float, chance: random.Random | None = None) -> None:
        self.seconds = seconds
        self._chance = chance or random.Random()
        self._out_since: float | None = None

    def pause(self, failure: Failure, attempt: int, started: float) -> float | None:
        """Seconds to wait before the next attempt, None to give up.

        Parameters
        ----------
        failure : Failure
        attempt : int
            How many attempts have failed before this one.
        started : float
            When the first attempt began, by `time.monotonic`.
        """
        if not failure.transient:
            return None
        now = time.monotonic()
        if self._out_since is not None and now - self._out_since < OUTAGE_SECONDS and failure.is_outage:
            self._out_since = now
            return None
        limit = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 16))
        pause = self._chance.uniform(0, limit)
        if now + pause - started < self.seconds:
            return pause
        if failure.is_outage:
            self._out_since = now
        return None

    def succeeded(self) -> None:
        """The service answers."""
        self._out_since = None

    def expect_outage(self) -> None:
        """Act as if an outage had been waited for in vain: another process has."""
        self._out_since = time.monotonic()


_of_places: dict[tuple[int, str, float], Patience] = {}


def patience_with(url: str, seconds: float) -> Patience:
    """The one that all of this process have who make requests to a place."""
    return _of_places.setdefault((os.getpid(), url, seconds), Patience(seconds))


def expect_outage(url: str) -> None:
    """Let nobody of this process wait for a place that another process, a worker for one, has waited for in vain."""
    for (pid, place, _), patience in list(_of_places.items()):
        if (pid, place) == (os.getpid(), url):
            patience.expect_outage()
