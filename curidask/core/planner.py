"""Which tasks of a graph run, which are reused, which nobody needs: a pure function that says why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from curidask.core.graph import Graph, Task
from curidask.core.keywords import CheckedCalls

# --- how a run is to be carried out ----------------------------------------------------------------------------------
ALL = "all"


@dataclass(slots=True)
class Policy:
    """How a run is carried out.

    Attributes
    ----------
    force : Force
        What to recompute.
    prune : bool
        False for ``--no-dag``.
    writable : bool
        False for a dry run: nothing is stored.
    live : bool
        A live session: values stay until the end, and a failure is raised where it happens.
    fail_fast : bool
        Stop at the first failure.
    keep_going : bool
        Let aggregates run over the records that are left when some have failed.
    window : int
        Tasks in flight at most.
    accept_code : frozenset of str
        The stages whose results count as made by today's code; ``all`` for all of them.
    check_determinism : bool
        Run every task, and once more, and compare what comes out.
    """

    force: Force
    prune: bool = True
    writable: bool = True
    live: bool = False
    fail_fast: bool = False
    keep_going: bool = False
    window: int = 2048
    accept_code: frozenset[str] = frozenset()
    check_determinism: bool = False

    def accepts_code(self, stage: str) -> bool:
        """Whether results of a stage count as made by today's code."""
        return stage in self.accept_code or ALL in self.accept_code


# --- planner ---------------------------------------------------------------------------------------------------------
_NONE: Mapping[int, str] = MappingProxyType({})


class Action(Enum):
    """What happens to a task."""

    RUN = "run"
    REUSE = "reuse"
    PRUNE = "prune"


class Why(Enum):
    """The ground for a decision; the value is the text shown to the user."""

    NOT_CACHED = "not in the cache"
    INCOMPLETE = "not all of its outputs are in the cache"
    NO_CACHER = "its outputs are not stored"
    NO_OUTPUTS = "it has no outputs"
    OVERWRITE = "overwrite asked for"
    UPSTREAM_OVERWRITE = "a stage before it is overwritten"
    UPSTREAM_RUNS = "unless what a stage before it makes is unchanged"
    OTHER_CONTENTS = "it was made from other contents of a stage before it"
    CACHED = "in the cache"
    NOT_NEEDED = "nothing that runs needs it"
    CHECKED = "determinism is checked"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision was made.

    Attributes
    ----------
    detail : str
        The stage or output it is about, where there is one.
    """

    why: Why
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.why.value}: {self.detail}" if self.detail else self.why.value


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one task, and why."""

    task: int
    action: Action
    reason: Reason


@dataclass(frozen=True, slots=True)
class Force:
    """What to recompute whatever the cache holds.

    Attributes
    ----------
    everything : bool
        All tasks.
    stages : frozenset of str
        The tasks of these stages and, by the graph, all that depends on them.
    tasks : frozenset of int
        Tasks that were recomputed by force earlier in the run: what depends on them follows.
    """

    everything: bool = False
    stages: frozenset[str] = frozenset()
    tasks: frozenset[int] = frozenset()

    def names(self, task: Task) -> bool:
        """Whether the task itself is meant."""
        return self.names_stage(task.spec.name) or task.force or task.id in self.tasks

    def names_stage(self, stage: str) -> bool:
        """Whether all tasks of a stage are."""
        return self.everything or stage in self.stages


@dataclass(frozen=True, slots=True)
class Plan(CheckedCalls):
    """The decisions for a set of targets, dependencies first."""

    decisions: Mapping[int, Decision]

    def ids(self, action: Action) -> list[int]:
        """The tasks with an action, in an order in which they can run."""
        return [d.task for d in self.decisions.values() if d.action is action]


def plan(
    graph: Graph,
    present: Collection[str],
    force: Force,
    targets: Iterable[int],
    *,
    done: Collection[int] = (),
    prune: bool = True,
    stale: Mapping[int, str] = _NONE,
    fresh: Collection[int] = (),
    changed: Collection[int] = (),
    changing: Callable[[int], bool] = lambda task: False,
) -> Plan:
    """Decide what happens to the targets and to what they depend on.

    Parameters
    ----------
    present : collection of str
        Store names (stems) that hold a whole artifact; a set, since each lookup should be O(1).
    force : Force
        What to recompute.
    targets : iterable of int
        The tasks whose outputs are wanted.
    done : collection of int
        Tasks whose outputs this run has already; they and what only they need are left out.
    prune : bool
        False: no pruning and no forced dependents, each stage decides by its own cache alone (``--no-dag``).
    stale : mapping of int to str
        Tasks whose artifacts were made from other contents than their inputs have now, with the stage that has others.
    fresh : collection of int
        Tasks that are not recomputed by force unless something that they depend on is: a run that was broken off has
        done so.
    changed : collection of int
        Those that are done whose contents may be others than before.
    changing : callable
        Tells of one that is left out whether it is under way, and its contents may be others then.

    Returns
    -------
    Plan
        In O(V + E) of the part of the graph above the targets, times the steps in which contents that may change make
        more of them run.
    """
    targets = list(targets)
    order = graph.order(targets, stop=done)
    forced = _forced(graph, force, order, reach_dependents=prune)
    for task_id in order if fresh else ():
        is_fresh = task_id in fresh or not graph[task_id].stored  # which runs where it is needed
        if is_fresh and not any(before in forced for before in graph.dependencies[task_id]):
            forced.pop(task_id, None)
    suspects: dict[int, Reason] = {}
    while True:
        decisions = _decided(graph, order, present, {**suspects, **forced}, set(targets) if prune else set(order))
        running = {task for task, decision in decisions.items() if decision.action is Action.RUN}
        is_open = prune and len(running) < len(order)
        found = _suspects(graph, order, present, running, stale, changed, changing) if is_open else {}
        if found.keys() <= suspects.keys():
            return Plan({task_id: decisions[task_id] for task_id in order})
        suspects = {**found, **suspects}


def _decided(
    graph: Graph, order: Sequence[int], present: Collection[str], unsure: Mapping[int, Reason], needed: set[int]
) -> dict[int, Decision]:
    decisions: dict[int, Decision] = {}
    for task_id in reversed(order):
        task = graph[task_id]
        decision = _decide(task, present, unsure.get(task_id), task_id in needed)
        decisions[task_id] = decision
        if decision.action is Action.RUN:
            needed.update(graph.dependencies[task_id])
    return decisions


def _suspects(
    graph: Graph,
    order: Iterable[int],
    present: Collection[str],
    running: Collection[int],
    stale: Mapping[int, str],
    changed: Collection[int],
    is_changing: Callable[[int], bool],
) -> dict[int, Reason]:
    """The tasks of which it is not known whether what is there was made from what its inputs are going to hold."""
    found: dict[int, Reason] = {}
    changing: dict[int, str] = {}
    for task_id in order:
        task, before = graph[task_id], graph.dependencies[task_id]
        # Of what is there it was seen whether it stands on what is done.
        is_there = task.stored and all(stem in present for stem in task.store_stems)
        why = next((changing[d] for d in before if d in changing), None)
        others = (d for d in before if (d in changed and not is_there) or is_changing(d))
        why = why or next((graph[d].spec.name for d in others), None)
        if task_id in stale:
            found[task_id] = Reason(Why.OTHER_CONTENTS, stale[task_id])
        elif why is not None:
            found[task_id] = Reason(Why.UPSTREAM_RUNS, why)
        if task_id in found or (task.stored and task_id in running):
            # A stage that stores nothing passes on what it was made from.
            changing[task_id] = task.spec.name if task.stored else why or task.spec.name
    return found


def _forced(graph: Graph, force: Force, order: Iterable[int], *, reach_dependents: bool) -> dict[int, Reason]:
    forced: dict[int, Reason] = {}
    for task_id in order:
        if force.names(graph[task_id]):
            forced[task_id] = Reason(Why.OVERWRITE)
        elif reach_dependents:
            before = next((d for d in graph.dependencies[task_id] if d in forced or d in force.tasks), None)
            if before is not None:
                forced[task_id] = Reason(Why.UPSTREAM_OVERWRITE, graph[before].spec.name)
    return forced


def _decide(task: Task, present: Collection[str], unsure: Reason | None, needed: bool) -> Decision:
    if not needed:
        # Reversed topological order: whatever could need this task has been decided.
        return Decision(task.id, Action.PRUNE, Reason(Why.NOT_NEEDED))
    if unsure is not None and unsure.why in (Why.OVERWRITE, Why.UPSTREAM_OVERWRITE):
        return Decision(task.id, Action.RUN, unsure)
    if not task.stored:
        return Decision(task.id, Action.RUN, Reason(Why.NO_CACHER))
    missing = [stem for stem in task.store_stems if stem not in present]
    if not missing and unsure is not None:
        return Decision(task.id, Action.RUN, unsure)
    if not missing:
        return Decision(task.id, Action.REUSE, Reason(Why.CACHED))
    if not task.stems:
        return Decision(task.id, Action.RUN, Reason(Why.NO_OUTPUTS))
    if len(missing) < len(task.stems):
        names = [o.name for o, stem in zip(task.outputs, task.stems, strict=True) if stem in missing]
        return Decision(task.id, Action.RUN, Reason(Why.INCOMPLETE, ", ".join(names)))
    return Decision(task.id, Action.RUN, Reason(Why.NOT_CACHED))
