"""How many tasks of each stage have run, are to run, are reused: counted from what the runner tells."""

from __future__ import annotations

from dataclasses import dataclass, field

from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Decision, Plan
from curidask.execution.base import Kind, Outcome

COUNTED = ("to_run", "done", "failed", "blocked", "reused", "pruned", "found", "unchanged")


@dataclass(slots=True)
class StageCount:
    """The tasks of one stage by how they stand.

    Attributes
    ----------
    to_run, done, failed, blocked, reused, pruned : int
    found : int
        Of those that are done: what somebody else had made meanwhile.
    unchanged : int
        Of those that are done: what was there, and was made from what the inputs hold now.
    seconds : float
        Sum over the tasks that ran.
    sets : int
        The records for which tasks are to run; more than tasks when some share one.
    """

    to_run: int = 0
    done: int = 0
    failed: int = 0
    blocked: int = 0
    reused: int = 0
    pruned: int = 0
    found: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    sets: int = 0

    @property
    def ran(self) -> int:
        """Tasks that ran here."""
        return self.done - self.found - self.unchanged

    @property
    def left(self) -> int:
        """Tasks that are still to end."""
        return self.to_run - self.done - self.failed - self.blocked

    def count(self, action: Action, by: int) -> None:
        """Count tasks with an action, or one less of them."""
        if action is Action.RUN:
            self.to_run += by
        elif action is Action.REUSE:
            self.reused += by
        else:
            self.pruned += by


@dataclass(slots=True)
class Counts:
    """The counts of all stages, in the order in which they were planned.

    Attributes
    ----------
    stages : dict of str to StageCount
    decisions : dict of int to Decision
        What was planned last for each task.
    """

    stages: dict[str, StageCount] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _found: dict[int, Kind] = field(default_factory=dict)

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Count what will happen."""
        for task, decision in plan.decisions.items():
            before = self.decisions.get(task)
            if before is not None and decision.action is Action.PRUNE:
                continue  # it ran, and what it gave is not needed again
            count = self.stages.setdefault(graph[task].spec.name, StageCount())
            if before is not None:
                count.count(before.action, -1)
            count.count(decision.action, 1)
            if decision.action is Action.RUN and before is None:
                count.sets += graph.n_sharing(task)
            self.decisions[task] = decision

    def ended(self, task: Task, outcome: Outcome) -> StageCount:
        """Count a task that ended, once however often it ran; what its stage stands at."""
        count = self.stages[task.spec.name]
        was_done = task.id in self._done
        if outcome.kind is Kind.FAILED:
            count.failed += 1
            count.done -= was_done
            self._count_found(count, self._found.pop(task.id, None), -1)
            self._done.discard(task.id)
        else:
            count.done += not was_done
            if outcome.kind is not Kind.DONE and not was_done:
                self._count_found(count, outcome.kind, 1)
                self._found[task.id] = outcome.kind
            count.seconds += outcome.seconds
            self._done.add(task.id)
        return count

    def _count_found(self, count: StageCount, kind: Kind | None, by: int) -> None:
        count.found += by * (kind is Kind.FOUND)
        count.unchanged += by * (kind is Kind.UNCHANGED)

    def blocked(self, task: Task) -> None:
        """Count a task that will not run."""
        self.stages[task.spec.name].blocked += 1
