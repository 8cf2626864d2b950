"""Jobs that ask for what no worker has any more: dask would let them wait for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from curidask.execution.base import ErrorInfo, Outcome
from curidask.execution.dask.chains import Chain
from curidask.execution.dask.connection import Link
from curidask.execution.dask.in_flight import UnderWay
from curidask.execution.dask.resources import Demands, in_words, is_met, listed

LOOK_SECONDS = 2.0

Fail = Callable[[Chain, int, ErrorInfo], list[Outcome]]


class Unmet:
    """Watches, once workers have gone, whether those that are left can run what is under way.

    Parameters
    ----------
    demands : Demands
    under_way : UnderWay
    link : Link
    fail : callable
        Gives the outcomes of a chain one of whose jobs has failed.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        demands: Demands,
        under_way: UnderWay,
        link: Link,
        fail: Fail,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._demands = demands
        self._under_way = under_way
        self._link = link
        self._fail = fail
        self._clock = clock
        self._next_look = 0.0
        self._since: float | None = None

    def look(self) -> list[Outcome]:
        """The outcomes of jobs that have waited in vain for `wait_seconds`."""
        now = self._clock()
        if now < self._next_look or not (self._link.has_lost_workers or self._since is not None):
            return []
        self._next_look = now + LOOK_SECONDS
        self._link.has_lost_workers = False
        workers = self._demands.workers()
        waiting = self._chains_without(workers) if workers else {}
        if not waiting:
            self._since = None if workers else self._since
            return []
        missing = "; ".join(sorted(set(map(in_words, waiting.values()))))
        if self._since is None:
            self._since = now
            self._link.tell(
                f"no worker that is left has {missing} ({listed(workers)}); what asks for it waits up to "
                f"{self._link.wait_seconds:g} s for one"
            )
        if now - self._since < self._link.wait_seconds:
            return []
        self._since = None
        error = ErrorInfo(
            "DemandError",
            f"No worker has what the stage asks for any more: {missing}.",
            fix=f"{listed(workers)}; start workers that have it, and run the same command again",
        )
        return [outcome for chain in waiting for outcome in self._fail(chain, chain.tasks[0], error)]

    def _chains_without(self, workers: list[Mapping[str, float]]) -> dict[Chain, Mapping[str, float]]:
        """The chains that none of the workers can run, with what they ask for."""
        found: dict[Chain, Mapping[str, float]] = {}
        known: dict[tuple[tuple[str, float], ...], bool] = {}
        for chain in dict.fromkeys(self._under_way.chains.values()):
            demands = chain.annotations.get("resources")
            if chain.has_ended or not demands:
                continue
            key = tuple(sorted(demands.items()))
            if key not in known:
                known[key] = any(is_met(demands, resources) for resources in workers)
            if not known[key]:
                found[chain] = demands
        return found
