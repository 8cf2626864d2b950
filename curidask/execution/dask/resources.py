"""What stages ask for of workers, held against what workers have."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from curidask.core.spec import LIFETIME, MEMORY, StageSpec, format_bytes
from curidask.errors import DemandError
from curidask.execution.base import ErrorInfo, Outcome
from curidask.execution.dask.chains import Chain, InFlight
from curidask.execution.dask.connection import ClusterConnection

Resources = Mapping[str, float]

REMEMBERED_SECONDS = 60.0
"""How long a worker counts that is gone: a process that died is started again."""


class Demands:
    """Looks at the workers of a dask client."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._met: set[tuple[tuple[str, float], ...]] = set()
        self._seen: list[tuple[float, int]] = []

    def check(self, specs: Iterable[StageSpec], where: str) -> None:
        """Refuse stages that would wait for ever, unless no worker is there yet that could tell.

        Parameters
        ----------
        where : str
            The cluster, for the message.

        Raises
        ------
        DemandError
            With what workers have.
        """
        for spec in specs:
            demands = spec.options.demands | _time(spec)
            known = tuple(sorted(demands.items()))
            if not demands or known in self._met:
                continue
            workers = self.workers()
            if workers and not any(is_met(demands, resources) for resources in workers):
                raise DemandError(
                    f"No worker has what the stage {spec.name!r} asks for: {in_words(demands)}.",
                    where=f"{spec.where}, {where}",
                    fix=f"{listed(workers)}; ask for less, or start workers that have it (local ones: `resources` in "
                    "the configuration, or fewer with --parallel N for more memory each; jobs: a longer `walltime`)",
                )
            if workers:
                self._met.add(known)

    def workers(self) -> list[Resources]:
        """The resources of each worker."""
        return [row.get("resources") or {} for row in _rows(self._client)]

    def largest_memory(self) -> int:
        """The memory of the largest worker, in bytes, or of one that was there a short while ago and may come back."""
        now = time.monotonic()
        self._seen.append((now, int(max((resources.get(MEMORY, 0) for resources in self.workers()), default=0))))
        self._seen = [(since, size) for since, size in self._seen if now - since < REMEMBERED_SECONDS]
        return max(size for _, size in self._seen)


def _time(spec: StageSpec) -> dict[str, float]:
    seconds = spec.options.timeout_seconds
    return {} if seconds is None else {LIFETIME: seconds}


def is_met(demands: Resources, resources: Resources) -> bool:
    """Whether a worker with these resources has what is asked for. One that says nothing of its time has no end."""
    unbounded = {LIFETIME: math.inf}
    return all(resources.get(name, unbounded.get(name, 0)) >= amount for name, amount in demands.items())


def in_words(resources: Resources) -> str:
    """Resources as they are written in messages."""
    words = [f"{name}: {amount:g}" for name, amount in sorted(resources.items()) if name not in (MEMORY, LIFETIME)]
    if resources.get(MEMORY):
        words.append(f"memory: {format_bytes(resources[MEMORY])}")
    if resources.get(LIFETIME):
        words.append(f"time: {resources[LIFETIME]:.0f} s")
    return ", ".join(words) or "nothing"


def listed(workers: Iterable[Resources]) -> str:
    """What workers have, equal ones together."""
    kinds = Counter(in_words(resources) for resources in workers)
    return "; ".join(
        f"{count} {'worker has' if count == 1 else 'workers have'} {kind}" for kind, count in kinds.items()
    )


def _rows(client: Any) -> list[dict[str, Any]]:
    try:
        # Newer versions list five workers unless told to list all.
        info = client.sync(client.scheduler.identity, n_workers=-1)
    except TypeError:
        info = client.sync(client.scheduler.identity)
    return list(info["workers"].values())


# --- jobs that ask for what no worker has any more: dask would let them wait for ever --------------------------------
LOOK_SECONDS = 2.0

Fail = Callable[[Chain, int, ErrorInfo], list[Outcome]]


class Unmet:
    """Watches, once workers have gone, whether those that are left can run what is under way.

    Parameters
    ----------
    fail : callable
        Gives the outcomes of a chain one of whose jobs has failed.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        demands: Demands,
        under_way: InFlight,
        link: ClusterConnection,
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
