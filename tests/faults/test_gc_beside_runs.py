"""`curidask cache gc` beside runs that begin, reuse, compute and end: it removes nothing that they use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curidask.store.artifacts import ArtifactStore
from curidask.store.maintenance import usage
from curidask.store.maintenance.gc import Collected, Policy, collect, plan_gc
from curidask.store.maintenance.inventory import take_inventory
from curidask.store.maintenance.usage import GC, Removal, RunReferences, Uses
from tests.conftest import clean_environment
from tests.contracts.conftest import make_manifest

PROCESSES, ROUNDS, SETS = 20, 2, 8

RUNS = """
import json, os, random, sys, time
from dataclasses import dataclass
from pathlib import Path
import curidask as cf
from curidask.caching import JsonCacher
from curidask.core.planner import Action

cache, folder, processes, rounds, sets = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["value"], [JsonCacher])
def make(record):
    Path(record.get_path("beside")).write_text(str(record.params.x))
    return {"x": record.params.x}

@cf.stage(["value"], ["twice"], [JsonCacher])
def twice(record, value):
    return 2 * value["x"]

def run(number, chance):
    chosen = chance.sample(range(sets), sets // 2)
    with cf.ArtifactManager("team", cache=cache, live=False, parallel=0) as manager:
        records = [twice(make(cf.Record(manager, Params(f"x{x}", x=x)))) for x in chosen]
        manager.finish()
        time.sleep(chance.random() * 0.1)
        for x, record in zip(chosen, records):
            assert record.state["twice"] == 2 * x
            assert record.state["value"] == {"x": x}
        decisions = manager.run_record.decisions
        used = [task for task in manager.graph if decisions[task.id][0] is not Action.PRUNE]
        stems = [stem for task in used for stem in task.store_stems]
        there = manager.store.present(stems)
        whole = [stem for stem in stems if stem in there and manager.store.verify_artifact(stem)]
        actions = [decisions[task.id][0].value for task in used]
    return {"actions": actions, "lost": len(stems) - len(whole), "warnings": manager.run_record.warnings}

def work(number):
    home = folder / str(number)
    home.mkdir(parents=True)
    os.chdir(home)
    (home / "curidask.toml").write_text("")
    chance = random.Random(number)
    with open(folder / f"{number}.jsonl", "w") as log:
        for _ in range(rounds):
            print(json.dumps(run(number, chance)), file=log, flush=True)

children = []
for number in range(processes):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(number)
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.fixture
def runs(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "runs.py"
    script.write_text(RUNS)
    numbers = map(str, (PROCESSES, ROUNDS, SETS))
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache"), str(tmp_path / "runs"), *numbers],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def clean_up(cache: Path) -> int:
    """Remove all that no run is using at this moment."""
    store = ArtifactStore.open(cache)
    uses = Uses(store.objects)
    inventory = take_inventory(store)
    policy = Policy(unused_seconds=0, grace_seconds=0)
    plan = plan_gc(inventory, uses.refresh(), policy, time.time())
    return len(collect(store, inventory, plan, uses, who="the test").stems)


def test_gc_beside_twenty_runs_removes_nothing_that_they_use(runs: subprocess.Popen[str], tmp_path: Path) -> None:
    removed = []
    with runs:
        try:
            while runs.poll() is None:
                removed.append(clean_up(tmp_path / "cache"))
                time.sleep(0.02)
        finally:
            if runs.returncode is None:
                os.killpg(runs.pid, 9)
        errors = runs.stderr.read() if runs.stderr is not None else ""
    assert runs.returncode == 0, errors
    rows = [json.loads(line) for path in (tmp_path / "runs").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(rows) == PROCESSES * ROUNDS
    assert [row for row in rows if row["lost"] or row["warnings"]] == []
    # There was something to remove, and something to reuse that could have been removed.
    actions = Counter(action for row in rows for action in row["actions"])
    assert sum(removed) > 0
    assert actions["reuse"] > 0
    assert actions["run"] > 0
    clean_up(tmp_path / "cache")
    assert take_inventory(ArtifactStore.open(tmp_path / "cache")).artifacts == []


# --- one interleaving after the other, on a folder and on a real S3 server -------------------------------------------
@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A store with the artifacts a, b and c."""
    place = tmp_path / "cache" if request.param == "folder" else request.getfixturevalue("s3")
    store = ArtifactStore.open(place)
    for seed in "abc":
        manifest = make_manifest(seed, created="2020-01-01T00:00:00+00:00")
        with store.workspace(manifest.stem, run="run_1") as space:
            (space.folder / (space.basename + ".json")).write_text(seed)
            store.commit(space, manifest)
    return store


A, B, C = (make_manifest(seed).stem for seed in "abc")


def use_of(store: ArtifactStore, told: Callable[[str], None] = lambda text: None) -> RunReferences:
    return RunReferences([store.objects], reference="demo_1", told=told)


def collected(store: ArtifactStore, between: Callable[[], object]) -> Collected:
    """Remove all; something happens between the plan and that."""
    uses = Uses(store.objects)
    inventory = take_inventory(store)
    plan = plan_gc(inventory, uses.refresh(), Policy(unused_seconds=0, grace_seconds=0), time.time())
    between()
    return collect(store, inventory, plan, uses, who="the test")


def test_a_run_waits_while_somebody_removes_what_it_wants(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "LONGEST_PAUSE_SECONDS", 0.1)
    said: list[str] = []
    use, other = use_of(store, said.append), use_of(store)
    with ThreadPoolExecutor(1) as pool, Removal(store.objects, [A, B], "ann on laptop"):
        other.register([C])  # is not held up
        waiting = pool.submit(use.register, [B, C])
        while not said:
            assert not waiting.done()
            time.sleep(0.01)
        assert "ann on laptop" in said[0]
        store.discard(B)
        assert not waiting.done()
    waiting.result(10)
    assert store.present([A, B, C]) == {A, C}
    assert store.objects.list(GC) == []
    for one in (use, other):
        one.end([])


def test_what_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    objects = ArtifactStore.open(tmp_path).objects
    for name in (".runs/demo_1-00000000/end.json", "sub/a.json"):
        objects.write(name, b"whole")
        (tmp_path / name).with_name(".tmp-1-2-01234567").write_text('{"ended": true}')
    assert objects.list(".runs/") == [".runs/demo_1-00000000/end.json"]
    assert objects.list() == ["sub/a.json"]


def test_a_run_passes_over_what_a_killed_gc_left(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "GC_LEASE_SECONDS", 0.2)
    removal = Removal(store.objects, [A], "ann on laptop")
    removal.__enter__()
    assert removal.holds
    use = use_of(store)
    use.register([A])
    assert not removal.holds  # the one that was not killed but only slow removes nothing any more
    assert store.objects.list(GC) == []
    use.end([A])


def test_what_a_run_began_to_use_since_the_plan_stays(store: ArtifactStore) -> None:
    use = use_of(store)
    done = collected(store, lambda: use.register([A]))
    assert (done.stems, done.spared) == (sorted([B, C], key=done.stems.index), [A])
    assert store.present([A, B, C]) == {A}
    use.end([A])


def test_what_a_run_used_that_began_and_ended_since_the_plan_stays(store: ArtifactStore) -> None:
    use = use_of(store)

    def run() -> None:
        use.register([A])
        use.end([A])

    assert collected(store, run).spared == [A]
    assert store.present([A, B, C]) == {A}


def test_two_clean_ups_at_one_time(store: ArtifactStore) -> None:
    inner: list[Collected] = []
    outer = collected(store, lambda: inner.append(collected(store, lambda: None)))
    assert len(inner[0].stems) == 3
    assert store.objects.list() == []
    assert outer.spared == []
