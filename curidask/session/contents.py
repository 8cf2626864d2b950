"""What the artifacts of a session hold and were made from, as far as a plan has seen it or a stage has made it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from curidask.core.graph import Graph, Task
from curidask.core.scheduler import UNDER_WAY, Status
from curidask.execution.base import Kind, Outcome
from curidask.store.base import Store
from curidask.store.lineage import SHORT, UNKNOWN, Lineage


class Contents:
    """Tells which tasks stand on other contents than their inputs have.

    Parameters
    ----------
    graph : Graph
    store : Store
    prefix : str
        How the names of the session's artifacts begin.

    Attributes
    ----------
    ran : set of int
        The tasks that were computed, so that their contents may be others than before.
    certain : set of int
        The stale tasks that read nothing by which a worker could see that.
    """

    def __init__(self, graph: Graph, store: Store, prefix: str) -> None:
        self.ran: set[int] = set()
        self.certain: set[int] = set()
        self._graph = graph
        self._store = store
        self._prefix = prefix
        self._now: dict[str, tuple[str, str]] = {}
        self._made_from: dict[int, dict[str, str]] = {}

    def stale(self, tasks: Sequence[Task], present: Collection[str]) -> dict[int, str]:
        """The tasks whose artifacts were made from other contents than these have now, with the stages that do."""
        graph = self._graph
        asked = [task for task in tasks if graph.dependencies[task.id] or graph.dependents[task.id]]
        stored_as = [(task, stem, key) for task in asked for stem, key in task.stored_as if stem in present]
        known = self._store.lineage([stem for _, stem, _ in stored_as], self._prefix) if stored_as else {}
        for task, stem, key in stored_as:
            self._keep(task, key, known.get(stem, UNKNOWN))
        stale = {task.id: other for task, _, _ in stored_as if (other := self._other(task.id))}
        for number, (key, _) in stale.items():
            if key not in {ref.key[:SHORT] for ref in graph[number].reads}:
                self.certain.add(number)
        return {number: stage for number, (_, stage) in stale.items()}

    def take(self, task: Task, outcome: Outcome) -> None:
        """Take in what a task made, or what was found of it."""
        if outcome.kind is Kind.DONE:
            self.ran.add(task.id)
        keys = dict(task.stored_as)
        self._made_from.pop(task.id, None)
        for info in outcome.artifacts:
            if info.stem in keys:
                self._keep(task, keys[info.stem], Lineage.of(info.content, info.made_from))

    def left_behind(self, task: int) -> list[int]:
        """The tasks that were decided on before one ran, and stand on other contents than it has made, or may do so."""
        return list(self._left_behind(task)) if self._made_from else []

    def _left_behind(self, task: int) -> Iterator[int]:
        seen: set[tuple[int, bool]] = set()
        pending = [(dependent, False) for dependent in self._graph.dependents[task]]
        while pending:
            number, is_blind = pending.pop()
            if (number, is_blind) in seen:
                continue
            seen.add((number, is_blind))
            is_known = number in self._made_from
            is_left = is_known and (is_blind or self._other(number) is not None)
            if is_left:
                yield number
            # What is not there says nothing of what it was made from, and what will be made again may be another then.
            is_blind = (is_left or not is_known) and self._graph[number].stored
            if is_blind or not self._graph[number].stored:
                pending += [(dependent, is_blind) for dependent in self._graph.dependents[number]]

    def is_changing(self, task: int, status: Mapping[int, Status]) -> bool:
        """Whether a task is under way and makes anew what lies in the cache, or stands on such a one."""
        if status.get(task) not in UNDER_WAY:
            return False
        before = self._graph.dependencies[task]
        return self._graph[task].stored or any(d in self.ran or self.is_changing(d, status) for d in before)

    def _keep(self, task: Task, key: str, known: Lineage) -> None:
        self._now[key[:SHORT]] = known.content, task.spec.name
        self._made_from.setdefault(task.id, {}).update(known.made_from)

    def _other(self, task: int) -> tuple[str, str] | None:
        """Key and stage of something that a task was made from, and that has another content now."""
        for key, content in self._made_from[task].items():
            now, stage = self._now.get(key, ("", ""))
            if now and content and now != content:
                return key, stage
        return None
