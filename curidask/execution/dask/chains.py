"""Jobs that go to dask as one task, because they can only run one after the other."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from curidask.core.spec import MEMORY
from curidask.execution.base import Job, Keep, Kind, Outcome


# --- the chains that dask knows of: those under way, and those that have ended but hold values -----------------------
class InFlight:
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


# --- chains ----------------------------------------------------------------------------------------------------------
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
    code_id : str
        Digest of the code that those bytes name stages of.
    code, project : object
        Those stages and the project's code, as arguments of a task.
    places : list of int
        Their places in those bytes.
    before : list of int
        Jobs of other chains that it waits for.
    result, heard : Future
        Of what it gives, and of what is listened to: its outcomes alone, where it holds values.
    was_tried : bool
        Whether it was sent again, alone, since its worker had died too often.
    has_ended : bool
        Whether its outcomes were reported; it stays known for the values that it holds.
    memory_bytes : int
        The memory that its worker must have beyond what its stages ask for, after one that had less was killed.
    """

    key: str
    jobs: list[Job]
    batch: str
    code_id: str
    code: Any
    project: Any
    places: list[int]
    before: list[int]
    result: Any = None
    heard: Any = None
    was_tried: bool = False
    has_ended: bool = False
    memory_bytes: int = 0

    @property
    def annotations(self) -> dict[str, Any]:
        """What dask is told beside what to run: the resources that it needs, and its priority."""
        options = self.jobs[0].spec.options
        demands = options.demands
        if self.memory_bytes:
            demands[MEMORY] = max(demands.get(MEMORY, 0), self.memory_bytes)
        found: dict[str, Any] = {"resources": demands} if demands else {}
        return found | ({"priority": options.priority} if options.priority else {})

    def take_back(self) -> None:
        """Let the scheduler forget what was sent; nobody waits for it any more."""
        for future in (self.heard, self.result):
            if future is not None:
                future.release()

    @property
    def tasks(self) -> list[int]:
        """Its jobs' tasks."""
        return [job.id for job in self.jobs]

    @property
    def holds_values(self) -> bool:
        """Whether the result holds values, so that it is kept until they are released."""
        return any(output.keep is not Keep.COMMIT for job in self.jobs for output in job.outputs)


@dataclass(frozen=True, slots=True)
class LostChain:
    """A chain whose worker died.

    Attributes
    ----------
    key : str
        Its dask key then.
    worker : str
        The worker's address.
    was_there : bool
        Whether it was running or queued there, rather than waiting for one that was.
    since : float
        When that was heard.
    """

    chain: Chain
    key: str
    worker: str
    was_there: bool
    since: float = field(default_factory=time.monotonic)


def undone(job: Job, gone: Container[int]) -> Outcome:
    """What is said of a job that goes back, since some values that it may need are gone."""
    lost = tuple(task for task in job.passed if task in gone)
    return Outcome(job.id, Kind.INPUT_LOST if lost else Kind.INPUT_UNAVAILABLE, lost=lost)


def annotated(graph: dict[str, Any], chains: Sequence[Chain]) -> Any:
    """The graph with what dask is told of each chain, in as many layers as there are different things to tell.

    Most graphs have nothing to tell and stay as they are, which is faster.
    """
    told = {chain.key: annotations for chain in chains if (annotations := chain.annotations)}
    if not told:
        return graph
    layers: dict[str, dict[str, Any]] = {}
    by_layer: dict[str, dict[str, Any]] = {}
    for key, task in graph.items():
        name = repr(told.get(key, {}))
        by_layer[name] = told.get(key, {})
        layers.setdefault(name, {})[key] = task
    made = {name: MaterializedLayer(tasks, annotations=by_layer[name] or None) for name, tasks in layers.items()}
    return HighLevelGraph(made, {name: set() for name in made})


def linear_chains(jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[list[Job]]:
    """Split jobs into runs that can only be carried out one after the other, so that fusing one costs no parallelism.

    A job joins the one before it when it waits for that one, and for nothing outside of the run, when nothing else that
    waits for a job of the run could start earlier, and when it asks for the same worker.
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
        same = home is not None and _asks(chains[home][-1]) == _asks(job)
        only_next = all(task == job.id or job.id in waits_for[task] for task in waiting.get(last, ()))
        if home is None or last not in waits_for[job.id] or not only_next or not same:
            home = len(chains)
            chains.append([])
        chains[home].append(job)
        chain_of[job.id] = home
    return chains


def _asks(job: Job) -> tuple[Any, ...]:
    options = job.spec.options
    # What may be there already says nothing of how far a chain has come: see `DeathPolicy`.
    alone = job.id if job.is_suspect else -1
    return options.resources, options.memory_bytes, options.priority, alone


def outcome_key(key: str) -> str:
    """The key of the task that gives the outcomes alone of the chain with a key."""
    return f"curidask_outcome-{key.rpartition('-')[2]}"


def hex32(*parts: str) -> str:
    """32 digits out of what must not collide."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
