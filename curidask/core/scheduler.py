"""The state of a run as a machine: ``handle(event)`` gives instructions, and nothing else changes anything.

The machine knows no clock, no file and no worker. The runner carries out its instructions and feeds it what the
executor reports, so whatever order the reports come in can be tested by writing that order down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from curidask.core.graph import Graph
from curidask.core.planner import Action, Plan


# --- what a run's state machine is told, and what it says is to be done ----------------------------------------------
# --- events ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was made; its RUN tasks are to be carried out.

    `keep` names tasks whose values are to be read from outside, so they stay when their last dependent is done.
    """

    plan: Plan
    keep: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Finished:
    """The task's outputs are there, computed now or found made by somebody else."""

    task: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised."""

    task: int


@dataclass(frozen=True, slots=True)
class InputLost:
    """The task did not run: what these tasks had made is gone or damaged."""

    task: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InputUnavailable:
    """The task did not run because a task before it in the same submission did not finish."""

    task: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The executor could not take these tasks, and raised."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """The task did not run because somebody else is computing it."""

    task: int


@dataclass(frozen=True, slots=True)
class Freed:
    """Whoever was computing the task has given up or died."""

    task: int


@dataclass(frozen=True, slots=True)
class OutputLost:
    """What a finished task had made is gone or damaged, noticed by a reader outside of the run's tasks."""

    task: int


@dataclass(frozen=True, slots=True)
class ReadingEnded:
    """Nobody outside of the run's tasks reads values any more."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Others were planned in the place of these tasks: an aggregate over fewer records, and what depends on it."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Of what an aggregate gathers, nothing is left."""

    task: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user wants the run to end now."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """After an interrupt, more is to be made; what was held in memory is gone."""


Event = (
    Planned
    | Finished
    | Failed
    | ReadingEnded
    | InputLost
    | InputUnavailable
    | Refused
    | HeldElsewhere
    | Freed
    | OutputLost
    | Replaced
    | Hopeless
    | Interrupted
    | Resumed
)


# --- instructions ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Submit:
    """Hand these tasks to the executor, in this order; what they depend on is available or submitted before them."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing will read the values of these tasks any more."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replan:
    """Plan these tasks anew: their artifacts are gone although a plan counted on them."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """These tasks will not run, since one they depend on failed."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task was tried too often while its inputs kept getting lost: report it as failed."""

    task: int


@dataclass(frozen=True, slots=True)
class Reduce:
    """Plan another aggregate in the place of this one: over the records of which nothing has failed.

    One that was replaced meanwhile, with another that it depends on, stays replaced.
    """

    task: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop everything that is submitted."""


Instruction = Submit | Release | Replan | Block | GiveUp | Reduce | Cancel


# --- scheduler -------------------------------------------------------------------------------------------------------
MAX_ATTEMPTS = 3
"""How often a task is submitted before an artifact that keeps getting lost is called a failure."""


class Status(Enum):
    """Where a task stands."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    HELD = "held"
    DONE = "done"
    REUSED = "reused"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    REPLACED = "replaced"


UNDER_WAY = frozenset({Status.WAITING, Status.SUBMITTED, Status.HELD})
AVAILABLE = frozenset({Status.DONE, Status.REUSED})
LOST = frozenset({Status.FAILED, Status.BLOCKED})
SETTLED = AVAILABLE | LOST | {Status.CANCELLED, Status.REPLACED}


class RunState:
    """The machine.

    Parameters
    ----------
    graph : Graph
        Grows while the experiment is traced; the machine reads dependencies and dependents from it.
    window : int
        How many tasks may be submitted and unfinished at a time. It bounds the memory of the driver and of the
        scheduler whatever the size of the experiment.
    keep_values : bool
        Keep the values of outputs that are not stored until reading has ended, since any of them may be read.
    in_memory : callable
        Tells of a task whether its values are held in memory only. Once released, such a task counts as never run: who
        wants its values again plans it again.
    can_shrink : callable
        Tells of a task whether it is an aggregate that may do with fewer records when some have failed.
    fail_fast : bool
        Stop at the first failure.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        window: int,
        keep_values: bool = False,
        in_memory: Callable[[int], bool] = lambda task: False,
        can_shrink: Callable[[int], bool] = lambda task: False,
        fail_fast: bool = False,
    ) -> None:
        self.graph = graph
        self.window = window
        self.keep_values = keep_values
        self.in_memory = in_memory
        self.can_shrink = can_shrink
        self.fail_fast = fail_fast
        self.status: dict[int, Status] = {}
        self.in_flight = 0
        self._queue: deque[int] = deque()
        self._parked: dict[int, list[int]] = {}
        self._readers: dict[int, int] = {}
        self._attempts: dict[int, int] = {}
        self._awaited: dict[int, tuple[int, ...]] = {}
        self.kept: set[int] = set()
        self.is_stopped = False
        self._spoiled: dict[int, None] = {}
        self._is_reducing = False

    def unsettled(self, tasks: Iterable[int]) -> list[int]:
        """Those of the tasks to which something will still happen (to a pruned one nothing will)."""
        return [task for task in tasks if self.status.get(task, Status.REUSED) not in SETTLED]

    def handle(self, *events: Event) -> list[Instruction]:
        """Take in what happened, all of it before anything new is submitted; return what is to be done, in this order.

        Race: B was submitted behind A, both came back undone in one report. Were B submitted again before A's event is
        taken in, it would be chained to an A that has ended.
        """
        instructions = [i for event in events if not self._comes_too_late(event) for i in self._take(event)]
        leading_on: list[Instruction] = [i for i in instructions if isinstance(i, Replan | GiveUp)]
        rest = [i for i in instructions if not isinstance(i, Replan | GiveUp)]
        leading_on = leading_on or self._reduce()
        # These lead to events of their own, which submit. So they come last: what they plan anew must be released by
        # then, and nothing may be submitted behind tasks that the caller has not seen yet.
        return rest + (leading_on or self._fill())

    def _comes_too_late(self, event: Event) -> bool:
        """Whether it would set something going again after the run was stopped, maybe by one before it in a report."""
        return self.is_stopped and isinstance(event, InputLost | HeldElsewhere | Freed)

    def _take(self, event: Event) -> list[Instruction]:
        match event:
            case Planned(plan, keep):
                self.kept |= keep
                return self._planned(plan)
            case Finished(task):
                return self._finished(task)
            case Failed(task):
                return self._failed(task)
            case InputLost(task, lost):
                return self._input_lost(task, lost)
            case InputUnavailable(task):
                return self._input_unavailable(task)
            case HeldElsewhere(task) | Freed(task) | OutputLost(task):
                return self._moved(event, task)
            case Refused() | Replaced() | Hopeless() | Interrupted() | Resumed() | ReadingEnded():
                return self._decided(event)

    # --- one method an event ---------------------------------------------------------------------------------------
    def _planned(self, plan: Plan) -> list[Instruction]:
        runs = plan.ids(Action.RUN)
        for task in plan.ids(Action.REUSE):
            self.status[task] = Status.REUSED
        fresh = [task for task in runs if self.status.get(task) not in UNDER_WAY]
        if self.is_stopped:
            self.status.update(dict.fromkeys(fresh, Status.CANCELLED))
            return []
        for task in fresh:
            self.status[task] = Status.WAITING
            for before in self.graph.dependencies[task]:
                self._readers[before] = self._readers.get(before, 0) + 1
        self._queue.extend(fresh)
        return self._spoil([task for task in fresh if self._has_failed_dependency(task)])

    def _finished(self, task: int) -> list[Instruction]:
        self._leave_flight(task, Status.DONE)
        self._queue.extend(self._parked.pop(task, ()))  # when somebody else made it, it was not submitted again
        released = self._done_reading(task)
        if self._is_unread(task) and self.graph.dependents[task]:
            released.append(task)
        return self._release(released)

    def _failed(self, task: int) -> list[Instruction]:
        self._leave_flight(task, Status.FAILED)
        instructions = self._release(self._done_reading(task)) + self._spoil(self.graph.dependents[task])
        return instructions + self._interrupt() if self.fail_fast and not self.is_stopped else instructions

    def _input_lost(self, task: int, lost: tuple[int, ...]) -> list[Instruction]:
        self._leave_flight(task, Status.WAITING)
        attempts = self._attempts[task] = self._attempts.get(task, 0) + 1
        if attempts >= MAX_ATTEMPTS:
            return [GiveUp(task)]
        self._queue.appendleft(task)
        # What an earlier stage wrote may be lost, of which it reads no output.
        self._awaited[task] = tuple(t for t in lost if t not in self.graph.dependencies[task])
        gone = tuple(t for t in lost if self.status.get(t) not in UNDER_WAY)
        for t in gone:
            self.status.pop(t, None)
        return [Replan(gone)] if gone else []

    def _input_unavailable(self, task: int) -> list[Instruction]:
        # Race: B was submitted behind A in one batch; A came back as lost-input (it will run again) or as failed (B was
        # blocked by that event already). Only in the first case B goes back into the queue.
        if self.status.get(task) is Status.SUBMITTED:
            self._leave_flight(task, Status.WAITING)
            if task not in self._spoiled:
                self._queue.append(task)
        return []

    def _refused(self, tasks: tuple[int, ...]) -> list[Instruction]:
        """They, and what was to follow, count as never asked for: whoever asks again is told again."""
        for task in tasks:
            self._leave_flight(task, Status.WAITING)
        for task in (*tasks, *self.graph.descendants(tasks)):
            if self.status.get(task) is Status.WAITING:
                self.status.pop(task)
        return []

    def _moved(self, event: Event, task: int) -> list[Instruction]:
        """What became of the task was decided outside of this run."""
        if isinstance(event, OutputLost):
            self.status.pop(task, None)
            return [Replan((task,))]
        if isinstance(event, HeldElsewhere):
            self._leave_flight(task, Status.HELD)
        elif self.status.get(task) is Status.HELD:
            self.status[task] = Status.WAITING
            self._queue.appendleft(task)
        return []

    def _decided(
        self, event: Refused | Replaced | Hopeless | Interrupted | Resumed | ReadingEnded
    ) -> list[Instruction]:
        """What becomes of tasks was decided without them."""
        match event:
            case Refused(tasks):
                return self._refused(tasks)
            case Replaced(tasks):
                self._is_reducing = False
                return self._replaced(tasks)
            case Hopeless(task):
                self._is_reducing = False
                return self._spoil([task], is_hopeless=True)
            case Interrupted():
                return self._interrupt()
            case Resumed():
                return self._resumed()
            case ReadingEnded():
                return self._reading_ended()

    def _resumed(self) -> list[Instruction]:
        self.is_stopped = self._is_reducing = False
        for held in (self._parked, self._readers, self._attempts, self._awaited, self._spoiled):
            held.clear()
        for task, status in list(self.status.items()):
            if status is Status.CANCELLED or (status in AVAILABLE and self.in_memory(task)):
                del self.status[task]
        return []

    def _reading_ended(self) -> list[Instruction]:
        self.keep_values = False
        self.kept.clear()
        there = [task for task, status in self.status.items() if status in AVAILABLE]
        return self._release([task for task in there if self._is_unread(task) and self.graph.dependents[task]])

    def _interrupt(self) -> list[Instruction]:
        self.is_stopped = True
        self._queue.clear()
        for task, status in self.status.items():
            if status in UNDER_WAY:
                self.status[task] = Status.CANCELLED
        self.in_flight = 0
        return [Cancel()]

    def _replaced(self, tasks: tuple[int, ...]) -> list[Instruction]:
        released: list[int] = []
        for task in tasks:
            under_way = self.status.get(task) in UNDER_WAY
            self._leave_flight(task, Status.REPLACED)
            if under_way:
                released.extend(self._done_reading(task))
        return self._release(released)

    # --- parts -----------------------------------------------------------------------------------------------------
    def _leave_flight(self, task: int, status: Status) -> None:
        if self.status.get(task) is Status.SUBMITTED:
            self.in_flight -= 1
        self.status[task] = status

    def _done_reading(self, task: int) -> list[int]:
        """The dependencies of the task that it was the last reader of."""
        released = []
        for before in self.graph.dependencies[task]:
            self._readers[before] = max(self._readers.get(before, 0) - 1, 0)
            if self._is_unread(before) and self.status.get(before) in AVAILABLE:
                released.append(before)
        return released

    def _is_unread(self, task: int) -> bool:
        return not self.keep_values and task not in self.kept and not self._readers.get(task)

    def _has_failed_dependency(self, task: int) -> bool:
        return any(self.status.get(d) in LOST for d in self.graph.dependencies[task])

    def _spoil(self, tasks: Iterable[int], *, is_hopeless: bool = False) -> list[Instruction]:
        """Block these tasks and what depends on them, up to aggregates that may do with fewer records."""
        blocked: dict[int, None] = {}
        spoiled: dict[int, None] = {}
        stack = list(tasks)
        while stack:
            task = stack.pop()
            if task in blocked or task in spoiled:
                continue
            if self.can_shrink(task) and not (is_hopeless and not blocked):
                spoiled[task] = None
                continue
            blocked[task] = None
            stack.extend(self.graph.dependents[task])
        self._spoiled.update(spoiled)
        return self._block(blocked)

    def _reduce(self) -> list[Instruction]:
        """Replace a spoiled aggregate to which nothing more will happen than has.

        One at a time, and only when nothing else leads on: what is planned for one may set going again what another
        gathers.
        """
        if self._is_reducing:
            return []
        for task in self._spoiled:
            waits = any(self.status.get(d) in UNDER_WAY for d in self.graph.dependencies[task])
            if self.status.get(task) is Status.WAITING and not waits:
                del self._spoiled[task]
                self._is_reducing = True
                return [Reduce(task)]
        return []

    def _block(self, tasks: Iterable[int]) -> list[Instruction]:
        blocked = []
        released: list[int] = []
        for task in tasks:
            if self.status.get(task) in UNDER_WAY:
                self._leave_flight(task, Status.BLOCKED)
                blocked.append(task)
                released.extend(self._done_reading(task))
        instructions: list[Instruction] = [Block(tuple(blocked))] if blocked else []
        return instructions + self._release(released)

    def _release(self, tasks: list[int]) -> list[Instruction]:
        for task in tasks:
            if self.in_memory(task):
                self.status.pop(task, None)
        return [Release(tuple(tasks))] if tasks else []

    def _fill(self) -> list[Instruction]:
        """Submit what may be submitted, up to the window."""
        if self.is_stopped:
            return []
        # Refilling one by one would make a graph message of each; a quarter of the window is worth one.
        if self.in_flight and self.window - self.in_flight < max(1, self.window // 4):
            return []
        batch = []
        while self._queue and self.in_flight < self.window:
            task = self._queue.popleft()
            if self.status.get(task) is not Status.WAITING:
                continue
            before = self._not_ready(task)
            if before is not None:
                self._parked.setdefault(before, []).append(task)
                continue
            self.status[task] = Status.SUBMITTED
            self.in_flight += 1
            batch.append(task)
            self._queue.extendleft(reversed(self._parked.pop(task, [])))
        return [Submit(tuple(batch))] if batch else []

    def _not_ready(self, task: int) -> int | None:
        ready = (Status.SUBMITTED, Status.DONE, Status.REUSED)
        awaited = (t for t in self._awaited.get(task, ()) if self.status.get(t) in UNDER_WAY)
        return next((d for d in self.graph.dependencies[task] if self.status.get(d) not in ready), next(awaited, None))
