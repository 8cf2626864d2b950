"""Whole runs over a cache in the network that fails now and then, comes back, or is gone."""

from __future__ import annotations

import re
import time

import pytest

from curidask.store.backends.base import open_objects
from curidask.store.backends.options import StorageOptions
from tests.careless_s3 import CarelessS3, Way
from tests.conftest import DEMO, Project
from tests.processes import wait_for
from tests.s3proxy import How, S3Proxy
from tests.s3server import S3Server

SETS = 8
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


ALL = ["slow_down", "internal_error", "reset", "lost_reply", "truncated", "corrupted"]


@pytest.mark.parametrize(
    ("n_workers", "share", "hows"),
    [("0", 0.05, ALL), ("2", 0.05, ALL), ("0", 0.3, ["slow_down"])],
    ids=["in process", "2 workers", "throttled"],
)
def test_a_run_completes_though_requests_fail(
    gated: Project, s3_proxy: S3Proxy, n_workers: str, share: float, hows: list[How]
) -> None:
    (gated.root / "open").touch()
    s3_proxy.fail_by_chance(share, seed=2, hows=hows)
    done = gated.experiment("demo", "--parallel", n_workers)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert stored_calls(gated) == ONCE
    assert sum(s3_proxy.injected.values()) >= 3
    again = gated.experiment("demo", "--parallel", "0")
    assert "everything was in the cache" in again.stderr
    assert gated.calls() == {}


def test_a_run_completes_though_the_server_is_killed_and_started_again(gated: Project, s3_server: S3Server) -> None:
    run = gated.start("demo", "--parallel", "2")
    wait_until_held(gated, ("--parallel", "2"))
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
    retry_seconds = 10.0
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
    assert "`curidask cache push latest --from data/cache --to s3://" in errors
    assert "stages failed; what had finished is cached" in errors
    assert "Traceback" not in errors
    # Nobody waits once more for what another one, a worker too, has waited for in vain.
    assert took < 2 * retry_seconds
    assert StorageOptions().retry_seconds < 60 - StorageOptions().read_timeout_seconds
    recorded = gated.last_run()
    assert recorded["status"] == "failed"
    assert {task["status"] for task in recorded["tasks"]} == {"done", "failed", "blocked"}
    s3_proxy.listen()
    assert set(open_objects(s3).list()) >= there
    done = {f"{task['stage']}_{task['set']}" for task in recorded["tasks"] if task["status"] == "done"}
    finished = done.intersection(ONCE)
    assert len(finished) >= 2
    gated.calls()
    again = gated.experiment("demo", "--parallel", "0")
    assert again.returncode == 0, again.stderr
    assert stored_calls(gated) == {name: 1 for name in ONCE if name not in finished}


@pytest.fixture
def tiered(gated: Project, s3: str) -> Project:
    """The same with a folder before the bucket, which is not waited for long."""
    gated.write("curidask.toml", f'cache = ["data/cache", "{s3}"]\n[storage]\nretry_seconds = 1.0\n')
    return gated


def test_a_shared_tier_that_goes_away_costs_one_warning_and_a_push(
    tiered: Project, s3: str, s3_proxy: S3Proxy, parallel: tuple[str, str]
) -> None:
    run = tiered.start("demo", *parallel)
    wait_until_held(tiered, parallel)
    s3_proxy.close()
    (tiered.root / "open").touch()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert stored_calls(tiered) == ONCE
    assert re.findall("could not|cannot|does not|warning", errors) == ["warning", "could not", "cannot"], errors
    told = f"warning: {s3} could not be used (The service cannot be reached)."
    assert told in errors
    assert "--cache-mode rw,off" in errors
    if parallel[1] != "0":
        return
    missing = tiered.experiment("demo", "--parallel", "0")
    assert missing.returncode == 2, missing.stderr
    assert "`--cache-mode rw,off` does without it" in missing.stderr
    s3_proxy.listen()
    assert tiered.command("curidask", "cache", "push", "latest").returncode == 0
    there = tiered.experiment("demo", "--parallel", "0", "--cache", s3)
    assert "everything was in the cache" in there.stderr
    assert tiered.calls() == {}


def test_a_shared_tier_that_is_away_for_a_moment_costs_nothing(tiered: Project, s3: str, s3_proxy: S3Proxy) -> None:
    tiered.write("curidask.toml", f'cache = ["data/cache", "{s3}"]\n')
    run = tiered.start("demo", "--parallel", "0")
    wait_until_held(tiered, ("--parallel", "0"))
    s3_proxy.close()
    (tiered.root / "open").touch()
    time.sleep(0.5)
    s3_proxy.listen()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert "warning" not in errors
    assert "everything was in the cache" in tiered.experiment("demo", "--parallel", "0", "--cache", s3).stderr


def test_credentials_that_expire_in_the_middle_end_the_run_and_a_rerun_resumes(
    gated: Project, s3_proxy: S3Proxy, client: str
) -> None:
    run = gated.start("demo", "--parallel", "0")
    wait_until_held(gated, ("--parallel", "0"))
    s3_proxy.fail("expired", times=float("inf"))
    (gated.root / "open").touch()
    started = time.monotonic()
    _, errors = run.communicate(timeout=60)
    assert time.monotonic() - started < 20  # nothing is tried again
    assert run.returncode == 1, errors
    assert "credentials have expired" in errors
    assert "renew them" in errors
    assert "Traceback" not in errors
    recorded = gated.last_run()
    finished = {f"{t['stage']}_{t['set']}" for t in recorded["tasks"] if t["status"] == "done"}.intersection(ONCE)
    assert finished
    s3_proxy.heal()
    gated.calls()
    again = gated.experiment("demo", "--parallel", "0")
    assert again.returncode == 0, again.stderr
    assert stored_calls(gated) == {name: 1 for name in ONCE if name not in finished}


@pytest.fixture(params=["fsspec", "obstore"])
def client(request: pytest.FixtureRequest, gated: Project, s3: str) -> str:
    """Which client the run uses."""
    gated.write("curidask.toml", f'cache = "{s3}"\nobject_client = "{request.param}"\n')
    return str(request.param)


def test_who_may_only_read_gets_the_results_and_one_warning(
    gated: Project, s3: str, s3_server: S3Server, parallel: tuple[str, str]
) -> None:
    (gated.root / "open").touch()
    first = gated.experiment("demo", "-n", "set0", "-n", "set1", "--parallel", "0")
    assert first.returncode == 0, first.stderr
    gated.calls()
    there = sorted(open_objects(s3).list())
    done = gated.experiment("demo", *parallel, env=s3_server.reader.env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert "only read" in done.stderr
    calls = gated.calls()
    assert calls.pop("gather_None") == 1
    assert calls == {f"{stage}_set{i}": 1 for stage in ("load", "change", "score") for i in range(2, SETS)}
    assert sorted(open_objects(s3).list()) == there
    assert open_objects(s3).list(".claim") == []


@pytest.mark.parametrize(("way", "n_workers"), [("ignores", "0"), ("races", "2")])
def test_a_server_that_does_not_create_exclusively_costs_one_warning(
    gated: Project, s3: str, way: Way, n_workers: str
) -> None:
    (gated.root / "open").touch()
    with CarelessS3(way) as server:
        for expected in (ONCE, {}):
            done = gated.experiment("demo", "--parallel", n_workers, env={"AWS_ENDPOINT_URL": server.endpoint})
            assert done.returncode == 0, done.stderr
            assert done.stderr.count("warning: ") == 1
            assert "does not create objects exclusively" in done.stderr
            assert stored_calls(gated) == expected
        assert not [path for path in server.content if "/.claim" in path]
