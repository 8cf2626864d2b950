"""What `curidask cache gc` would remove: a pure plan over any cache, any runs and any policy."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curidask.store.maintenance.gc import Plan, Policy, plan_gc
from curidask.store.maintenance.inventory import Entry, Inventory
from curidask.store.maintenance.usage import LEASE_SECONDS, Use
from curidask.store.manifest import FileEntry, Manifest

NOW = 1_800_000_000.0
DAY = 86400.0


def entry(name: str, *, age: float = 0.0, size_bytes: int = 10, shares: str = "") -> Entry:
    """An artifact of some age; `shares` names a file beside it that others may have too."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    tracked = (FileEntry(shares, 100, sha256),) if shares else ()
    created = datetime.fromtimestamp(NOW - age, UTC).isoformat()
    manifest = Manifest(
        key=sha256,
        stem=name,
        prefix="exp",
        stage="s",
        output="o",
        params_hash="h",
        files=(FileEntry(".json", size_bytes, sha256),),
        tracked=tracked,
        created=created,
    )
    return Entry(name, manifest, (name + ".json",))


def run(
    id_: str,
    stems: str,
    *,
    age: float,
    ended: bool = True,
    experiment: str = "exp",
    reference: str = "",
    lasted: float = 0,
) -> Use:
    """A run that was last seen some time ago."""
    seen = NOW - age
    return Use(
        id_,
        reference=reference or id_,
        experiment=experiment,
        started=seen - lasted,
        seen=seen,
        ended=ended,
        stems=set(stems),
    )


def removed(plan: Plan) -> str:
    return "".join(sorted(doomed.entry.stem for doomed in plan.remove))


ABC = Inventory([entry("a", age=50 * DAY), entry("b", age=20 * DAY), entry("c", age=2 * DAY)])


def test_without_a_policy_nothing_goes() -> None:
    assert removed(plan_gc(ABC, [run("r", "a", age=DAY)], Policy(), NOW)) == ""


def test_unused_counts_from_the_last_use() -> None:
    assert removed(plan_gc(ABC, [], Policy(unused_seconds=30 * DAY), NOW)) == "a"
    assert removed(plan_gc(ABC, [run("r", "a", age=5 * DAY)], Policy(unused_seconds=30 * DAY), NOW)) == ""
    assert removed(plan_gc(ABC, [run("r", "a", age=40 * DAY)], Policy(unused_seconds=10 * DAY), NOW)) == "ab"


def test_grace_holds_what_any_policy_would_remove() -> None:
    uses = [run("r", "b", age=DAY / 2)]
    plan = plan_gc(ABC, uses, Policy(unused_seconds=0, max_bytes=0, grace_seconds=3 * DAY), NOW)
    assert removed(plan) == "a"
    assert plan.protected == {"within the grace period": 2}


def test_the_last_runs_of_each_experiment_are_kept() -> None:
    uses = [
        run("old", "a", age=40 * DAY),
        run("new", "b", age=5 * DAY),
        run("other", "c", age=40 * DAY, experiment="other"),
    ]
    assert removed(plan_gc(ABC, uses, Policy(keep_runs=1), NOW)) == "a"
    assert removed(plan_gc(ABC, uses, Policy(keep_runs=2), NOW)) == ""
    assert removed(plan_gc(ABC, uses, Policy(keep_runs=0), NOW)) == "abc"
    assert removed(plan_gc(ABC, uses, Policy(unused_seconds=3 * DAY, keep_runs=1), NOW)) == "a"


def test_keeping_runs_alone_does_not_judge_what_no_run_named() -> None:
    assert removed(plan_gc(ABC, [run("r", "b", age=10 * DAY)], Policy(keep_runs=0), NOW)) == "b"


def test_a_run_that_was_copied_here_twice_is_one_of_the_last_runs() -> None:
    copies = [run(f"copy{i}", "b", age=i * DAY, reference="new") for i in (2, 3)]
    assert removed(plan_gc(ABC, [*copies, run("old", "a", age=40 * DAY)], Policy(keep_runs=2), NOW)) == ""


def test_a_run_that_died_holds_its_artifacts_for_its_lease_only() -> None:
    policy = Policy(unused_seconds=0, grace_seconds=0)
    alive, dead = (run("r", "abc", age=LEASE_SECONDS * x, ended=False) for x in (0.9, 1.1))
    assert removed(plan_gc(ABC, [alive], policy, NOW)) == ""
    assert removed(plan_gc(ABC, [dead], policy, NOW)) == "abc"


def test_the_least_recently_used_go_until_it_fits() -> None:
    uses = [run("r", "a", age=3 * DAY)]
    plan = plan_gc(ABC, uses, Policy(max_bytes=20), NOW)
    assert (removed(plan), plan.total_bytes, plan.left_bytes) == ("b", 30, 20)
    assert removed(plan_gc(ABC, uses, Policy(max_bytes=10), NOW)) == "ab"
    assert removed(plan_gc(ABC, uses, Policy(max_bytes=30), NOW)) == ""


def test_files_that_several_artifacts_share_count_once() -> None:
    shared = Inventory([entry("a", age=9 * DAY, shares="z/files"), entry("b", age=8 * DAY, shares="z/files")])
    plan = plan_gc(shared, [], Policy(unused_seconds=8.5 * DAY), NOW)
    assert (plan.total_bytes, plan.left_bytes) == (120, 110)


def test_what_cannot_be_read_is_as_old_as_can_be() -> None:
    damaged = Inventory([Entry("a", None, ("a.json",), "damaged: …")])
    assert removed(plan_gc(damaged, [], Policy(unused_seconds=30 * DAY), NOW)) == "a"
    assert removed(plan_gc(damaged, [run("r", "a", age=DAY)], Policy(unused_seconds=30 * DAY), NOW)) == ""


def test_halves_of_commits_go_when_all_runs_that_could_be_making_them_are_over() -> None:
    halves = Inventory([], {"a": ("a.pkl",), "b": ("b.pkl",), "unknown": ("unknown.pkl",)})
    uses = [run("dead", "ab", age=9 * DAY, ended=False), run("young", "b", age=DAY / 2)]
    plan = plan_gc(halves, uses, Policy(), NOW)
    assert plan.halves == {"a": ("a.pkl",)}


def test_runs_of_which_nothing_is_left_are_forgotten() -> None:
    uses = [run("gone", "x", age=9 * DAY), run("old", "a", age=60 * DAY), run("young", "y", age=DAY / 2)]
    assert plan_gc(ABC, uses, Policy(), NOW).runs == ["gone"]
    assert plan_gc(ABC, uses, Policy(unused_seconds=30 * DAY), NOW).runs == ["gone", "old"]
    assert plan_gc(ABC, uses, Policy(unused_seconds=30 * DAY, keep_runs=3), NOW).runs == []


# --- any cache, any runs, any policy ---------------------------------------------------------------------------------
NAMES = "abcdefgh"
AGES = st.one_of(
    st.sampled_from([0.0, LEASE_SECONDS - 1, LEASE_SECONDS, DAY, DAY - 1, 30 * DAY, 30 * DAY + 1]),
    st.floats(0, 90 * DAY),
)
INVENTORIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(NAMES),
        age=AGES,
        size_bytes=st.integers(0, 1000),
        shares=st.sampled_from(["", "s/1", "s/2"]),
    ),
    unique_by=lambda one: one.stem,
).map(Inventory)
USES = st.lists(
    st.builds(
        run,
        st.uuids().map(str),
        st.text(NAMES, max_size=5),
        age=AGES,
        ended=st.booleans(),
        experiment=st.sampled_from(["exp", "other"]),
        reference=st.sampled_from(["", "r1", "r2"]),
        lasted=st.floats(0, 3 * DAY),
    ),
    max_size=6,
    unique_by=lambda use: use.id,
)
POLICIES = st.builds(
    Policy,
    unused_seconds=st.none() | AGES,
    keep_runs=st.none() | st.integers(0, 4),
    max_bytes=st.none() | st.integers(0, 3000),
    grace_seconds=AGES,
)


@given(INVENTORIES, USES, POLICIES)
def test_nothing_goes_that_somebody_needs(inventory: Inventory, uses: list[Use], policy: Policy) -> None:
    plan = plan_gc(inventory, uses, policy, NOW)
    gone = set(removed(plan))
    young = NOW - policy.grace_seconds
    assert not any(gone & use.stems for use in uses if use.is_active(NOW))
    assert not any(gone & use.stems for use in uses if use.seen > young)
    assert not any(one.stem in gone for one in inventory.artifacts if one.created > young)
    for experiment in ("exp", "other"):
        of_it = sorted((use for use in uses if use.experiment == experiment), key=lambda use: -use.started)
        last = list(dict.fromkeys(use.reference for use in of_it))[: policy.keep_runs or 0]
        assert not any(gone & use.stems for use in of_it if use.reference in last)
        assert not {use.id for use in of_it if use.reference in last} & set(plan.runs)
    assert not {use.id for use in uses if use.is_active(NOW) or use.seen >= young} & set(plan.runs)


@given(INVENTORIES, USES, POLICIES)
def test_what_nobody_needs_goes(inventory: Inventory, uses: list[Use], policy: Policy) -> None:
    plan = plan_gc(inventory, uses, policy, NOW)
    left = [one for one in inventory.artifacts if one.stem not in removed(plan)]
    assert len({doomed.entry.stem for doomed in plan.remove}) == len(plan.remove)
    assert plan.total_bytes == inventory.size_bytes
    assert plan.left_bytes == pytest.approx(Inventory(left).size_bytes)
    needed = set().union(*(use.stems for use in uses))
    free = [one for one in left if one.stem not in needed and one.created <= NOW - policy.grace_seconds]
    if policy.unused_seconds is not None:
        assert not [one for one in free if NOW - one.created > policy.unused_seconds]
    if policy.max_bytes is not None and plan.left_bytes > policy.max_bytes:
        assert not free


@given(INVENTORIES, USES, POLICIES)
def test_doing_it_twice_removes_no_more(inventory: Inventory, uses: list[Use], policy: Policy) -> None:
    plan = plan_gc(inventory, uses, policy, NOW)
    left = Inventory([one for one in inventory.artifacts if one.stem not in removed(plan)])
    remembered = [use for use in uses if use.id not in plan.runs]
    assert removed(plan_gc(left, remembered, policy, NOW)) == ""
