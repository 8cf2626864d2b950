"""The graph, the plan with its reasons, and the run's state machine: pure functions, tested on values."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curidask.core.graph import ArtifactRef, Graph, GraphError, RecordInfo, Task
from curidask.core.planner import Action, Force, Plan, Why, plan
from curidask.core.scheduler import (
    MAX_ATTEMPTS,
    UNDER_WAY,
    Block,
    Cancel,
    Failed,
    Finished,
    Freed,
    GiveUp,
    HeldElsewhere,
    Hopeless,
    InputLost,
    InputUnavailable,
    Interrupted,
    OutputLost,
    Planned,
    Reduce,
    Release,
    Replaced,
    Replan,
    RunState,
    Status,
    Submit,
)
from curidask.core.spec import OutputSpec, StageSpec

RECORD = RecordInfo(0, "set", None, "0" * 32)


def make_task(
    number: int, before: Iterable[int] = (), *, name: str = "", stored: bool = True, n_outputs: int = 1
) -> Task:
    outputs = tuple(OutputSpec(f"out{i}") for i in range(n_outputs))
    spec = StageSpec(name or f"s{number}", print, False, (), outputs, None)
    stems = tuple(f"{number}.{i}" if stored else None for i in range(n_outputs))
    inputs = {f"in{b}": ArtifactRef(b, 0, "out0", f"key{b}") for b in before}
    return Task(number, f"key{number}", spec, RECORD, inputs, (), {}, outputs, stems, f"{number}.files", {})


def make_graph(*edges: Iterable[int], unstored: Iterable[int] = ()) -> Graph:
    """A graph of as many tasks as there are entries, each listing what the task depends on."""
    graph = Graph()
    for number, before in enumerate(edges):
        graph.add(make_task(number, before, stored=number not in set(unstored)))
    return graph


DIAMOND = ((), (0,), (0,), (1, 2))


# --- graph ------------------------------------------------------------------------------------------------------------
def test_order_puts_dependencies_first_and_keeps_chains_together() -> None:
    graph = make_graph((), (), (0,), (1,), (2,), (3,), (4, 5))
    assert graph.order([6]) == [0, 2, 4, 1, 3, 5, 6]
    assert graph.order([6], stop={2}) == [4, 1, 3, 5, 6]
    assert graph.targets() == [6]
    assert sorted(graph.descendants([0])) == [2, 4, 6]


def test_a_cycle_cannot_be_written_down() -> None:
    graph = make_graph(())
    for task in (make_task(1, [1]), make_task(1, [2]), make_task(5)):
        with pytest.raises(GraphError, match="cycle"):
            graph.add(task)


def test_deep_graphs_need_no_recursion() -> None:
    graph = make_graph((), *[(i,) for i in range(20_000)])
    assert graph.order([20_000]) == list(range(20_001))
    assert len(graph.descendants([0])) == 20_000


# --- plan -------------------------------------------------------------------------------------------------------------
def actions(made: Plan) -> str:
    return "".join(made.decisions[task].action.value[1] for task in sorted(made.decisions))  # rUn, rEuse, pRune


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], "uuuu"),
        (["3.0"], "rrre"),
        (["0.0", "1.0", "2.0", "3.0"], "rrre"),
        (["1.0"], "uuuu"),  # 1 is looked at again, since 0 runs for 2
        (["1.0", "2.0"], "reeu"),
        (["0.0"], "euuu"),
    ],
)
def test_what_is_needed_runs_and_nothing_else(present: list[str], expected: str) -> None:
    assert actions(plan(make_graph(*DIAMOND), set(present), Force(), [3])) == expected


def test_reasons() -> None:
    graph = make_graph(*DIAMOND, unstored=[1])
    made = plan(graph, {"0.0", "2.0"}, Force(), [3])
    whys = [made.decisions[t].reason.why for t in range(4)]
    assert whys == [Why.CACHED, Why.NO_CACHER, Why.CACHED, Why.NOT_CACHED]
    graph = Graph()
    graph.add(make_task(0, n_outputs=2))
    graph.add(make_task(1, n_outputs=0))
    made = plan(graph, {"0.0"}, Force(), [0, 1])
    assert str(made.decisions[0].reason) == "not all of its outputs are in the cache: out1"
    assert made.decisions[1].reason.why is Why.NO_OUTPUTS
    assert plan(graph, {"1.files"}, Force(), [1]).decisions[1].action is Action.REUSE


def test_force_reaches_dependents_through_the_graph_only() -> None:
    graph = make_graph((), (), (0,), (1,), (2, 3))
    everything = {f"{i}.0" for i in range(5)}
    made = plan(graph, everything, Force(stages=frozenset({"s0"})), [4])
    assert actions(made) == "urueu"
    assert str(made.decisions[2].reason) == "a stage before it is overwritten: s0"
    alone = plan(graph, everything, Force(stages=frozenset({"s0"})), [4], prune=False)
    assert actions(alone) == "ueeee"
    assert actions(plan(graph, everything, Force(everything=True), [4])) == "uuuuu"
    # What was forced earlier in the run is done, and still reaches what depends on it.
    later = plan(graph, everything, Force(tasks=frozenset({0})), [4], done={0})
    assert [later.decisions[t].action for t in (2, 4)] == [Action.RUN, Action.RUN]


def test_without_pruning_each_stage_decides_by_its_own_cache() -> None:
    assert actions(plan(make_graph(*DIAMOND), {"0.0", "3.0"}, Force(), [3], prune=False)) == "euue"


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.randoms(use_true_random=False))))
def test_plans_are_closed_and_minimal(case: tuple[int, random.Random]) -> None:
    n, chance = case
    graph = make_graph(*[[d for d in range(i) if chance.random() < 0.4] for i in range(n)])
    present = {f"{i}.0" for i in range(n) if chance.random() < 0.5}
    targets = graph.targets()
    decisions = plan(graph, present, Force(), targets).decisions
    runs = {t for t, d in decisions.items() if d.action is Action.RUN}
    assert set(decisions) == set(range(n))
    for task, decision in decisions.items():
        readers = [d for d in graph.dependents[task] if d in runs]
        needed = task in targets or bool(readers)
        assert (decision.action is not Action.PRUNE) == needed
        if needed and f"{task}.0" in present:  # whether it stands on what comes out of these is seen then
            assert (decision.action is Action.RUN) == any(before in runs for before in graph.dependencies[task])
        assert not (decision.action is Action.REUSE and f"{task}.0" not in present)


# --- the run's state --------------------------------------------------------------------------------------------------
class Simulation:
    """Carries out instructions as an executor would, with failures and losses in any order."""

    def __init__(
        self,
        graph: Graph,
        chance: random.Random,
        *,
        window: int,
        bad: set[int],
        lossy: bool,
        shrinking: Iterable[int] = (),
        fail_fast: bool = False,
    ) -> None:
        self.graph, self.chance, self.bad, self.lossy = graph, chance, bad, lossy
        self.shrinking = set(shrinking)
        self.stands_for: dict[int, int] = {}
        self.cancelled = False
        self.state = RunState(graph, window=window, can_shrink=self.shrinking.__contains__, fail_fast=fail_fast)
        self.flying: dict[int, str] = {}
        self.made: set[int] = set()
        self.released: set[int] = set()
        self.losses = 3 if lossy else 0
        self.claims = 4
        self.elsewhere: list[int] = []

    def demand(self, targets: Iterable[int]) -> None:
        made = plan(self.graph, set(), Force(), targets, done=self.state.status)
        self.carry_out(self.state.handle(Planned(made)))

    def carry_out(self, instructions: list[Any]) -> None:
        for instruction in instructions:
            match instruction:
                case Submit(tasks):
                    self.submit(tasks)
                case Release(tasks):
                    self.release(tasks)
                case Replan(tasks):
                    self.demand(tasks)
                case GiveUp(task):
                    self.carry_out(self.state.handle(Failed(task)))
                case Reduce(task):
                    self.reduce(task)
                case Cancel():
                    self.cancelled = True
                    self.flying.clear()
                    self.elsewhere.clear()
                case other:
                    assert isinstance(other, Block)

    def now(self, task: int) -> int:
        while task in self.stands_for:
            task = self.stands_for[task]
        return task

    def reduce(self, aggregate: int) -> None:
        """Add tasks that stand for the aggregate over what is left, and for all that depends on it."""
        status, before = self.state.status, self.graph.dependencies[aggregate]
        assert not [d for d in before if status.get(d) in UNDER_WAY], "it may still change"
        left = [d for d in before if status.get(d) not in (Status.FAILED, Status.BLOCKED)]
        assert len(left) < len(before)
        if not left:
            self.carry_out(self.state.handle(Hopeless(aggregate)))
            return
        made: dict[int, int] = {}
        after = [d for d in sorted(self.graph.descendants([aggregate])) if d not in self.stands_for]
        for old in [aggregate, *after]:
            new = made[old] = len(self.graph)
            kept = left if old == aggregate else [made.get(d, d) for d in self.graph.dependencies[old]]
            self.graph.add(make_task(new, kept))
            for group in (self.bad, self.shrinking):
                if old in group:
                    group.add(new)
        wanted = [old for old in made if status.get(old) in UNDER_WAY]
        ends = [made[old] for old in wanted if not set(self.graph.dependents[old]) & set(wanted)]
        self.stands_for.update(made)
        self.demand(ends)
        self.carry_out(self.state.handle(Replaced(tuple(made))))

    def submit(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            assert task not in self.flying
            for before in self.graph.dependencies[task]:
                assert before in self.flying or self.state.status[before] is Status.DONE
            self.flying[task] = "submitted"
            self.released.discard(task)
        # What was blocked while it was submitted still comes back, beyond the window.
        submitted = [task for task in self.flying if self.state.status[task] is Status.SUBMITTED]
        assert len(submitted) <= self.state.window

    def release(self, tasks: Iterable[int]) -> None:
        self.released.update(tasks)
        readers = [reader for task in tasks for reader in self.graph.dependents[task]]
        assert not any(self.state.status.get(reader) in UNDER_WAY for reader in readers)

    def step(self) -> None:
        """One or several jobs come to an end, in an order that keeps to the dependencies."""
        events: list[Any] = self.others()
        free = [task for task in self.flying if not self.flying.keys() & set(self.graph.dependencies[task])]
        picked = self.chance.sample(list(self.flying), k=self.chance.randint(0, len(self.flying)))
        for task in dict.fromkeys([*picked, *free[:1]]):
            if any(d in self.flying for d in self.graph.dependencies[task]):
                continue
            del self.flying[task]
            event = self.end_of(task)
            if self.state.status[task] is Status.SUBMITTED:
                events.append(event)
        self.carry_out(self.state.handle(*events))

    def end_of(self, task: int) -> Any:
        """How a job comes to its end."""
        missing = [d for d in self.graph.dependencies[task] if d not in self.made]
        if missing:
            undone = [d for d in missing if self.state.status.get(d) is not Status.DONE]
            return InputUnavailable(task) if undone else InputLost(task, tuple(missing))
        if self.claims and self.chance.random() < 0.2:
            self.claims -= 1
            self.elsewhere.append(task)
            return HeldElsewhere(task)
        if self.losses and self.graph.dependencies[task] and self.chance.random() < 0.3:
            self.losses -= 1
            lost = self.chance.choice(self.graph.dependencies[task])
            self.made.discard(lost)
            return InputLost(task, (lost,))
        if task in self.bad:
            return Failed(task)
        self.made.add(task)
        return Finished(task)

    def others(self) -> list[Any]:
        """What others were computing is made, or they give it up."""
        events = []
        for task in [t for t in self.elsewhere if not self.flying or self.chance.random() < 0.5]:
            self.elsewhere.remove(task)
            if self.state.status[task] is not Status.HELD:
                continue
            if task not in self.bad and self.chance.random() < 0.5:
                self.made.add(task)
                events.append(Finished(task))
            else:
                events.append(Freed(task))
        return events


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 14), st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_every_run_comes_to_its_end(n: int, chance: random.Random, window: int, lossy: bool) -> None:
    graph = make_graph(*[[d for d in range(i) if chance.random() < 0.3] for i in range(n)])
    bad = {i for i in range(n) if chance.random() < 0.15}
    run = Simulation(graph, chance, window=window, bad=bad, lossy=lossy)
    run.demand(graph.targets())
    for _ in range(500):
        if not run.flying and not run.elsewhere:
            break
        run.step()
    assert not run.state.unsettled(range(n))
    assert run.state.in_flight == 0
    spoiled = bad | set(graph.descendants(bad))
    done = {t for t, s in run.state.status.items() if s is Status.DONE}
    assert not done & spoiled
    if not lossy:
        assert done == set(range(n)) - spoiled
        assert {t for t in done if graph.dependents[t]} <= run.released


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_aggregates_go_on_over_what_is_left(n: int, chance: random.Random, window: int, lossy: bool) -> None:
    graph = make_graph(*[[d for d in range(i) if chance.random() < 0.3] for i in range(n)])
    bad = {i for i in range(n) if chance.random() < 0.25}
    shrinking = {i for i in range(n) if graph.dependencies[i] and chance.random() < 0.5}
    edges = list(graph.dependencies)
    is_lost: dict[int, bool] = {}
    for i in range(n):
        lost_before = [is_lost[d] for d in edges[i]]
        is_lost[i] = i in bad or (all(lost_before) if i in shrinking else any(lost_before))
    run = Simulation(graph, chance, window=window, bad=bad, lossy=lossy, shrinking=shrinking)
    run.demand(graph.targets())
    for _ in range(2000):
        if not run.flying and not run.elsewhere:
            break
        run.step()
    assert not run.state.unsettled(range(len(graph)))
    assert run.state.in_flight == 0
    done = {i for i in range(n) if run.state.status.get(run.now(i)) is Status.DONE}
    if lossy:
        assert done <= {i for i in range(n) if not is_lost[i]}
    else:
        assert done == {i for i in range(n) if not is_lost[i]}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 14), st.randoms(use_true_random=False), st.integers(1, 6))
def test_the_first_failure_can_end_it_all(n: int, chance: random.Random, window: int) -> None:
    graph = make_graph(*[[d for d in range(i) if chance.random() < 0.3] for i in range(n)])
    bad = {i for i in range(n) if chance.random() < 0.3}
    run = Simulation(graph, chance, window=window, bad=bad, lossy=False, fail_fast=True)
    run.demand(graph.targets())
    for _ in range(500):
        if not run.flying and not run.elsewhere:
            break
        run.step()
    assert not run.state.unsettled(range(n))
    failed = [t for t, s in run.state.status.items() if s is Status.FAILED]
    assert run.cancelled == run.state.is_stopped == bool(failed)
    if run.cancelled:
        run.demand(graph.targets())  # what is wanted later does not start anything
        assert not run.flying


def test_an_aggregate_waits_for_the_last_of_its_records_before_it_shrinks() -> None:
    graph = make_graph((), (), (), (0, 1, 2), (3,))
    state = RunState(graph, window=8, can_shrink={3}.__contains__)
    state.handle(Planned(plan(graph, set(), Force(), [4])))
    assert state.handle(Failed(0)) == []
    assert state.handle(Finished(1)) == []
    assert state.handle(InputUnavailable(3)) == []
    assert state.handle(Finished(2)) == [Reduce(3)]
    graph.add(make_task(5, (1, 2)))
    graph.add(make_task(6, (5,)))
    assert state.handle(Planned(plan(graph, set(), Force(), [6], done=state.status))) == [Submit((5, 6))]
    assert state.handle(Replaced((3, 4))) == []
    assert [state.status[t] for t in (3, 4)] == [Status.REPLACED] * 2
    assert state.handle(Finished(5)) == [Release((1, 2))]
    assert not state.unsettled(range(5))


def test_an_aggregate_does_not_shrink_while_one_of_its_records_is_made_again() -> None:
    graph = make_graph((), (), (0,), (0, 1))
    state = RunState(graph, window=8, can_shrink={3}.__contains__)
    state.handle(Planned(plan(graph, set(), Force(), [2, 3])))
    state.handle(Finished(0))
    one_report = (InputLost(2, (0,)), Failed(1), InputUnavailable(3))
    assert state.handle(*one_report) == [Replan((0,))]
    state.handle(Planned(plan(graph, set(), Force(), [0], done=state.status)))
    assert state.handle(Finished(0))[-1] == Reduce(3)


def test_an_artifact_that_keeps_getting_lost_ends_in_a_failure() -> None:
    graph = make_graph((), (0,))
    state = RunState(graph, window=4)
    instructions = state.handle(Planned(plan(graph, {"0.0"}, Force(), [1])))
    assert instructions == [Submit((1,))]
    for _ in range(MAX_ATTEMPTS - 1):
        assert Replan((0,)) in state.handle(InputLost(1, (0,)))
        replanned = plan(graph, set(), Force(), [0], done=state.status)
        assert state.handle(Planned(replanned)) == [Submit((0, 1))]
        state.handle(Finished(0))
    assert state.handle(InputLost(1, (0,)))[0] == GiveUp(1)


def test_a_task_waits_for_a_stage_whose_files_it_lost_although_it_reads_no_output_of_it() -> None:
    graph = make_graph((), (0,), (1,))
    state = RunState(graph, window=4)
    assert state.handle(Planned(plan(graph, {"1.0"}, Force(), [2]))) == [Submit((2,))]
    assert state.handle(InputLost(2, (0,))) == [Replan((0,))]
    assert state.handle(Planned(plan(graph, set(), Force(), [0], done=state.status))) == [Submit((0,))]
    assert state.handle(Finished(0))[-1] == Submit((2,))


def test_values_stay_for_readers_and_for_live_sessions() -> None:
    graph = make_graph((), (0,), (0,), unstored=[0, 1, 2])
    state = RunState(graph, window=8)
    state.handle(Planned(plan(graph, set(), Force(), [1, 2])))
    assert state.handle(Finished(0)) == []
    assert state.handle(Finished(1)) == []
    assert state.handle(Finished(2)) == [Release((0,))]
    kept = RunState(graph, window=8)
    kept.handle(Planned(plan(graph, set(), Force(), [1, 2]), keep=frozenset({0})))
    assert [kept.handle(Finished(t)) for t in range(3)] == [[], [], []]
    assert kept.handle(OutputLost(1)) == [Replan((1,))]


def test_interrupt_cancels_and_submits_no_more() -> None:
    graph = make_graph(*[()] * 5)
    state = RunState(graph, window=2)
    state.handle(Planned(plan(graph, set(), Force(), range(5))))
    assert state.handle(Interrupted()) == [Cancel()]
    assert state.handle(Finished(0)) == []
    assert not state.unsettled(range(5))


def test_the_window_bounds_what_is_in_flight() -> None:
    graph = make_graph(*[()] * 100)
    state = RunState(graph, window=8)
    (first,) = state.handle(Planned(plan(graph, set(), Force(), range(100))))
    assert first == Submit(tuple(range(8)))
    assert state.handle(Finished(0)) == []  # a quarter of the window is worth a message
    assert state.handle(Finished(1)) == [Submit((8, 9))]
