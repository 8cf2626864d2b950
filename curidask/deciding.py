"""Deciding what runs and what is reused, by what the store holds at that moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from curidask.errors import ArtifactMissingError
from curidask.executors.stored import find_stored
from curidask.graph import Graph, Task
from curidask.jobs import stored_source
from curidask.listening import Audience
from curidask.planner import Action, Plan, plan
from curidask.policy import Policy
from curidask.store.base import Store


class Decider:
    """Plans parts of a graph.

    Parameters
    ----------
    graph : Graph
    store : Store
    policy : Policy
    audience : Audience
        Is told of damage.
    before_look : callable, optional
        Is called with the store names that a plan is about to rely on.

    Attributes
    ----------
    forced : set of int
        The tasks that were recomputed by force; what depends on them follows.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        policy: Policy,
        audience: Audience,
        before_look: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.forced: set[int] = set()
        self._damaged: set[str] = set()
        self._graph = graph
        self._store = store
        self._policy = policy
        self._audience = audience
        self._before_look = before_look

    def decide(self, targets: Iterable[int], done: Collection[int]) -> Plan:
        """Decide on the targets and what they need, leaving out what is done."""
        targets = list(targets)
        tasks = [self._graph[task] for task in self._graph.order(targets, stop=done)]
        if self._before_look is not None:
            self._before_look([stem for task in tasks for stem in (*task.store_stems, task.marker)])
        stems = [stem for task in tasks for stem in (task.store_stems if task.stored else ())]
        present = self._store.present(stems) - self._damaged
        self._audience.warned_once(self._store.notices())
        force = replace(self._policy.force, tasks=frozenset(self.forced))
        made = plan(self._graph, present, force, targets, done=done, prune=self._policy.prune)
        damaged = self._damaged_targets(made, targets)
        if damaged:
            made = plan(self._graph, present - damaged, force, targets, done=done, prune=self._policy.prune)
        return made

    def remember_forced(self, made: Plan) -> None:
        """Keep in mind what a plan recomputes by force, when it is carried out."""
        self.forced.update(t for t, d in made.decisions.items() if d.reason.why.name.endswith("OVERWRITE"))

    def distrust(self, stems: Iterable[str | None]) -> None:
        """Take artifacts for missing."""
        self._damaged.update(stem for stem in stems if stem is not None)

    def trust(self, stems: Iterable[str | None]) -> None:
        """Believe in artifacts again, which were made anew."""
        self._damaged.difference_update(stem for stem in stems if stem is not None)

    def _damaged_targets(self, made: Plan, targets: Sequence[int]) -> set[str]:
        """Reused targets on a local store that do not hold what was committed.

        Nothing of the run would read them, so nothing else would notice. On a remote store the check would cost a
        request or more an artifact; there it is left to whoever reads.
        """
        if not self._store.reads_are_cheap:
            return set()
        reused = [t for t in targets if t in made.decisions and made.decisions[t].action is Action.REUSE]
        return {stem for t in reused for stem in self._damaged_stems(self._graph[t])}

    def _damaged_stems(self, task: Task) -> list[str]:
        damaged = []
        for stem, key in task.stored_as:
            try:
                self._check(task, stem, key)
            except ArtifactMissingError as error:
                self._audience.warned(error.notice)
                self._damaged.add(stem)
                damaged.append(stem)
        return damaged

    def _check(self, task: Task, stem: str, key: str) -> None:
        if not task.stems:
            self._store.checkout(stem, key)
            return
        cacher, _ = find_stored(self._store, stored_source(task, task.stems.index(stem), stem))
        cacher.check_references()
