"""Several runs that want the same at the same time: each artifact is computed once, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import curidask as cf
from curidask.session.claim_watcher import Waiting
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.claims import RENEWALS_A_LEASE, Claims, Held, claim_name
from tests.conftest import DEMO, STARTED, TABLE, Project, clean_environment
from tests.processes import wait_for

SETS = 12

SLOW_STAGES = (
    DEMO.replace("range(4)", f"range({SETS})")
    .replace('note(record, "load")', 'note(record, "load")\n    import time; time.sleep(0.15)')
    .replace('CALLS = Path(__file__).parent.parent / "calls"', 'CALLS = Path("CALLS_FOLDER")')
)


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache that several machines reach."""
    return str(tmp_path / "team") if request.param == "folder" else str(request.getfixturevalue("s3"))


def team(tmp_path: Path, cache: str, text: str, n_projects: int, settings: str = "") -> list[Project]:
    """Copies of a project, as on several machines, with one cache; calls are counted in one place."""
    projects = [Project(tmp_path / f"machine{i}") for i in range(n_projects)]
    for project in projects:
        project.write("curidask.toml", f'cache = "{cache}"\n{settings}')
        project.write("experiments/demo.py", text.replace("CALLS_FOLDER", str(tmp_path / "calls")))
    return projects


def start(machine: Project, parallel: str, command: str = "experiment") -> subprocess.Popen[str]:
    """Start the demo on one of the machines, which has a near cache of its own."""
    return machine.start("demo", "--parallel", parallel, env={"CURIDASK_NEAR_CACHE": str(machine.root / "near")})


def calls_of(tmp_path: Path) -> dict[str, int]:
    return {path.name: len(path.read_text()) for path in (tmp_path / "calls").iterdir()}


def left_behind(cache: str) -> list[str]:
    """What those who work in a cache leave there only when they are killed."""
    objects = open_objects(cache)
    return [name for beginning in (".claim", ".work", ".probe", ".gc") for name in objects.list(beginning)]


@pytest.mark.parametrize(
    ("shared", "parallel"),
    [("folder", ("0", "0")), ("folder", ("2", "2")), ("s3", ("0", "2"))],
    indirect=["shared"],
)
def test_two_runs_share_the_work(tmp_path: Path, shared: str, parallel: tuple[str, str]) -> None:
    projects = team(tmp_path, shared, SLOW_STAGES, 2)
    runs = [start(p, n) for p, n in zip(projects, parallel, strict=True)]
    errors = [run.communicate(timeout=90)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    counted = calls_of(tmp_path)
    once = {name: n for name, n in counted.items() if not name.startswith("change")}  # `change` is not stored
    assert once == dict.fromkeys([f"{s}_set{i}" for s in ("load", "score") for i in range(SETS)] + ["gather_None"], 1)
    statuses = [[t["status"] for t in p.last_run()["tasks"]] for p in projects]
    for told, run_statuses in zip(errors, statuses, strict=True):
        n_found = run_statuses.count("found")
        if n_found:
            assert f"{run_statuses.count('done')} ran, {n_found} found, which others made meanwhile" in told
    done_by = [set(each) for each in statuses]
    assert all("failed" not in statuses for statuses in done_by)
    assert left_behind(shared) == []


def read_until(run: subprocess.Popen[str], text: str) -> None:
    """Read what a run writes until it writes a text."""
    assert run.stderr is not None
    lines = []
    for line in run.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


MANY = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
import curidask as cf
from curidask.caching import JsonCacher

cache, calls, processes, artifacts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["value"], [JsonCacher])
def make(record):
    with open(calls / str(record.params.x), "a") as file:
        file.write("x")
    time.sleep(0.01)
    return record.params.x

def work():
    manager = cf.ArtifactManager("many", cache=cache, parallel=0, live=False, config=config)
    records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in range(artifacts)]
    manager.finish()
    assert [record.state["value"] for record in records] == list(range(artifacts))
    manager.close()

# What is imported here is not imported once a process.
import psutil, curidask.manager, curidask.store.backends.conditional_put
from curidask.session.config import load_config
if "://" in cache:
    import obstore, curidask.store.backends.obstore
config = load_config(calls.parent)
children = []
for _ in range(processes):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


@pytest.mark.parametrize(
    ("shared", "n_processes", "n_artifacts"), [("folder", 64, 20), ("s3", 16, 8)], indirect=["shared"]
)
def test_many_processes_compute_each_artifact_once(
    tmp_path: Path, shared: str, n_processes: int, n_artifacts: int
) -> None:
    (tmp_path / "calls").mkdir()
    open_objects(shared).probe_exclusive()  # found out once for all
    arguments = [shared, str(tmp_path / "calls"), str(n_processes), str(n_artifacts)]
    done = subprocess.run(
        [sys.executable, "-c", MANY, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert calls_of(tmp_path) == {str(x): 1 for x in range(n_artifacts)}
    assert left_behind(shared) == []


GATED = SLOW_STAGES.replace(
    "import time; time.sleep(0.15)",
    """import os, time
    (CALLS / f"pid_{os.getpid()}").touch()
    while record.params.x == 1 and not (CALLS / "open").exists():
        time.sleep(0.01)""",
).replace(f"range({SETS})", "range(4)")


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_a_killed_run_is_replaced_by_the_one_that_waits(tmp_path: Path, parallel: str) -> None:
    first, second = team(tmp_path, str(tmp_path / "team"), GATED, 2)
    dying = start(first, parallel)
    wait_for(lambda: (tmp_path / "calls" / "load_set1").exists())
    waiting = start(second, "2")
    read_until(waiting, "waiting for")
    wait_for(lambda: len(list((tmp_path / "calls").glob("score_set*"))) == 3)  # all but the one that is held
    assert calls_of(tmp_path)["load_set1"] == 1
    os.killpg(dying.pid, signal.SIGKILL)
    dying.communicate()
    (tmp_path / "calls" / "open").touch()
    started = time.monotonic()
    _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, errors
    assert time.monotonic() - started < 20
    assert calls_of(tmp_path)["load_set1"] == 2
    tables = [p for p in (tmp_path / "team").glob("*gather_table*") if not p.name.endswith("_metadata.json")]
    assert [json.loads(path.read_text()) for path in tables] == [TABLE]


ELSEWHERE = """
import sys
from curidask.cli.run import main
from curidask.store import claims
claims.place = lambda: "lab7/boot/pids"  # nobody here can look whether its processes are alive
main()
"""


SKEWED = """
import time
now = time.time
time.time = lambda: now() + SKEW
"""


@pytest.mark.parametrize(("shared", "hours"), [("folder", -30), ("s3", 30)], indirect=["shared"])
def test_clocks_that_differ_change_nothing(tmp_path: Path, shared: str, hours: int) -> None:
    first, second = team(tmp_path, shared, SLOW_STAGES, 2)
    script = SKEWED.replace("SKEW", str(hours * 3600)) + ELSEWHERE
    arguments = [sys.executable, "-c", script, "demo", "--parallel", "0"]
    skewed = subprocess.Popen(arguments, cwd=first.root, env=clean_environment(), start_new_session=True, text=True)
    STARTED.append(skewed)
    other = start(second, "0")
    _, errors = other.communicate(timeout=90)
    assert [other.returncode, skewed.wait(90)] == [0, 0], errors
    assert {name for name, n in calls_of(tmp_path).items() if n > 1 and not name.startswith("change")} == set()
    again = second.experiment("demo", "--parallel", "0")
    assert "everything was in the cache" in again.stderr
    assert left_behind(shared) == []


def test_a_killed_run_of_another_machine_is_replaced_within_two_leases(tmp_path: Path, shared: str) -> None:
    lease_seconds = 3
    first, second = team(tmp_path, shared, GATED, 2, f"lease_seconds = {lease_seconds}")
    arguments = [sys.executable, "-c", ELSEWHERE, "demo", "--parallel", "0"]
    dying = subprocess.Popen(arguments, cwd=first.root, env=clean_environment(), start_new_session=True, text=True)
    STARTED.append(dying)
    wait_for(lambda: (tmp_path / "calls" / "load_set1").exists())
    waiting = start(second, "0")
    read_until(waiting, "waiting for")
    wait_for(lambda: len(list((tmp_path / "calls").glob("score_set*"))) == 3)
    time.sleep(lease_seconds)  # a lease passes, and the owner, who is alive, keeps what it has
    assert calls_of(tmp_path)["load_set1"] == 1
    dying.kill()
    dying.communicate()
    died = time.monotonic()
    wait_for(lambda: calls_of(tmp_path)["load_set1"] == 2, seconds=2 * lease_seconds)
    assert time.monotonic() - died > 0.5 * lease_seconds  # by the lease, not by a look at its process
    (tmp_path / "calls" / "open").touch()
    _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, errors
    assert {name: n for name, n in calls_of(tmp_path).items() if n > 1} == {"load_set1": 2}
    assert open_objects(shared).list(".claim-") == []


@pytest.mark.parametrize("lease_seconds", [1.0, 3.0, 60.0])
@pytest.mark.parametrize("lives_seconds", [0.0, 0.7, 7.3, 101.0])
def test_whoever_waits_goes_on_within_two_leases(
    in_project: Project, lease_seconds: float, lives_seconds: float
) -> None:
    """However long it has waited, and looks the less often for that."""
    task = cf.run_experiment("demo", map_only=True).manager.graph[0]
    now = 0.0
    store = ArtifactStore.open(in_project.cache)
    waiting = Waiting(store, mine := Claims(store.objects, "mine", "ada", lease_seconds), clock=lambda: now)
    owner = replace(mine.owner, id="other", session="other", host="lab7", place="lab7")
    waiting.add(task, Held(0, "ada on lab7", lease_seconds))
    renewed = 0.0
    while True:
        if renewed <= now <= lives_seconds:
            store.objects.write(claim_name(task.marker, 0), owner.to_bytes(int(now * 1000)))
            renewed += lease_seconds / RENEWALS_A_LEASE
        if not waiting.seconds_left and waiting.look():
            break
        now = round(now + 0.05, 3)
    assert lease_seconds / 2 < now - lives_seconds < 2 * lease_seconds


@pytest.mark.parametrize("parallel", [0, 2])
def test_an_owner_that_is_silent_for_a_lease_is_replaced(in_project: Project, parallel: int) -> None:
    graph = cf.run_experiment("demo", map_only=True).manager.graph
    objects = open_objects(in_project.cache)
    mine = Claims(objects, "mine", "ada", 1.0)
    silent = replace(mine.owner, id="silent", session="silent", host="lab7", place="lab7")
    objects.write(claim_name(graph[0].marker, 0), silent.to_bytes())
    started = time.monotonic()
    assert cf.run_experiment("demo", parallel=parallel) == TABLE
    assert 1.0 < time.monotonic() - started < 30
    assert in_project.calls()["load_set0"] == 1
    assert left_behind(str(in_project.cache)) == []


def test_what_somebody_else_commits_is_used(in_project: Project) -> None:
    """The owner commits while this run waits; its artifact is taken, and nothing is computed twice."""
    cf.run_experiment("demo", parallel=0)
    in_project.calls()
    graph = cf.run_experiment("demo", map_only=True).manager.graph
    (gathered,) = [task for task in graph if task.spec.is_aggregate]
    stem, _ = gathered.stored_as[0]
    objects = open_objects(in_project.cache)
    manifest = objects.read(f"{stem}_metadata.json")
    objects.remove([f"{stem}_metadata.json"])
    mine = Claims(objects, "mine", "ada", 30.0)
    other = replace(mine.owner, id="other", session="other", host="lab7", place="lab7")
    claim = claim_name(gathered.marker, 0)
    objects.write(claim, other.to_bytes())
    run = in_project.start("demo", "--parallel", "0")
    read_until(run, "waiting for ada on lab7")
    objects.write(f"{stem}_metadata.json", manifest)
    objects.remove([claim])
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    assert in_project.calls() == {}
    assert {t["stage"]: t["status"] for t in in_project.last_run()["tasks"]}["gather"] == "found"


def test_an_owner_that_stood_still_commits_nothing_and_says_so(tmp_path: Path) -> None:
    first, second = team(tmp_path, str(tmp_path / "team"), GATED, 2, "lease_seconds = 1")
    stopped = start(first, "0")
    wait_for(lambda: (tmp_path / "calls" / "load_set1").exists())
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        # On the same machine its process is known to live, so only its lease ends.
        waiting = start(second, "0")
        wait_for(lambda: calls_of(tmp_path)["load_set1"] == 2)
        (tmp_path / "calls" / "open").touch()
        _, errors = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, errors
        made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "team").glob("*load_data*")}
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 0, errors
    assert "computed for nothing" in errors
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "team").glob("*load_data*")} == made
    assert left_behind(str(tmp_path / "team")) == []
