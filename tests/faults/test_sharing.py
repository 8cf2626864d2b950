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
from curidask.store.claims import Claims, claim_name
from curidask.store.objects import open_objects
from tests.conftest import DEMO, TABLE, Project, clean_environment
from tests.faults.test_runs import wait_for

SETS = 12

SLOW_STAGES = (
    DEMO.replace("range(4)", f"range({SETS})")
    .replace('note(record, "load")', 'note(record, "load")\n    import time; time.sleep(0.15)')
    .replace('CALLS = Path(__file__).parent.parent / "calls"', 'CALLS = Path("CALLS_FOLDER")')
)


def team(tmp_path: Path, text: str, n_projects: int) -> list[Project]:
    """Copies of a project, as on several machines, with one cache; calls are counted in one place."""
    projects = [Project(tmp_path / f"machine{i}") for i in range(n_projects)]
    for project in projects:
        project.write("curidask.toml", f'cache = "{tmp_path / "team"}"')
        project.write("experiments/demo.py", text.replace("CALLS_FOLDER", str(tmp_path / "calls")))
    return projects


def calls_of(tmp_path: Path) -> dict[str, int]:
    return {path.name: len(path.read_text()) for path in (tmp_path / "calls").iterdir()}


def no_claims_are_left(cache: Path) -> bool:
    return not [path.name for path in cache.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("parallel", [("0", "0"), ("2", "2"), ("0", "2")])
def test_two_runs_share_the_work(tmp_path: Path, parallel: tuple[str, str]) -> None:
    projects = team(tmp_path, SLOW_STAGES, 2)
    runs = [p.start("demo", "--parallel", n) for p, n in zip(projects, parallel, strict=True)]
    errors = [run.communicate(timeout=90)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    counted = calls_of(tmp_path)
    once = {name: n for name, n in counted.items() if not name.startswith("change")}  # `change` is not stored
    assert once == dict.fromkeys([f"{s}_set{i}" for s in ("load", "score") for i in range(SETS)] + ["gather_None"], 1)
    done_by = [{t["status"] for t in p.last_run()["tasks"]} for p in projects]
    assert all("failed" not in statuses for statuses in done_by)
    assert no_claims_are_left(tmp_path / "team")


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

from curidask.config import load_config
config = load_config(Path(cache).parent)
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


def test_64_processes_compute_20_artifacts_once(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    arguments = [str(tmp_path / "cache"), str(tmp_path / "calls"), "64", "20"]
    done = subprocess.run(
        [sys.executable, "-c", MANY, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert calls_of(tmp_path) == {str(x): 1 for x in range(20)}
    assert no_claims_are_left(tmp_path / "cache")


GATED = SLOW_STAGES.replace(
    "import time; time.sleep(0.15)",
    """import os, time
    (CALLS / f"pid_{os.getpid()}").touch()
    while record.params.x == 1 and not (CALLS / "open").exists():
        time.sleep(0.01)""",
).replace(f"range({SETS})", "range(4)")


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_a_killed_run_is_replaced_by_the_one_that_waits(tmp_path: Path, parallel: str) -> None:
    first, second = team(tmp_path, GATED, 2)
    dying = first.start("demo", "--parallel", parallel)
    wait_for(lambda: (tmp_path / "calls" / "load_set1").exists())
    waiting = second.start("demo", "--parallel", "2")
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
    assert objects.list(".") == []


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
