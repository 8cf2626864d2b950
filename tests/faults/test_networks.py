"""Whole runs over a cache in the network that fails now and then, comes back, or is gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from curidask.store.objects import open_objects
from curidask.store.storage_options import StorageOptions
from tests.conftest import DEMO, TABLE, Project
from tests.faults.test_runs import wait_for
from tests.s3proxy import S3Proxy
from tests.s3server import S3Server

SETS = 8
SHORT = "[storage]\nretry_seconds = {}\n"

GATED = DEMO.replace("range(4)", f"range({SETS})").replace(
    'note(record, "score")',
    """note(record, "score")
    import time
    while record.params.x >= 2 and not (CALLS.parent / "open").exists():
        time.sleep(0.01)""",
)
LOADED = {f"load_set{i}" for i in range(SETS)}
ONCE = dict.fromkeys([f"{stage}_set{i}" for stage in ("load", "score") for i in range(SETS)] + ["gather_None"], 1)


@pytest.fixture(params=["0", "2"], ids=["in process", "2 workers"])
def parallel(request: pytest.FixtureRequest) -> tuple[str, str]:
    """In this process and on workers."""
    return "--parallel", request.param


@pytest.fixture
def gated(project: Project, s3: str) -> Project:
    """The demo with its cache in the bucket, in which sets from 2 on wait in the stage `score` for a file."""
    project.write("curidask.toml", f'cache = "{s3}"\n')
    project.write("experiments/demo.py", GATED)
    return project


def stored_calls(project: Project) -> dict[str, int]:
    """How often the stages ran whose results are stored."""
    return {name: count for name, count in project.calls().items() if not name.startswith("change")}


def wait_until_held(project: Project, parallel: tuple[str, str]) -> None:
    """Return when the process, or each worker, has come to a set that waits."""
    first = {f"score_set{i}" for i in range(2)}
    n_held = max(1, int(parallel[1]))
    wait_for(lambda: len({p.name for p in (project.root / "calls").glob("score_*")} - first) >= n_held)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_completes_with_one_in_twenty_requests_failing(
    gated: Project, s3_proxy: S3Proxy, parallel: tuple[str, str], seed: int
) -> None:
    (gated.root / "open").touch()
    hows = ["slow_down", "internal_error", "reset", "lost_reply", "truncated", "corrupted"]
    s3_proxy.fail_by_chance(0.05, seed, hows)
    done = gated.experiment("demo", *parallel)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert stored_calls(gated) == ONCE
    assert sum(s3_proxy.injected.values()) >= 3
    again = gated.experiment("demo", *parallel)
    assert "everything was in the cache" in again.stderr
    assert gated.calls() == {}


def test_a_run_completes_though_the_server_is_killed_and_started_again(
    gated: Project, s3_server: S3Server, parallel: tuple[str, str]
) -> None:
    run = gated.start("demo", *parallel)
    wait_until_held(gated, parallel)
    s3_server.kill()
    (gated.root / "open").touch()
    time.sleep(0.5)
    s3_server.start()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert "warning" not in errors
    assert stored_calls(gated) == ONCE


def test_a_server_that_is_gone_is_an_error_within_a_bound_and_a_rerun_resumes(
    gated: Project, s3: str, s3_proxy: S3Proxy, parallel: tuple[str, str]
) -> None:
    retry_seconds = 3.0
    gated.write("curidask.toml", f'cache = "{s3}"\n[storage]\nretry_seconds = {retry_seconds}\n')
    run = gated.start("demo", *parallel)
    wait_until_held(gated, parallel)
    there = set(open_objects(s3).list())
    s3_proxy.close()
    (gated.root / "open").touch()
    started = time.monotonic()
    _, errors = run.communicate(timeout=60)
    took = time.monotonic() - started
    assert run.returncode == 1, errors
    assert "cannot be reached" in errors
    assert "check the address" in errors
    assert "stages failed; what had finished is cached" in errors
    assert "Traceback" not in errors
    # Nobody waits once more for what another one, a worker too, has waited for in vain.
    assert took < retry_seconds + 4
    assert StorageOptions().retry_seconds + 4 < 60 - StorageOptions().read_timeout_seconds
    recorded = gated.last_run()
    assert recorded["status"] == "failed"
    assert {task["status"] for task in recorded["tasks"]} == {"done", "failed", "blocked"}
    s3_proxy.listen()
    assert set(open_objects(s3).list()) >= there
    done = {f"{task['stage']}_{task['set']}" for task in recorded["tasks"] if task["status"] == "done"}
    finished = done.intersection(ONCE)
    assert len(finished) >= 2
    gated.calls()
    again = gated.experiment("demo", *parallel)
    assert again.returncode == 0, again.stderr
    assert stored_calls(gated) == {name: 1 for name in ONCE if name not in finished}
