"""What stages ask for of workers, held against what workers have."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from curidask.core.options import LIFETIME, MEMORY, format_bytes
from curidask.core.spec import StageSpec
from curidask.errors import DemandError

Resources = Mapping[str, float]

REMEMBERED_SECONDS = 60.0
"""How long a worker counts that is gone: a process that died is started again."""


class Demands:
    """Looks at the workers of a dask client.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._met: set[tuple[tuple[str, float], ...]] = set()
        self._seen: list[tuple[float, int]] = []

    def check(self, specs: Iterable[StageSpec], where: str) -> None:
        """Refuse stages that would wait for ever, unless no worker is there yet that could tell.

        Parameters
        ----------
        specs : iterable of StageSpec
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
