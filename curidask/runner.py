"""The one imperative loop: plan, hand to the executor, take in what comes back, until what is wanted is there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curidask import runstate
from curidask.errors import ArtifactMissingError, CacheError, CuridaskError, StageFailedError
from curidask.executors.base import (
    ErrorInfo,
    Executor,
    Job,
    JobOutput,
    Keep,
    Kind,
    Outcome,
    Passed,
    Source,
    Stored,
)
from curidask.executors.stored import find_stored, load_stored
from curidask.executors.surroundings import LOG, WARNING, Spoken
from curidask.executors.values import resolved
from curidask.graph import ArtifactRef, Graph, Literal, Task
from curidask.listening import Hearer, Listener, LoadListener, log_again
from curidask.planner import Action, Force, Plan, plan
from curidask.runstate import AVAILABLE, LOST, UNDER_WAY, RunState, Status
from curidask.store.base import Store
from curidask.store.failures import OUTAGES
from curidask.store.retries import expect_outage
from curidask.waiting import Made, Waiting


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
    """

    force: Force
    prune: bool = True
    writable: bool = True
    live: bool = False
    fail_fast: bool = False
    keep_going: bool = False
    window: int = 2048


Test = Callable[[int], bool]
Reducer = Callable[[int, Test, Test], dict[int, int] | None]


class Runner:
    """Executes parts of a graph when they are wanted.

    Parameters
    ----------
    graph : Graph
    store : Store
    policy : Policy
    prefix : str
        For the manifests.
    make_executor : callable
        Gives the executor when the first task has to run; a run that reuses everything starts no process.
    listeners : sequence of Listener
    waiting : Waiting or None
        Watches the claims of others; None where there are no claims.
    before_look : callable, optional
        Is called with the store names that a plan is about to rely on.

    Attributes
    ----------
    reduce : callable
        Adds to the graph what stands in the place of an aggregate of which some records have failed; see
        `curidask.tracing.Tracer.reduce`.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        policy: Policy,
        prefix: str,
        make_executor: Callable[[], Executor],
        listeners: Sequence[Listener] = (),
        waiting: Waiting | None = None,
        before_look: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.graph = graph
        self.store = store
        self.policy = policy
        self.prefix = prefix
        self.state = RunState(
            graph,
            window=policy.window,
            keep_values=policy.live,
            in_memory=lambda task: self._holds_values(graph[task]),
            can_shrink=lambda task: policy.keep_going and bool(graph[task].gathered),
            fail_fast=policy.fail_fast,
        )
        self.reduce: Reducer = lambda task, is_lost, is_replaced: None
        self.failures: dict[int, StageFailedError] = {}
        self._errors: dict[int, ErrorInfo] = {}
        self._listeners = list(listeners)
        self._before_look = before_look
        self._told: set[str] = set()
        self.hearers: list[Hearer] = [listener for listener in listeners if isinstance(listener, Hearer)]
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._forced: set[int] = set()
        self._damaged: set[str] = set()
        self._waiting = waiting
        self._superseded: dict[int, int] = {}
        self._longest: dict[str, float] = {}
        self._replaced: dict[int, int] = {}

    # --- what is wanted ----------------------------------------------------------------------------------------------
    def demand(self, targets: Iterable[int], *, keep: Iterable[int] = ()) -> Plan:
        """Plan the targets and hand what has to run to the executor; does not wait for it."""
        made = self.plan(targets)
        self._forced.update(t for t, d in made.decisions.items() if d.reason.why.name.endswith("OVERWRITE"))
        for listener in self._listeners:
            listener.planned(self.graph, made)
        runs = made.ids(Action.RUN)
        if runs and not self.state.is_stopped:
            self._running().check({id(spec): spec for spec in (self.graph[task].spec for task in runs)}.values())
        self._carry_out(self.state.handle(runstate.Planned(made, frozenset(keep))))
        return made

    def plan(self, targets: Iterable[int], *, from_scratch: bool = False) -> Plan:
        """Decide on the targets and what they need, leaving out what this run has dealt with unless `from_scratch`."""
        targets = list(targets)
        done = {} if from_scratch else self.state.status
        tasks = [self.graph[task] for task in self.graph.order(targets, stop=done)]
        if self._before_look is not None:
            self._before_look([stem for task in tasks for stem in (*task.store_stems, task.marker)])
        stems = [stem for task in tasks for stem in (task.store_stems if task.stored else ())]
        present = self.store.present(stems) - self._damaged
        self.tell_once(self.store.notices())
        force = Force(self.policy.force.everything, self.policy.force.stages, frozenset(self._forced))
        made = plan(self.graph, present, force, targets, done=done, prune=self.policy.prune)
        damaged = self._damaged_targets(made, targets)
        if damaged:
            made = plan(self.graph, present - damaged, force, targets, done=done, prune=self.policy.prune)
        return made

    def _damaged_targets(self, made: Plan, targets: Sequence[int]) -> set[str]:
        """Reused targets on a local store that do not hold what was committed.

        Nothing of the run would read them, so nothing else would notice. On a remote store the check would cost a
        request or more an artifact; there it is left to whoever reads.
        """
        if not self.store.reads_are_cheap:
            return set()
        reused = [t for t in targets if t in made.decisions and made.decisions[t].action is Action.REUSE]
        return {stem for t in reused for stem in self._damaged_stems(self.graph[t])}

    def _damaged_stems(self, task: Task) -> list[str]:
        damaged = []
        for stem, key in task.stored_as:
            try:
                self._check_stored(task, stem, key)
            except ArtifactMissingError as error:
                self._warn(error.notice)
                self._damaged.add(stem)
                damaged.append(stem)
        return damaged

    def _check_stored(self, task: Task, stem: str, key: str) -> None:
        if not task.stems:
            self.store.checkout(stem, key)
            return
        cacher, _ = find_stored(self.store, self._stored(task, task.stems.index(stem), stem))
        cacher.check_references()

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
                while left:
                    self._progress()
                    while left and not self.state.unsettled(left[-1:]):
                        left.pop()
        except KeyboardInterrupt:
            self._carry_out(self.state.handle(runstate.Interrupted()))
            raise

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
            self._warn(text)
        for listener in self._listeners:
            if isinstance(listener, LoadListener):
                listener.told_load(executor.load())

    def _look_at_waiting(self, waiting: Waiting) -> None:
        """Go on with what others were computing, where they have ended."""
        events: list[runstate.Event] = []
        for change in waiting.look():
            if self.state.status.get(change.task) is not Status.HELD:
                continue
            task = self.graph[change.task]
            if isinstance(change, Made):
                self._tell_ended(task, Outcome(task.id, Kind.FOUND))
                events.append(runstate.Finished(task.id))
            else:
                self._superseded[task.id] = change.supersedes
                self._tell_waiting(task, "")
                events.append(runstate.Freed(task.id))
        self._carry_out(self.state.handle(*events))

    def _tell_waiting(self, task: Task, holder: str) -> None:
        for listener in self._listeners:
            listener.waiting(task, holder)

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
        for _ in range(runstate.MAX_ATTEMPTS):
            self.ensure(ref.task)
            ref = self.current(ref)
            try:
                return self._read(ref)
            except ArtifactMissingError as error:
                self._lose(ref, error.notice)
            except KeyError:
                self._carry_out(self.state.handle(runstate.OutputLost(ref.task)))
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
        self.wait([task])
        self._raise_failure(self.now(task))

    def reference(self, ref: ArtifactRef) -> Any:
        """The artifact without its value: a `Lazy` that loads it, or the reference when it is not stored."""
        if not isinstance(self._source(self.current(ref)), Stored):
            return ref
        self.ensure(ref.task)
        source = self._source(self.current(ref))
        assert isinstance(source, Stored)
        return load_stored(self.store, replace(source, lazy=True))[0]

    def _read(self, ref: ArtifactRef) -> Any:
        source = self._source(ref)
        if isinstance(source, Stored):
            return load_stored(self.store, source)[0]
        return resolved(self._running().fetch(ref.task, ref.index), self.store)

    def _lose(self, ref: ArtifactRef, text: str) -> None:
        self._warn(text)
        stem = self.graph[ref.task].stems[ref.index]
        if stem is not None:
            self._damaged.add(stem)
        self._carry_out(self.state.handle(runstate.OutputLost(ref.task)))

    def _raise_failure(self, task: int) -> None:
        if self.state.status.get(task) is Status.CANCELLED and self.failures:
            raise next(iter(self.failures.values()))  # the one at which the run stopped
        if not self.has_failed(task):
            return
        failed = next((t for t in [task, *reversed(self.graph.order([task]))] if t in self.failures), None)
        if failed is None:
            raise CuridaskError("A stage did not run.", where=self.graph[task].label)
        cause = self._errors[failed].exception
        if self.policy.live and cause is not None:
            # In a live session the exception belongs where the stage was called, as if it were a plain function.
            if not isinstance(cause, CuridaskError):
                cause.add_note(f"in {self.graph[failed].label}")
            raise cause
        raise self.failures[failed] from cause

    # --- the executor ------------------------------------------------------------------------------------------------
    def _running(self) -> Executor:
        if self._executor is None:
            self._executor = self._make_executor()
            for listener in self._listeners:
                listener.started_executor(self._executor.description)
        return self._executor

    def close(self, *, now: bool = False) -> None:
        """End the executor."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close(now=now)
            for text in executor.warnings():
                self._warn(text)

    def _carry_out(self, instructions: Iterable[runstate.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case runstate.Submit(tasks):
                    self._submit(tasks)
                case runstate.Release(tasks):
                    self._release(tasks)
                case runstate.Replan(tasks):
                    self.demand(tasks)
                case runstate.Block(tasks):
                    self._tell_blocked(tasks)
                case runstate.GiveUp(task):
                    self._give_up(task)
                case runstate.Reduce() | runstate.Cancel():
                    self._turn(instruction)

    def _release(self, tasks: Iterable[int]) -> None:
        if self._executor is not None:
            self._executor.release(tasks)

    def _turn(self, instruction: runstate.Reduce | runstate.Cancel) -> None:
        match instruction:
            case runstate.Reduce(task):
                self._reduce(task)
            case runstate.Cancel():
                self.close(now=True)

    def _reduce(self, aggregate: int) -> None:
        """Plan an aggregate over the records that are left, and what depends on it, instead of what was planned."""
        if self.state.status.get(aggregate) is Status.REPLACED:
            return
        made = self.reduce(aggregate, self.has_failed, self._replaced.__contains__)
        if made is None:
            self._carry_out(self.state.handle(runstate.Hopeless(aggregate)))
            return
        task = self.graph[aggregate]
        left = {g.record.index for g in self.graph[made[aggregate]].gathered}
        lost = [g.record.label for g in task.gathered if g.record.index not in left]
        self._warn(
            f"{task.label} runs over {len(left)} of {len(task.gathered)} records, since "
            f"{', '.join(lost[:5])}{f' and {len(lost) - 5} more' if len(lost) > 5 else ''} failed"
        )
        wanted = [old for old in made if self.state.status.get(old) in UNDER_WAY]
        ends = [made[old] for old in wanted if not any(d in wanted for d in self.graph.dependents[old])]
        self._replaced.update(made)
        self._tell_blocked(wanted)
        self.demand(ends, keep=[new for old, new in made.items() if old in self.state.kept])
        self._carry_out(self.state.handle(runstate.Replaced(tuple(made))))

    def _tell_blocked(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            for listener in self._listeners:
                listener.blocked(self.graph[task])

    def _submit(self, tasks: Sequence[int]) -> None:
        jobs = [self._job(self.graph[task]) for task in tasks]
        self._running().submit(jobs, {job.id: self._to_wait_for(job) for job in jobs})

    def _to_wait_for(self, job: Job) -> list[int]:
        """The tasks whose jobs this one must be chained to: those that run still, and those that hold values."""
        passed = job.passed
        status = self.state.status
        return [t for t in self.graph.dependencies[job.id] if t in passed or status.get(t) is Status.SUBMITTED]

    def _take(self, outcomes: Iterable[Outcome]) -> None:
        events = []
        for outcome in outcomes:
            if self.state.status.get(outcome.task) is not Status.SUBMITTED:
                continue  # a late word about a task that was blocked meanwhile
            self.tell_once(outcome.warnings)
            task = self.graph[outcome.task]
            events.append(self._event(task, outcome))
            if isinstance(events[-1], runstate.Finished | runstate.Failed):
                self._tell_ended(task, outcome)
        self._carry_out(self.state.handle(*events))

    def _event(self, task: Task, outcome: Outcome) -> runstate.Event:
        match outcome.kind:
            case Kind.DONE | Kind.FOUND:
                self._damaged.difference_update(stem for stem in task.stems if stem is not None)
                return runstate.Finished(task.id)
            case Kind.FAILED:
                self._record_failure(task, outcome)
                return runstate.Failed(task.id)
            case Kind.INPUT_LOST:
                self._mark_damaged(outcome.lost)
                return runstate.InputLost(task.id, outcome.lost)
            case Kind.INPUT_UNAVAILABLE:
                return runstate.InputUnavailable(task.id)
            case Kind.HELD:
                if self._waiting is not None and outcome.held is not None:
                    self._waiting.add(task, outcome.held)
                    self._tell_waiting(task, outcome.held.holder)
                return runstate.HeldElsewhere(task.id)

    def _tell_ended(self, task: Task, outcome: Outcome) -> None:
        self._longest[task.spec.name] = max(outcome.seconds, self._longest.get(task.spec.name, 0.0))
        for listener in self._listeners:
            listener.ended(task, outcome)

    def _mark_damaged(self, lost: Iterable[int]) -> None:
        for task in lost:
            self._damaged.update(stem for stem in self.graph[task].stems if stem is not None)

    def _record_failure(self, task: Task, outcome: Outcome) -> None:
        error = outcome.error or ErrorInfo("Error", "the stage failed without a word")
        if isinstance(error.exception, CacheError) and error.exception.kind in OUTAGES:
            expect_outage(error.exception.where)
        self._errors[task.id] = error
        self.failures[task.id] = StageFailedError(
            f"{error.type}: {error.message}",
            where=task.label + (f" on {outcome.worker}" if outcome.worker else ""),
            fix=error.fix,
            stage=task.spec.name,
            set_name=task.record.name,
            worker=outcome.worker,
            traceback_text=error.traceback_text,
            output=error.output,
        )

    def _give_up(self, task: int) -> None:
        error = ErrorInfo(
            "ArtifactMissingError",
            "its inputs were lost each time they were made",
            fix="look for something that changes or removes files of the cache while the run goes on",
        )
        outcome = Outcome(task, Kind.FAILED, error=error)
        self._record_failure(self.graph[task], outcome)
        self._tell_ended(self.graph[task], outcome)
        self._carry_out(self.state.handle(runstate.Failed(task)))

    def tell_once(self, texts: Iterable[str]) -> None:
        """Warn of what several workers may have noticed, each for itself."""
        for text in texts:
            if text not in self._told:
                self._told.add(text)
                self._warn(text)

    def _warn(self, text: str) -> None:
        for listener in self._listeners:
            listener.warned(text)

    # --- what stages say ---------------------------------------------------------------------------------------------
    def hear(self, spoken: Spoken) -> None:
        """Pass on what a stage said; from any thread."""
        task = self.graph[spoken.task] if 0 <= spoken.task < len(self.graph) else None
        if spoken.kind == WARNING:
            self._warn(spoken.text)
        elif spoken.kind == LOG:
            log_again(task, spoken)
        else:
            for hearer in self.hearers:
                with contextlib.suppress(OSError, ValueError):  # nobody reads our output any more
                    hearer.said(task, spoken)

    def before_print(self) -> None:
        """Let displays make room for what a stage prints."""
        for hearer in self.hearers:
            hearer.before_print()

    # --- jobs --------------------------------------------------------------------------------------------------------
    def _job(self, task: Task) -> Job:
        outputs = tuple(self._output(task, index) for index in range(len(task.outputs)))
        forced = task.id in self._forced
        return Job(
            id=task.id,
            key=task.key,
            spec=task.spec,
            record=task.record,
            inputs={name: self._input(ref) for name, ref in task.inputs.items()},
            gathered=tuple(
                (g.record, {name: self._input(ref) for name, ref in g.artifacts.items()}) for g in task.gathered
            ),
            kwargs=task.kwargs,
            outputs=outputs,
            marker=JobOutput("", task.marker_key, Keep.COMMIT if self.policy.writable else Keep.PASS, stem=task.marker),
            prefix=self.prefix,
            reusable=not forced and self.policy.writable and all(o.keep is Keep.COMMIT for o in outputs),
            components=task.components,
            supersedes=self._superseded.pop(task.id, -1),
            expected_seconds=self._longest.get(task.spec.name, 0.0),
        )

    def _output(self, task: Task, index: int) -> JobOutput:
        spec, ref, stem = task.outputs[index], task.ref(index), task.stems[index]
        if stem is None:
            return JobOutput(spec.name, ref.key, Keep.PASS)
        keep = Keep.COMMIT if self.policy.writable else Keep.ROUND_TRIP
        return JobOutput(spec.name, ref.key, keep, spec.cacher, stem)

    def _input(self, ref: ArtifactRef | Literal) -> Source:
        return ref if isinstance(ref, Literal) else self._source(ref)

    def _holds_values(self, task: Task) -> bool:
        return not self.policy.writable or not task.stored

    def _source(self, ref: ArtifactRef) -> Source:
        task = self.graph[ref.task]
        stem = task.stems[ref.index]
        in_store = self.policy.writable or self.state.status.get(task.id) is Status.REUSED
        if stem is None or not in_store:
            shared = self.policy.live or len(self.graph.dependents[task.id]) > 1
            return Passed(task.id, ref.index, ref.key, shared)
        return self._stored(task, ref.index, stem)

    def _stored(self, task: Task, index: int, stem: str) -> Stored:
        output, key = task.outputs[index], task.ref(index).key
        lazy = output.lazy and not output.resolve
        return Stored(task.id, output.name, stem, key, output.cacher, task.spec.name, task.record, lazy)
