"""Jobs of a batch system: workers that end with their wall time, and drivers that are jobs themselves."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from curidask.clusters.jobqueue import JobQueue
from curidask.clusters.kinds import kind_of
from curidask.clusters.lifetime import lifetime_arguments
from curidask.clusters.settings import read_settings
from curidask.errors import ConfigurationError
from curidask.execution.base import Job
from curidask.execution.process.remaining_time import ENDS_AT, Lifetime, lifetime_of
from tests.clusters.conftest import SLURM_CLUSTER, Address, counted, payload
from tests.conftest import Project
from tests.processes import wait_for
from tests.slurm import Slurm


def queue(kind: str) -> JobQueue:
    found = kind_of(kind)
    assert isinstance(found, JobQueue)
    return found


# --- wall time -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "text", "seconds"),
    [
        ("slurm", "90", 5400), ("slurm", "10:30", 630), ("slurm", "02:00:00", 7200), ("slurm", "1-12", 129_600),
        ("slurm", "1-00:30", 88_200), ("slurm", "2-00:00:01", 172_801), ("slurm", "INFINITE", None),
        ("pbs", "3600", 3600), ("pbs", "01:00:00", 3600), ("sge", "10:00", 600), ("lsf", "90", 5400),
        ("lsf", "01:30", 5400),
    ],
)  # fmt: skip
def test_wall_time_as_each_system_writes_it(kind: str, text: str, seconds: int | None) -> None:
    assert queue(kind).walltimes.seconds(text, "") == seconds


@pytest.mark.parametrize(
    ("kind", "text"), [("slurm", "2h"), ("slurm", "1:2:3:4"), ("lsf", "1:2:3"), ("pbs", "1-00:00:00"), ("sge", "-5")]
)
def test_wall_time_that_is_none(kind: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        queue(kind).walltimes.seconds(text, "[cluster.x]")
    assert repr(text) in str(caught.value)


def test_workers_leave_before_their_job_ends_and_not_all_at_once() -> None:
    lifetime, stagger = (int(text.removesuffix("s")) for text in lifetime_arguments(7200, ())[1::2])
    assert lifetime + stagger <= 7200 - 300
    assert stagger > 0
    assert lifetime_arguments(7200, ["--lifetime", "1h"]) == lifetime_arguments(7200, ["--lifetime=1h"]) == []


def test_what_is_left_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.delenv(ENDS_AT, raising=False)
    assert lifetime_of(now, None) == Lifetime()
    assert lifetime_of(now, 60) == Lifetime(now + 60, 60)
    monkeypatch.setenv(ENDS_AT, f"{now + 1000:.0f}")
    assert lifetime_of(now, None).ends_at == pytest.approx(now + 950, abs=2)
    assert lifetime_of(now, 60).ends_at == now + 60
    # A process that was started again, late in the life of its job, has what is left of that.
    assert lifetime_of(now + 900, 3600).ends_at == pytest.approx(now + 990, abs=2)


STAGES = """
from dataclasses import dataclass
from pathlib import Path
import os

import curidask as cf
from curidask.caching import JsonCacher

CALLS = Path(__file__).parent.parent / "calls"


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["y"], [JsonCacher], timeout_seconds=100)
def fit(record):
    with open(CALLS / f"fit_{record.name}", "a") as file:
        file.write("x")
    (CALLS / f"on {os.environ['WHICH']}").touch()
    return record.params.x


def get_params():
    return [Params(f"set{i}", x=i) for i in range(8)]


def run(param_sets, manager):
    for params in param_sets:
        fit(cf.Record(manager, params))
"""


def test_no_stage_starts_where_too_little_time_is_left(project: Project, calls: Path, own_address: Address) -> None:
    text = STAGES.replace('Path(__file__).parent.parent / "calls"', f"Path({str(calls)!r})")
    project.write("experiments/demo.py", text)
    soon = {ENDS_AT: f"{time.time() + 80:.0f}", "WHICH": "short"}
    short = own_address.start_worker(env=soon)
    options = ["demo", "--scheduler", own_address.url]
    refused = project.experiment(*options, env=own_address.env)
    assert refused.returncode == 1
    assert "'fit' asks for: time: 100 s" in refused.stderr
    assert counted(calls) == {}
    own_address.start_worker(env={"WHICH": "long"})
    own_address.wait_for_workers(2)
    done = project.experiment(*options, env=own_address.env)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert counted(calls) == {f"fit_set{i}": 1 for i in range(8)}
    assert [path.name for path in calls.glob("on *")] == ["on long"]
    assert short.wait(30) == 0  # it left by itself


def job(declared: float | None, expected: float = 0.0) -> Job:
    from curidask.core.spec import StageOptions

    class Spec:
        name = "fit"
        options = StageOptions(timeout_seconds=declared)

    made = object.__new__(Job)
    object.__setattr__(made, "spec", Spec)
    object.__setattr__(made, "expected_seconds", expected)
    return made


def test_what_stages_took_before_is_what_they_are_expected_to_take() -> None:
    left = Lifetime(time.time() + 60, 600)
    assert left.allows(job(None))
    assert not left.allows(job(None, expected=90))
    assert left.allows(job(None, expected=50))
    assert left.allows(job(None, expected=700))  # no worker lives so long: it is tried
    assert not left.allows(job(declared=55))  # with what it may take to stop
    left.took(job(None), 70)
    assert not left.allows(job(None))
    assert Lifetime().allows(job(declared=1e9))


# --- a driver that is a job ------------------------------------------------------------------------------------------
DRIVER = """
[cluster.slurm.driver]
memory = "300MB"
walltime = "00:10:00"
"""


def test_a_detached_driver_is_a_job_that_submits_its_workers(
    demo: Project, calls: Path, shared_slurm: Slurm, tmp_path: Path
) -> None:
    demo.write("curidask.toml", SLURM_CLUSTER + DRIVER)
    started = demo.experiment("demo", "--cluster", "slurm", "--detach", env=shared_slurm.env)
    assert started.returncode == 0, started.stderr
    found = re.search(r"as SLURM job (\d+)", started.stderr)
    assert found is not None, started.stderr
    wait_for(lambda: "demo_1" in demo.command("curidask", "runs").stdout, 60, "the run to be listed")
    followed = demo.command("curidask", "attach", "demo")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "is done" in followed.stderr
    assert set(counted(calls).values()) == {1}
    assert len(payload(demo.cache)) == 9
    wait_for(lambda: not shared_slurm.jobs(), 30, "all jobs to end")
    (output,) = (demo.root / "logs").glob("demo_1*.out")
    assert "cluster 'slurm'" in output.read_text()
    assert "--mem" not in output.read_text()


def test_a_driver_that_slurm_does_not_take(demo: Project, shared_slurm: Slurm) -> None:
    for line, said, code in (
        ('driver = { queue = "nope" }', "invalid partition", 1),
        ('driver = { memory = "much" }', "'much'", 2),
        ("driver = { cores = 2 }", "directives, memory, queue, walltime", 2),
    ):
        demo.write("curidask.toml", SLURM_CLUSTER + line)
        refused = demo.experiment("demo", "--cluster", "slurm", "--detach", env=shared_slurm.env)
        assert refused.returncode == code, refused.stderr
        assert said in refused.stderr
    with pytest.raises(ConfigurationError, match="driver"):
        read_settings("x", {"kind": "pbs", "driver": {"queue": "x"}}, Path(), "")
