"""Deciding what runs and what is reused, by what the store holds at that moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from curidask.core.artifact_names import KEY_DIGITS
from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Decision, Plan, Policy, Reason, Why, plan
from curidask.core.scheduler import UNDER_WAY, Status
from curidask.errors import ArtifactMissingError, CacherCheckError
from curidask.execution.artifact_io import check_stored, find_stored, has_users_check
from curidask.execution.base import Kind, ManagerFacts, Outcome
from curidask.session.events import EventBus
from curidask.session.job_factory import stored_source
from curidask.store.base import Store
from curidask.store.lineage import SHORT, UNKNOWN, Lineage


# --- what the artifacts of a session hold and were made from, as far as a plan has seen it or a stage has made it ----
class Contents:
    """Tells which tasks stand on other contents than their inputs have.

    Parameters
    ----------
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


# --- planning --------------------------------------------------------------------------------------------------------
class PlanBuilder:
    """Plans parts of a graph.

    Parameters
    ----------
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
