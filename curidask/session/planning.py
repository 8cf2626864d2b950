"""Deciding what runs and what is reused, by what the store holds at that moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from curidask.core.artifact_names import KEY_DIGITS
from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Decision, Plan, Reason, Why, plan
from curidask.core.policy import Policy
from curidask.core.scheduler import Status
from curidask.errors import ArtifactMissingError, CacherCheckError
from curidask.execution.artifact_io import check_stored, find_stored, has_users_check
from curidask.execution.base import Kind, Outcome
from curidask.execution.environment import ManagerFacts
from curidask.session.contents import Contents
from curidask.session.events import EventBus
from curidask.session.job_factory import stored_source
from curidask.store.base import Store


class Decider:
    """Plans parts of a graph.

    Parameters
    ----------
    graph : Graph
    store : Store
    policy : Policy
    prefix : str
        How the names of the session's artifacts begin.
    bus : EventBus
        Is told of damage.
    before_look : callable, optional
        Is called with the store names that a plan is about to rely on.

    Attributes
    ----------
    forced : set of int
        The tasks that were recomputed by force; what depends on them follows.
    suspects : set of int
        The tasks of which a worker sees whether what is there stands on the contents of now.
    only_checked : set of int
        The tasks that run for the check of determinism alone, and whose stored outputs are all there.
    fresh_runs : frozenset of str
        The runs whose results are not computed by force.
    facts : callable
        Gives what cachers may know of the session.
    contents : Contents
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        policy: Policy,
        prefix: str,
        bus: EventBus,
        before_look: Callable[[Sequence[str]], None] | None = None,
        facts: Callable[[], ManagerFacts] = ManagerFacts,
    ) -> None:
        self.forced: set[int] = set()
        self.suspects: set[int] = set()
        self.fresh_runs: frozenset[str] = frozenset()
        self._fresh: set[int] = set()
        self._by_name: dict[str, list[str]] = {}
        self._seen: dict[str, list[str]] | None = None
        self._known_fresh: set[int] = set()
        self.contents = Contents(graph, store, prefix)
        self.only_checked: set[int] = set()
        self.facts = facts
        self._damaged: set[str] = set()
        self._graph = graph
        self._store = store
        self._policy = policy
        self._bus = bus
        self._before_look = before_look

    def decide(self, targets: Iterable[int], done: Mapping[int, Status]) -> Plan:
        """Decide on the targets and what they need, leaving out what is done."""
        targets = list(targets)
        tasks = [self._graph[task] for task in self._graph.order(targets, stop=done)]
        if self._before_look is not None:
            self._before_look([stem for task in tasks for stem in (*task.store_stems, task.marker)])
        looks = self._policy.check_determinism
        stems = [stem for task in tasks for stem in (task.store_stems if task.stored or looks else ())]
        present = self._store.present(stems) - self._damaged
        stale = self.contents.stale(tasks, present) if self._policy.prune else {}
        self._bus.warned_once(self._store.notices())
        force = replace(self._policy.force, tasks=frozenset(self.forced | self._fresh))
        fresh = self._made_by_fresh_runs(tasks, present) if self.fresh_runs else set()
        changing = functools.cache(lambda task: self.contents.is_changing(task, done))
        looked_at: set[int] = set()
        while True:
            made = plan(
                self._graph,
                present,
                force,
                targets,
                done=done,
                prune=self._policy.prune,
                stale=stale,
                fresh=fresh,
                changed=self.contents.ran,
                changing=changing,
            )
            unusable = self._unusable(made, targets, looked_at)
            if not unusable:
                return self._checked(made, present) if self._policy.check_determinism else made
            present = present - unusable  # what runs then may need what was not needed before

    def remember(self, made: Plan) -> None:
        """Keep in mind what a plan recomputes by force, and what it has workers look at, when it is carried out."""
        whys = {number: decision.reason.why for number, decision in made.decisions.items()}
        self._fresh.update(number for number in self._known_fresh & whys.keys() if whys[number] is Why.CACHED)
        self._look_for_alike([n for n, why in whys.items() if why is Why.NOT_CACHED])
        self.forced.update(number for number, why in whys.items() if why in (Why.OVERWRITE, Why.UPSTREAM_OVERWRITE))
        self.forced.update(self.contents.certain & whys.keys())
        self.suspects.update(number for number, why in whys.items() if why in (Why.UPSTREAM_RUNS, Why.OTHER_CONTENTS))

    def _look_for_alike(self, tasks: Collection[int]) -> None:
        readable = {stem[:-KEY_DIGITS] for number in tasks for stem in self._graph[number].store_stems}
        own = {stem for number in tasks for stem in self._graph[number].store_stems}
        for name, stems in self._earlier(readable).items() if readable else ():
            # What lies there under its own name did not do.
            self._by_name[name] = [stem for stem in stems if stem not in own]

    def _earlier(self, readable: Collection[str]) -> dict[str, list[str]]:
        """What lies in the store under names that begin so.

        A session that plans stage by stage looks at a folder once: else each stage would cost a look at all there is.
        """
        if self._policy.live and self._store.reads_are_cheap:
            if self._seen is None:
                self._seen = _by_beginning(self._store.alike(readable, one_look=True))
            return {name: self._seen[name] for name in readable if name in self._seen}
        return _by_beginning(self._store.alike(readable))

    def alike(self, task: Task) -> tuple[tuple[str, ...], ...]:
        """What the stage of a task made for such a record under other keys: store names for each output."""
        found = [tuple(self._by_name.pop(stem[:-KEY_DIGITS], ())) for stem in task.store_stems]
        if not (task.stems and all(found)):
            return ()
        # What reads nothing is another only if its code is; one look shows whether that is from before code counted.
        is_other = not task.reads and not self._policy.accepts_code(task.spec.name)
        return tuple(stems[:1] for stems in found) if is_other else tuple(found)

    def _checked(self, made: Plan, present: Collection[str]) -> Plan:
        """The plan with all tasks run, since a reused one tells nothing of its stage."""
        decisions = dict(made.decisions)
        for number, decision in made.decisions.items():
            self.only_checked.discard(number)
            if decision.action is not Action.RUN:
                decisions[number] = Decision(number, Action.RUN, Reason(Why.CHECKED))
                if all(stem is None or stem in present for stem in self._graph[number].stems):
                    self.only_checked.add(number)
        return Plan(decisions)

    def _made_by_fresh_runs(self, tasks: Iterable[Task], present: Collection[str]) -> set[int]:
        """The tasks whose artifacts all come from these runs."""
        there = {
            task.id: task.store_stems
            for task in tasks
            if task.stored and all(stem in present for stem in task.store_stems)
        }
        manifests = self._store.manifests([stem for stems in there.values() for stem in stems])
        runs = {stem: manifest.run for stem, manifest in manifests.items()}
        self._known_fresh = {n for n, stems in there.items() if all(runs.get(s) in self.fresh_runs for s in stems)}
        return self._known_fresh

    def distrust(self, stems: Iterable[str | None]) -> None:
        """Take artifacts for missing."""
        self._damaged.update(stem for stem in stems if stem is not None)

    def trust(self, task: Task, outcome: Outcome) -> None:
        """Believe in artifacts again, which were made anew."""
        self._damaged.difference_update(stem for stem in task.stems if stem is not None)
        self.contents.take(task, outcome)
        if self._seen is not None and outcome.kind is not Kind.FOUND:
            for stem in filter(None, task.stems):
                self._seen.setdefault(stem[:-KEY_DIGITS], []).append(stem)

    def _unusable(self, made: Plan, targets: Collection[int], looked_at: set[int]) -> set[str]:
        """What a plan reuses although it is not what was committed, or although its cacher's own check says no.

        On a local store all targets are looked at: nothing of the run would read them, so nothing else would notice. On
        a remote store that would cost a request or more an artifact; there it is left to whoever reads.
        """
        verified = set(targets) if self._store.reads_are_cheap else set()
        found: set[str] = set()
        for number in made.ids(Action.REUSE):
            if number not in looked_at:
                looked_at.add(number)
                found.update(self._unusable_stems(self._graph[number], everything=number in verified))
        return found

    def _unusable_stems(self, task: Task, *, everything: bool) -> list[str]:
        found = []
        for stem, key in task.stored_as:
            asks = bool(task.stems) and has_users_check(task.outputs[task.stems.index(stem)].cacher)
            if not (everything or asks):
                continue
            try:
                self._check(task, stem, key)
            except ArtifactMissingError as error:
                self._bus.warned_once([error.notice])
                found.append(stem)
            except CacherCheckError as error:
                # The stage has to run then, and the error is its own, where its artifact is looked at again.
                self._bus.warned_once([str(error)])
                found.append(stem)
        self._damaged.update(found)
        return found

    def _check(self, task: Task, stem: str, key: str) -> None:
        if not task.stems:
            self._store.checkout(stem, key)
            return
        source = stored_source(task, task.stems.index(stem), stem)
        cacher, _ = find_stored(self._store, source, self.facts())
        check_stored(cacher, source)


def _by_beginning(stems: Iterable[str]) -> dict[str, list[str]]:
    """Store names by what comes before their keys."""
    found: dict[str, list[str]] = {}
    for stem in stems:
        found.setdefault(stem[:-KEY_DIGITS], []).append(stem)
    return found
