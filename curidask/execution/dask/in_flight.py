"""The chains that dask knows of: those under way, and those that have ended but hold values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from curidask.execution.base import Job, Kind, Outcome
from curidask.execution.dask.chains import Chain


class UnderWay:
    """Keeps chains, and with them the futures by which dask keeps what belongs to them.

    Attributes
    ----------
    chains : dict of int to Chain
        By each of their tasks.
    """

    def __init__(self) -> None:
        self.chains: dict[int, Chain] = {}
        self._in_batch: dict[str, int] = {}
        self._bytes: dict[str, Any] = {}

    def add(self, batch: str, chains: Sequence[Chain]) -> None:
        """Take in the chains of a batch."""
        self.chains.update((task, chain) for chain in chains for task in chain.tasks)
        self._in_batch[batch] = len(chains)

    def hold_bytes(self, futures: Mapping[str, Any]) -> None:
        """Keep bytes that chains need, by their keys."""
        self._bytes.update(futures)

    @property
    def n_open(self) -> int:
        """How many chains have not ended."""
        return sum(self._in_batch.values())

    def open_jobs(self) -> list[Job]:
        """The jobs of those that have not ended."""
        return [job for chain in dict.fromkeys(self.chains.values()) if not chain.has_ended for job in chain.jobs]

    def is_known(self, chain: Chain) -> bool:
        """Whether it was neither settled nor replaced by another that runs its last job again."""
        return self.chains.get(chain.tasks[-1]) is chain

    def settle(self, chain: Chain, *, keep: bool) -> None:
        """Take in that a chain has ended; `keep` it for the values that it holds."""
        self._in_batch[chain.batch] -= 1
        if not self._in_batch[chain.batch]:
            del self._in_batch[chain.batch]
            # The batch's bytes stay known to dask as long as a chain that holds values may have to run again.
            self._bytes.pop(chain.batch)
        chain.has_ended = True
        if not keep:
            for task in chain.tasks:
                del self.chains[task]

    def give_back(self, chain: Chain) -> list[Outcome]:
        """Settle a chain that did not run; what is said of its jobs, which may be sent again."""
        self.settle(chain, keep=False)
        return [Outcome(task, Kind.INPUT_UNAVAILABLE) for task in chain.tasks]

    def forget(self, tasks: Iterable[int]) -> None:
        """Let go of the values of tasks: a chain's when all of them are forgotten."""
        for task in tasks:
            self.chains.pop(task, None)

    def clear(self) -> None:
        """Let go of everything."""
        self.chains.clear()
        self._bytes.clear()

    # --- what dask has given up --------------------------------------------------------------------------------------
    def is_blamed(self, task: int, *, besides: Collection[Chain] = ()) -> bool:
        """Whether dask has given up the chain of a task, and it is none of those that are about to be sent again."""
        chain = self.chains.get(task)
        return chain is not None and chain.result.status == "error" and chain not in besides

    def gone_values(self, chain: Chain) -> list[int]:
        """The jobs whose values a chain reads that had ended well, and that dask could not run again after a death."""
        before = [task for task in chain.before if task in self.chains]
        return [task for task in before if self.chains[task].has_ended and self.is_blamed(task)]

    def waiting_for(self, chain: Chain) -> list[Chain]:
        """Those that have not ended and wait for a chain, each behind those that it waits for itself."""
        known = sorted(dict.fromkeys(self.chains.values()), key=lambda other: other.tasks[0])
        tasks = set(chain.tasks)
        found = []
        for other in known:
            if other is not chain and not tasks.isdisjoint(other.before):
                tasks.update(other.tasks)
                found.append(other)
        return [other for other in found if not other.has_ended]
