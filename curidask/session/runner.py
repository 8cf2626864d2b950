"""The one imperative loop: plan, hand to the executor, take in what comes back, until what is wanted is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from curidask.core import scheduler
from curidask.core.graph import ArtifactRef, Graph, RecordInfo, Task
from curidask.core.planner import Action, Plan, Policy
from curidask.core.scheduler import AVAILABLE, LOST, MAX_ATTEMPTS, UNDER_WAY, RunState, Status
from curidask.errors import ArtifactMissingError, CuridaskError
from curidask.execution.artifact_io import load_stored
from curidask.execution.base import ErrorInfo, Executor, Job, Kind, ManagerFacts, Outcome, Stored, ValueGoneError
from curidask.execution.listener import Listener
from curidask.execution.process.process_state import kept_random_state
from curidask.execution.returned_paths import resolved
from curidask.execution.stage_context import read_from_output
from curidask.session.claim_watcher import Made, Waiting
from curidask.session.events import EventBus
from curidask.session.failures import StageFailures
from curidask.session.job_factory import JobFactory
from curidask.session.planning import PlanBuilder
from curidask.store.base import Store

Test = Callable[[int], bool]
Reducer = Callable[[int, Test, Test], dict[int, int] | None]


class Runner:
    """Executes parts of a graph when they are wanted.

    Parameters
    ----------
    prefix : str
        For the manifests.
    make_executor : callable
        Gives the executor when the first task has to run; a run that reuses everything starts no process.
    bus : EventBus
        Is told what happens.
    waiting : Waiting or None
        Watches the claims of others; None where there are no claims.
    before_look : callable, optional
        Is called with the store names that a plan is about to rely on.
    facts : callable, optional
        Gives what cachers may know of the session.

    Attributes
    ----------
    reduce : callable
        Adds to the graph what stands in the place of an aggregate of which some records have failed; see
        `curidask.session.tracer.Tracer.reduce`.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        policy: Policy,
        prefix: str,
        make_executor: Callable[[], Executor],
        bus: EventBus,
        waiting: Waiting | None = None,
        before_look: Callable[[Sequence[str]], None] | None = None,
        facts: Callable[[], ManagerFacts] = ManagerFacts,
    ) -> None:
        self.graph = graph
        self.store = store
        self.policy = policy
        self.bus = bus
        self.failures = StageFailures(graph, live=policy.live)
        self.state = RunState(
            graph,
            window=policy.window,
            keep_values=True,
            in_memory=lambda task: not policy.writable or not graph[task].stored,
            can_shrink=lambda task: policy.keep_going and bool(graph[task].gathered),
            fail_fast=policy.fail_fast,
        )
        self.reduce: Reducer = lambda task, is_lost, is_replaced: None
        self.find_record: Callable[[RecordInfo], Any] = lambda info: None
        self._decider = PlanBuilder(graph, store, policy, prefix, bus, before_look, facts)
        self._jobs = JobFactory(
            graph,
            policy,
            prefix,
            self.state.status,
            self._decider.forced,
            self._decider.suspects,
            self._may_read,
            self._decider.alike,
            self._decider.only_checked,
        )
        self._is_finishing = False
        self._handed_out: set[int] = set()
        self._n_called = 0
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._waiting = waiting
        self._replaced: dict[int, int] = {}

    # --- what is wanted ----------------------------------------------------------------------------------------------
    def demand(self, targets: Iterable[int], *, keep: Iterable[int] = ()) -> Plan:
        """Plan the targets and hand what has to run to the executor; does not wait for it."""
        made = self.plan(targets)
        self._decider.remember(made)
        self.bus.planned(self.graph, made)
        runs = made.ids(Action.RUN)
        if runs and not self.state.is_stopped:
            self._running().check({id(spec): spec for spec in (self.graph[task].spec for task in runs)}.values())
        self._carry_out(self.state.handle(scheduler.Planned(made, frozenset(keep))))
        return made

    def plan(self, targets: Iterable[int], *, from_scratch: bool = False) -> Plan:
        """Decide on the targets and what they need, leaving out what this run has dealt with unless `from_scratch`."""
        return self._decider.decide(targets, {} if from_scratch else self.state.status)

    def keep_fresh(self, runs: Iterable[str]) -> None:
        """Do not compute by force what these runs have made, but for what depends on something else that is."""
        self._decider.fresh_runs = frozenset(runs)

    def wait(self, targets: Iterable[int]) -> None:
        """Return when nothing more will happen to these tasks.

        Raises
        ------
        KeyboardInterrupt
            After the executor was told to end at once.
        """
        targets = list(targets)
        try:
            # One look at all of them costs as much as there are tasks, so each time only the last one open is awaited.
            while left := self.state.unsettled(map(self.now, targets)):
                with kept_random_state():
                    while left:
                        self._progress()
                        while left and not self.state.unsettled(left[-1:]):
                            left.pop()
        except KeyboardInterrupt:
            self._carry_out(self.state.handle(scheduler.Interrupted()))
            if self.policy.live:  # whoever types goes on afterwards
                self._carry_out(self.state.handle(scheduler.Resumed()))
            raise

    def finish(self) -> Plan:
        """Have all made that was called, and wait for it; meanwhile nothing is read but by stages.

        Raises
        ------
        KeyboardInterrupt
            Once more, when ``run()`` went on after one.
        """
        if self.state.is_stopped and not self.policy.fail_fast:
            raise KeyboardInterrupt
        self._is_finishing = True
        try:
            made = self.demand(self.graph.targets())
            self._carry_out(self.state.handle(scheduler.ReadingEnded()))
            self.wait(range(len(self.graph)))
        finally:
            self._is_finishing = False
        return made

    def _may_read(self, task: int) -> bool:
        return self.policy.live or not self._is_finishing or task in self.state.kept

    def _progress(self) -> None:
        """Take in what the executor has to report, waiting for it."""
        if self._executor is None or not (self.state.in_flight or self._waiting):
            raise CuridaskError("The run has tasks left but nothing to do; please report this as a defect.")
        pause = self._waiting.seconds_left if self._waiting else None
        if self.state.in_flight:
            self._take(self._executor.poll(pause))
        elif pause:
            time.sleep(pause)
        if self._waiting and not self._waiting.seconds_left:
            self._look_at_waiting(self._waiting)
        if self._executor is not None:
            self._tell_of_workers(self._executor)

    def _tell_of_workers(self, executor: Executor) -> None:
        for text in executor.warnings():
            self.bus.warned(text)
        if self.bus.wants_load:
            self.bus.tell(Listener.told_load, executor.load())

    def _look_at_waiting(self, waiting: Waiting) -> None:
        """Go on with what others were computing, where they have ended."""
        events: list[scheduler.Event] = []
        for change in waiting.look():
            if self.state.status.get(change.task) is not Status.HELD:
                continue
            task = self.graph[change.task]
            must_run = task.id in self._decider.forced | self._decider.suspects or self.policy.check_determinism
            if isinstance(change, Made) and not must_run:
                self._tell_ended(task, Outcome(task.id, Kind.FOUND))
                events.append(scheduler.Finished(task.id))
            else:
                # What is there when a task is overwritten may be what it was before.
                self._jobs.supersede(task.id, -1 if isinstance(change, Made) else change.supersedes)
                self.bus.tell(Listener.waiting, task, "")
                events.append(scheduler.Freed(task.id))
        self._carry_out(self.state.handle(*events))

    def is_available(self, task: int) -> bool:
        """Whether the task's outputs can be read without running anything."""
        return self.state.status.get(self.now(task)) in AVAILABLE

    def has_failed(self, task: int) -> bool:
        """Whether the task failed or cannot run."""
        return self.state.status.get(self.now(task)) in LOST

    def current(self, ref: ArtifactRef) -> ArtifactRef:
        """The artifact that stands in the place of one whose task was replaced; else itself."""
        now = self.now(ref.task)
        return ref if now == ref.task else self.graph[now].ref(ref.index)

    def now(self, task: int) -> int:
        """The task that stands in the place of one that was replaced; else itself."""
        while task in self._replaced:
            task = self._replaced[task]
        return task

    # --- reading -----------------------------------------------------------------------------------------------------
    def value(self, ref: ArtifactRef) -> Any:
        """The value of an artifact; executes what it needs.

        Raises
        ------
        StageFailedError
            When the stage that makes it, or one before it, failed.
        """
        for _ in range(MAX_ATTEMPTS):
            self.ensure(ref.task)
            ref = self.current(ref)
            try:
                value = self._read(ref)
                self._handed_out.add(ref.task)
                return value
            except ArtifactMissingError as error:
                self._lose(ref, error.notice)
            except ValueGoneError:
                self._carry_out(self.state.handle(scheduler.OutputLost(ref.task)))
        raise CuridaskError(
            f"The artifact {ref.name!r} was lost each time it was made.",
            where=self.graph[ref.task].label,
            fix="look for something that changes or removes files of the cache while the run goes on",
        )

    def ensure(self, task: int) -> None:
        """Have a task's outputs made.

        Raises
        ------
        StageFailedError
        """
        task = self.now(task)
        if task not in self.state.status:
            self.demand([task], keep=[task])
            self._run_ahead()
        self.wait([task])
        task = self.now(task)
        if self.state.status.get(task) is Status.CANCELLED:
            if self.policy.fail_fast and self.failures:
                raise self.failures.errors[0]  # the one at which the run stopped
            raise KeyboardInterrupt  # once more, where run() went on after the first
        if self.has_failed(task):
            self.failures.raise_for(task)

    def _run_ahead(self) -> None:
        """Have workers begin with all that was called so far; where one job runs at a time, it is better left alone.

        Later calls may show that some of it is not needed.
        """
        if self._executor is not None and self._executor.n_workers > 1:
            called, self._n_called = range(self._n_called, len(self.graph)), len(self.graph)
            ends = [task for task in called if not self.graph.dependents[task]]
            self.demand([task for task in ends if task not in self.state.status])

    def reference(self, ref: ArtifactRef) -> Any:
        """The artifact without its value: a `Lazy` that loads it, or the reference when it is not stored.

        What its `resolve` says is what the stages after it get, not what the caller does.
        """
        if not isinstance(self._jobs.source(self.current(ref)), Stored):
            return ref
        self.ensure(ref.task)
        source = self._jobs.source(self.current(ref))
        assert isinstance(source, Stored)
        lazy = load_stored(self.store, replace(source, lazy=True), self._decider.facts())[0]
        lazy.resolve = not source.lazy
        return lazy

    def _read(self, ref: ArtifactRef) -> Any:
        with read_from_output(self.find_record):
            return self._load(ref)

    def _load(self, ref: ArtifactRef) -> Any:
        source = self._jobs.source(ref)
        if isinstance(source, Stored):
            return load_stored(self.store, source, self._decider.facts())[0]
        with kept_random_state():  # dask draws whom to ask
            packed = self._running().fetch(ref.task, ref.index)
        return resolved(packed, self.store)

    def _lose(self, ref: ArtifactRef, text: str) -> None:
        if text:
            self.bus.warned(text)
        self._decider.distrust([self.graph[ref.task].stems[ref.index]])
        self._carry_out(self.state.handle(scheduler.OutputLost(ref.task)))

    # --- the executor ------------------------------------------------------------------------------------------------
    def _running(self) -> Executor:
        if self._executor is None:
            self._executor = self._make_executor()
            self.bus.tell(Listener.started_executor, self._executor.description)
        return self._executor

    def close(self, *, now: bool = False) -> None:
        """End the executor."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close(now=now)
            for text in executor.warnings():
                self.bus.warned(text)

    def _carry_out(self, instructions: Iterable[scheduler.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case scheduler.Submit(tasks):
                    self._submit(tasks)
                case scheduler.Release(tasks):
                    self._release(tasks)
                case scheduler.Replan(tasks):
                    self.demand(tasks)
                case scheduler.Block(tasks):
                    self._tell_blocked(tasks)
                case scheduler.GiveUp(task):
                    self._give_up(task)
                case scheduler.Reduce() | scheduler.Cancel():
                    self._turn(instruction)

    def _release(self, tasks: Iterable[int]) -> None:
        if self._executor is not None:
            self._executor.release(tasks)

    def _turn(self, instruction: scheduler.Reduce | scheduler.Cancel) -> None:
        match instruction:
            case scheduler.Reduce(task):
                self._reduce(task)
            case scheduler.Cancel():
                self.close(now=True)

    def _reduce(self, aggregate: int) -> None:
        """Plan an aggregate over the records that are left, and what depends on it, instead of what was planned."""
        made = self.reduce(aggregate, self.has_failed, self._replaced.__contains__)
        if made is None:
            self._carry_out(self.state.handle(scheduler.Hopeless(aggregate)))
            return
        task = self.graph[aggregate]
        left = {g.record.index for g in self.graph[made[aggregate]].gathered}
        lost = [g.record.label for g in task.gathered if g.record.index not in left]
        self.bus.warned(
            f"{task.label} runs over {len(left)} of {len(task.gathered)} records, since "
            f"{', '.join(lost[:5])}{f' and {len(lost) - 5} more' if len(lost) > 5 else ''} failed"
        )
        wanted = [old for old in made if self.state.status.get(old) in UNDER_WAY]
        ends = [made[old] for old in wanted if not any(d in wanted for d in self.graph.dependents[old])]
        self._replaced.update(made)
        self._tell_blocked(wanted)
        self.demand(ends, keep=[new for old, new in made.items() if old in self.state.kept])
        self._carry_out(self.state.handle(scheduler.Replaced(tuple(made))))

    def _tell_blocked(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            self.bus.tell(Listener.blocked, self.graph[task])

    def _submit(self, tasks: Sequence[int]) -> None:
        try:
            jobs = [self._jobs.job(self.graph[task]) for task in tasks]
            self._running().submit(jobs, {job.id: self._to_wait_for(job) for job in jobs})
        except Exception:
            self._carry_out(self.state.handle(scheduler.Refused(tuple(tasks))))
            raise

    def _to_wait_for(self, job: Job) -> list[int]:
        """The tasks whose jobs this one must be chained to: those that run still, and those that hold values."""
        passed = job.passed
        status = self.state.status
        return [t for t in self.graph.dependencies[job.id] if t in passed or status.get(t) is Status.SUBMITTED]

    def _take(self, outcomes: Iterable[Outcome]) -> None:
        events: list[scheduler.Event] = []
        for outcome in outcomes:
            if self.state.status.get(outcome.task) is not Status.SUBMITTED:
                continue  # a late word about a task that was blocked meanwhile
            self.bus.warned_once(outcome.warnings)
            task = self.graph[outcome.task]
            events.append(self._event(task, outcome))
            if isinstance(events[-1], scheduler.Finished | scheduler.Failed):
                self._tell_ended(task, outcome)
            if outcome.kind is Kind.DONE:  # what was reused before may stand on what it took the place of
                left = [other for other in self._decider.contents.left_behind(task.id) if self.is_available(other)]
                events += map(scheduler.OutputLost, left)
                self._tell_of_generations(task, left)
        self._carry_out(self.state.handle(*events))

    def _tell_of_generations(self, made: Task, left: Iterable[int]) -> None:
        """What was read before something that it was made from was made again does not belong to what is read now."""
        read = [self.graph[other].label for other in left if other in self._handed_out]
        self._handed_out.difference_update(left)
        if read:
            more = f" and {len(read) - 3} more" if len(read) > 3 else ""
            self.bus.warned(
                f"{', '.join(read[:3])}{more} had been read when {made.label}, which comes before, was made again and "
                "came out otherwise: run it once more for values that belong together"
            )

    def _event(self, task: Task, outcome: Outcome) -> scheduler.Event:
        match outcome.kind:
            case Kind.DONE | Kind.FOUND | Kind.UNCHANGED:
                self._decider.trust(task, outcome)
                return scheduler.Finished(task.id)
            case Kind.FAILED:
                self.failures.add(task, outcome)
                return scheduler.Failed(task.id)
            case Kind.INPUT_LOST:
                self._decider.distrust(stem for lost in outcome.lost for stem in self.graph[lost].stems)
                return scheduler.InputLost(task.id, outcome.lost)
            case Kind.INPUT_UNAVAILABLE:
                return scheduler.InputUnavailable(task.id)
            case Kind.HELD:
                if self._waiting is not None and outcome.held is not None:
                    self._waiting.add(task, outcome.held)
                    self.bus.tell(Listener.waiting, task, outcome.held.holder)
                return scheduler.HeldElsewhere(task.id)

    def _tell_ended(self, task: Task, outcome: Outcome) -> None:
        self._jobs.took(task.spec.name, outcome.seconds)
        self.bus.tell(Listener.ended, task, outcome)

    def _give_up(self, task: int) -> None:
        error = ErrorInfo(
            "ArtifactMissingError",
            "its inputs were lost each time they were made",
            fix="look for something that changes or removes files of the cache while the run goes on",
        )
        outcome = Outcome(task, Kind.FAILED, error=error)
        self.failures.add(self.graph[task], outcome)
        self._tell_ended(self.graph[task], outcome)
        self._carry_out(self.state.handle(scheduler.Failed(task)))
