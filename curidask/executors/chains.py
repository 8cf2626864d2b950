"""Jobs that go to dask as one task, because they can only run one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curidask.executors.base import Job, Keep


@dataclass(slots=True, eq=False)
class Chain:
    """Jobs that were sent as one dask task.

    Attributes
    ----------
    key : str
        The dask key.
    jobs : list of Job
        In order.
    batch : str
        Key of the bytes that hold them.
    places : list of int
        Their places in those bytes.
    before : list of int
        Jobs of other chains that it waits for.
    result : Future
    was_tried : bool
        Whether it was sent again, alone, since its worker had died too often.
    has_ended : bool
        Whether its outcomes were reported; it stays known for the values that it holds.
    """

    key: str
    jobs: list[Job]
    batch: str
    places: list[int]
    before: list[int]
    result: Any = None
    was_tried: bool = False
    has_ended: bool = False

    @property
    def tasks(self) -> list[int]:
        """Its jobs' tasks."""
        return [job.id for job in self.jobs]

    @property
    def holds_values(self) -> bool:
        """Whether the result holds values, so that it is kept until they are released."""
        return any(output.keep is not Keep.COMMIT for job in self.jobs for output in job.outputs)


def linear_chains(jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[list[Job]]:
    """Split jobs into runs that can only be carried out one after the other, so that fusing one costs no parallelism.

    A job joins the one before it when it waits for that one, and for nothing outside of the run, and nothing else that
    waits for a job of the run could start earlier.
    """
    waits_for = {job.id: set(after.get(job.id, ())) for job in jobs}
    waiting: dict[int, list[int]] = {}
    for task, before in waits_for.items():
        for other in before:
            waiting.setdefault(other, []).append(task)
    chains: list[list[Job]] = []
    chain_of: dict[int, int] = {}
    for job in jobs:
        homes = {chain_of.get(task) for task in waits_for[job.id]}
        home = homes.pop() if len(homes) == 1 else None
        last = chains[home][-1].id if home is not None else -1
        only_next = all(task == job.id or job.id in waits_for[task] for task in waiting.get(last, ()))
        if home is None or last not in waits_for[job.id] or not only_next:
            home = len(chains)
            chains.append([])
        chains[home].append(job)
        chain_of[job.id] = home
    return chains


def outcome_key(key: str) -> str:
    """The key of the task that gives the outcomes alone of the chain with a key."""
    return f"curidask_outcome-{key.rpartition('-')[2]}"


def hex32(*parts: str) -> str:
    """32 digits out of what must not collide."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
