"""What a run on a cluster survives, and how it ends when it does not: each within a bound, no committed work lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.conftest import SLURM_CLUSTER, Address, Hosts, counted, counting, payload
from tests.conftest import DEMO, Project
from tests.processes import Processes, wait_for
from tests.slurm import Slurm

GATED = """note(record, "load")
    import os, time
    (CALLS / f"at {os.uname().nodename} {os.getpid()} {record.name}").touch()
    while not ((CALLS / "open").exists()):
        time.sleep(0.02)"""


@pytest.fixture
def gated(demo: Project, calls: Path) -> Project:
    """The demo, in which the first stage of each set waits until a file opens the gate."""
    text = (demo.root / "experiments/demo.py").read_text()
    demo.write("experiments/demo.py", text.replace('note(record, "load")', GATED))
    return demo


def at_gate(calls: Path) -> list[tuple[str, int, str]]:
    """Host, process and set of the stages that wait."""
    found = [path.name.split(" ") for path in calls.glob("at *")]
    return [(host, int(pid), name) for _, host, pid, name in found]


def finish(run: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    """The exit code and the errors of a run that must end by then."""
    try:
        _, errors = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGABRT)  # it says where it is
        _, errors = run.communicate(timeout=10)
        raise AssertionError(f"it did not end within {seconds:g} s\n{errors}") from None
    finally:
        Processes.stop(run)
    return run.returncode, errors


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, str]:
    """The digests of what the demo gives in one process."""
    project = Project(tmp_path / "undisturbed")
    project.write("curidask.toml", "")
    project.write("experiments/demo.py", DEMO)
    assert project.experiment("demo", "--parallel", "0").returncode == 0
    return payload(project.cache, keys=False)


ONCE = dict.fromkeys(
    [f"{stage}_set{i}" for stage in ("change", "load", "score") for i in range(4)] + ["gather_None"], 1
)


# --- links -----------------------------------------------------------------------------------------------------------
def start_far(hosts: Hosts, gated: Project, calls: Path, on: str = "far") -> subprocess.Popen[str]:
    """Start the demo on a host; both workers come to wait."""
    options = ["experiment", "demo", "--scheduler", hosts.url, "--cache", str(calls / "cache")]
    run = hosts.start(gated, *options, on=on)
    wait_for(lambda: len(at_gate(calls)) == 2 or run.poll() is not None, 60, "stages on both workers")
    assert run.poll() is None, run.communicate()
    return run


def test_links_cut_for_five_seconds_cost_nothing(
    gated: Project, calls: Path, frail_hosts: Hosts, undisturbed: dict[str, str]
) -> None:
    run = start_far(frail_hosts, gated, calls)
    for name in ("d", "far"):
        frail_hosts.net[name].cut()
    time.sleep(5)
    for name in ("d", "far"):
        frail_hosts.net[name].join()
    (calls / "open").touch()
    code, errors = finish(run, 30)
    assert code == 0, errors
    assert "warning" not in errors
    assert counted(calls) == ONCE
    assert payload(calls / "cache", keys=False) == undisturbed


IN_MEMORY = """
import os

import curidask as cf


@cf.stage(None, ["y"])
def make(record):
    return os.urandom(4_000_000)


def get_params():
    return [cf.ExperimentParameters("one")]


def run(param_sets, manager):
    print(len(make(cf.Record(manager, param_sets[0])).state["y"]))
"""


@pytest.fixture
def in_memory(project: Project) -> Project:
    """A project that reads a large value which a worker holds in memory."""
    project.write("experiments/demo.py", IN_MEMORY)
    return project


def test_a_value_comes_over_a_slow_link(in_memory: Project, calls: Path, frail_hosts: Hosts) -> None:
    options = ["experiment", "demo", "--scheduler", frail_hosts.url, "--cache", str(calls / "cache")]
    with frail_hosts.net["far"].slowed(megabits=10):
        run = frail_hosts.start(in_memory, *options, on="far")
        output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert output.splitlines()[-1] == "4000000"


def test_link_of_a_worker_cut_for_good(
    gated: Project, calls: Path, frail_hosts: Hosts, undisturbed: dict[str, str]
) -> None:
    text = (gated.root / "experiments/demo.py").read_text()
    gated.write("experiments/demo.py", text.replace("exists()):", 'exists() and os.uname().nodename != "d"):'))
    run = start_far(frail_hosts, gated, calls)
    (cut_off,) = [name for host, _, name in at_gate(calls) if host == "d"]
    frail_hosts.net["d"].cut()
    (calls / "open").touch()
    code, errors = finish(run, 60)
    assert code == 0, errors
    assert errors.count("died") == 1
    counts = counted(calls)
    assert {name for name, count in counts.items() if count > 1} <= {name for name in counts if cut_off in name}
    assert counts[f"load_{cut_off}"] == 2
    assert payload(calls / "cache", keys=False) == undisturbed


def test_link_of_the_driver_cut_for_good(gated: Project, calls: Path, frail_hosts: Hosts) -> None:
    run = start_far(frail_hosts, gated, calls)
    frail_hosts.net["far"].cut()
    code, errors = finish(run, 60)
    assert code == 1, errors
    assert "connection to the dask scheduler was lost" in errors
    assert "Traceback" not in errors
    # The scheduler forgets what nobody waits for any more; the same command does the rest.
    (calls / "open").touch()
    frail_hosts.net["far"].join()
    counted(calls)
    options = ["experiment", "demo", "--scheduler", frail_hosts.url, "--cache", str(calls / "cache")]
    done = frail_hosts.run(gated, *options)
    assert done.returncode == 0, done.stderr


# --- SLURM -----------------------------------------------------------------------------------------------------------
def test_one_of_two_jobs_is_cancelled(
    gated: Project, calls: Path, shared_slurm: Slurm, undisturbed: dict[str, str]
) -> None:
    gated.write("curidask.toml", SLURM_CLUSTER)
    run = gated.start("demo", "--cluster", "slurm", env=shared_slurm.env)
    wait_for(lambda: len(at_gate(calls)) == 2 or run.poll() is not None, 60, "stages on both workers")
    shared_slurm.command("scancel", shared_slurm.jobs()[0])
    (calls / "open").touch()
    code, errors = finish(run, 60)
    assert code == 0, errors
    assert errors.count("died") == 1
    counts = counted(calls)
    assert sum(counts.values()) <= sum(ONCE.values()) + 2  # what it had begun, or had in memory
    assert payload(gated.cache, keys=False) == undisturbed
    wait_for(lambda: not shared_slurm.jobs(), 30, "the jobs to end")


def test_interrupt_ends_the_jobs(gated: Project, calls: Path, shared_slurm: Slurm) -> None:
    gated.write("curidask.toml", SLURM_CLUSTER)
    run = gated.start("demo", "--cluster", "slurm", env=shared_slurm.env)
    wait_for(lambda: at_gate(calls) or run.poll() is not None, 60, "a stage")
    run.send_signal(signal.SIGINT)
    code, errors = finish(run, 20)
    assert code == 130, errors
    assert "interrupted" in errors
    wait_for(lambda: not shared_slurm.jobs(), 20, "the jobs to end")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('queue = "nope"', "invalid partition"),
        ('python = "/nowhere/python"', "/nowhere/python: No such file or directory"),
        ('job_script_prologue = ["echo sulking >&2; exec sleep 60"]\nwait_seconds = 5', "sulking"),
    ],
)
def test_jobs_that_bring_no_worker_are_explained(
    demo: Project, calls: Path, shared_slurm: Slurm, line: str, said: str
) -> None:
    key = line.partition(" ")[0]
    kept = [row for row in SLURM_CLUSTER.splitlines() if not row.startswith((key, "wait_seconds"))]
    demo.write("curidask.toml", "\n".join([*kept, line]))
    run = demo.start("demo", "--cluster", "slurm", env=shared_slurm.env)
    code, errors = finish(run, 60)
    assert code == 1, errors
    assert said in errors
    assert "Traceback" not in errors
    assert counted(calls) == {}
    wait_for(lambda: not shared_slurm.jobs(), 30, "the jobs to end")


# --- the scheduler ---------------------------------------------------------------------------------------------------
N_SETS = 100


@pytest.fixture
def many(demo: Project, calls: Path) -> Project:
    """300 stages, all of them stored."""
    text = DEMO.replace("range(4)", f"range({N_SETS})").replace(
        '["data"], ["middle"])', '["data"], ["middle"], [PickleCacher])'
    )
    demo.write(
        "experiments/demo.py",
        counting(
            text.replace('note(record, "load")', 'note(record, "load")\n    import time; time.sleep(0.05)'), calls
        ),
    )
    return demo


def until_half(calls: Path, run: subprocess.Popen[str]) -> None:
    """Return when half of the stages have been called."""
    wait_for(lambda: len(list(calls.glob("*_*"))) > 3 * N_SETS / 2 or run.poll() is not None, 60, "half of the stages")
    assert run.poll() is None, run.communicate()


def committed(project: Project) -> set[str]:
    """The stages, with the hashes of their sets, whose artifacts are whole."""
    return {path.name.removesuffix("_metadata.json") for path in project.cache.glob("*_metadata.json")}


def test_scheduler_killed_and_the_next_run_does_only_the_rest(many: Project, calls: Path, own_address: Address) -> None:
    workers = [own_address.start_worker("--no-nanny") for _ in range(2)]
    options = ["demo", "--scheduler", own_address.url]
    run = many.start(*options, env=own_address.env)
    until_half(calls, run)
    own_address.scheduler.kill()
    code, errors = finish(run, 20)
    assert code == 1, errors
    assert "connection to the dask scheduler was lost" in errors
    assert "--restart" in errors
    for worker in workers:
        worker.wait(60)  # they end without a scheduler
    first, there = counted(calls), committed(many)
    assert len(there) >= 3 * N_SETS / 2 - 2
    own_address.start_scheduler()
    own_address.start_worker("--no-nanny")
    done = many.experiment(*options, env=own_address.env)
    assert done.returncode == 0, done.stderr
    second = counted(calls)
    assert sum(second.values()) == len(committed(many)) - len(there)
    assert sum(first.values()) - len(there) <= 2  # what the workers were doing
    assert all(count == 1 for count in second.values())


def test_scheduler_killed_and_the_run_goes_on_by_itself(many: Project, calls: Path, own_address: Address) -> None:
    for _ in range(2):
        own_address.start_worker("--no-nanny")
    run = many.start("demo", "--scheduler", own_address.url, "--restart", "1", env=own_address.env)
    until_half(calls, run)
    own_address.scheduler.kill()
    own_address.start_scheduler()
    for _ in range(2):
        own_address.start_worker("--no-nanny")
    code, errors = finish(run, 90)
    assert code == 0, errors
    assert "restarts left: 0" in errors
    counts = counted(calls)
    assert len(counts) == 3 * N_SETS + 1
    assert sum(counts.values()) <= 3 * N_SETS + 1 + 2  # what the two workers were doing


def test_values_in_memory_are_made_again_after_a_restart(
    demo: Project, calls: Path, own_address: Address, undisturbed: dict[str, str]
) -> None:
    text = (demo.root / "experiments/demo.py").read_text()
    waiting = GATED.replace('note(record, "load")', 'note(record, "score")')
    demo.write("experiments/demo.py", text.replace('note(record, "score")', waiting))
    for _ in range(2):
        own_address.start_worker("--no-nanny")
    run = demo.start("demo", "--scheduler", own_address.url, "--restart", "2", env=own_address.env)
    wait_for(lambda: len(at_gate(calls)) == 2 or run.poll() is not None, 60, "stages that read values from memory")
    own_address.scheduler.kill()
    own_address.start_scheduler()
    (calls / "open").touch()
    for _ in range(2):
        own_address.start_worker("--no-nanny")
    code, errors = finish(run, 60)
    assert code == 0, errors
    assert payload(demo.cache, keys=False) == undisturbed
    counts = counted(calls)
    assert all(count == 1 for name, count in counts.items() if name.startswith(("load", "gather")))


# --- workers and the driver ------------------------------------------------------------------------------------------
def test_workers_that_never_come(demo: Project, calls: Path, own_address: Address) -> None:
    text = '[cluster.own]\nkind = "address"\naddress = "{}"\nwait_seconds = 2'
    demo.write("curidask.toml", text.format(own_address.url))
    code, errors = finish(demo.start("demo", "--cluster", "own", env=own_address.env), 30)
    assert code == 1
    assert "came within 2 s" in errors
    assert "dask worker" in errors
    assert counted(calls) == {}


def test_all_workers_gone_for_good(gated: Project, calls: Path, own_address: Address) -> None:
    text = '[cluster.own]\nkind = "address"\naddress = "{}"\nwait_seconds = 5'
    gated.write("curidask.toml", text.format(own_address.url))
    own_address.start_worker("--no-nanny")
    run = gated.start("demo", "--cluster", "own", env=own_address.env)
    wait_for(lambda: at_gate(calls) or run.poll() is not None, 60, "a stage")
    os.kill(at_gate(calls)[0][1], signal.SIGKILL)
    code, errors = finish(run, 30)
    assert code == 1, errors
    assert "All workers are gone" in errors


HUNGRY = """
from dataclasses import dataclass
import time

import curidask as cf
from curidask.caching import JsonCacher
from distributed import get_worker


@dataclass
class Params(cf.ExperimentParameters):
    megabytes: int = 1


@cf.stage(None, ["y"], [JsonCacher])
def fit(record):
    taken = []
    for _ in range(record.params.megabytes // 10):
        taken.append(b"x" * 10_000_000)
        time.sleep(0.01)
    limit = get_worker().memory_manager.memory_limit
    while 10_000_000 * len(taken) > limit:
        time.sleep(1)  # until dask has noticed
    with open(CALLS / f"fit_{record.name}", "a") as file:
        file.write("x")
    return len(taken)


def get_params():
    return [Params(f"of{size}", megabytes=size) for size in (400, 401, 402, 1500)]


def run(param_sets, manager):
    for params in param_sets:
        fit(cf.Record(manager, params))
"""


def test_stage_that_needs_more_memory_gets_twice_as_much_once(
    project: Project, calls: Path, own_address: Address
) -> None:
    project.write("experiments/demo.py", HUNGRY.replace("CALLS", f"__import__('pathlib').Path({str(calls)!r})"))
    for limit in ("350MB", "800MB"):
        own_address.start_worker("--memory-limit", limit)
    own_address.wait_for_workers(2)
    code, errors = finish(project.start("demo", "--scheduler", own_address.url, env=own_address.env), 90)
    assert code == 1, errors
    assert counted(calls) == {f"fit_of{size}": 1 for size in (400, 401, 402)}
    (failed,) = [task for task in project.last_run()["tasks"] if task["status"] == "failed"]
    assert failed["set"] == "of1500"
    assert failed["error"]["type"] == "OutOfMemory"
    assert failed["peak_bytes"] > 300_000_000
    # Each worker gets two stages, so the small one gets one that it cannot run, and the other can.
    assert errors.count("died for want of memory") >= 2


LARGE = """
import time
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["y"])
def fit(record):
    return bytes([record.params.x]) * 6_000_000


@cf.aggregate(["y"], ["total"], [JsonCacher])
def total(record, records, y):
    while not (CALLS / "open").exists():
        time.sleep(0.02)
    return [[len(value), value[-1]] for value in y.values()]


def get_params():
    return [Params(f"set{i}", x=i) for i in range(6)]


def run(param_sets, manager):
    for params in param_sets:
        fit(cf.Record(manager, params))
    return total(cf.Record(manager, None)).state["total"]
"""


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that is full soon."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_disk_that_values_are_spilled_to_is_full(
    project: Project, calls: Path, own_address: Address, full_disk: Path
) -> None:
    project.write("experiments/demo.py", LARGE.replace("CALLS", f"__import__('pathlib').Path({str(calls)!r})"))
    # However little the worker needs, it is more than what it may have before it spills; and nothing else comes of it.
    share = {"TARGET": "False", "SPILL": "0.001", "TERMINATE": "False", "PAUSE": "False"}
    env = {f"DASK_DISTRIBUTED__WORKER__MEMORY__{what}": value for what, value in share.items()}
    own_address.start_worker("--memory-limit", "600MB", "--local-directory", str(full_disk), env=env)
    run = project.start("demo", "--scheduler", own_address.url, env=own_address.env)
    full = "No space left on device"
    wait_for(lambda: list(full_disk.rglob("storage/*")) or run.poll() is not None, 60, "a value on the disk")
    (calls / "open").touch()  # the values are held until then
    code, errors = finish(run, 90)
    assert code == 0, errors
    # The worker says so, to the driver while a stage runs.
    assert full in own_address.processes.said("worker") + errors
    (path,) = project.artifacts("total_total")
    assert json.loads(path.read_text()) == [[6_000_000, i] for i in range(6)]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_driver_ends_and_its_tasks_with_it(
    gated: Project, calls: Path, own_address: Address, sent: signal.Signals, undisturbed: dict[str, str]
) -> None:
    for _ in range(2):
        own_address.start_worker("--no-nanny")
    options = ["demo", "--scheduler", own_address.url]
    run = gated.start(*options, env=own_address.env)
    wait_for(lambda: len(at_gate(calls)) == 2 or run.poll() is not None, 60, "stages on both workers")
    run.send_signal(sent)
    code, errors = finish(run, 15)
    assert code == (130 if sent == signal.SIGINT else -signal.SIGKILL), errors
    wait_for(lambda: "Remove client" in own_address.processes.said("scheduler"), 5, "the scheduler to notice")
    time.sleep(0.5)  # in which the workers are told
    (calls / "open").touch()
    time.sleep(2)
    # The two stages under way came to their end; none began after them.
    assert counted(calls) == {f"load_{name}": 1 for _, _, name in at_gate(calls)}
    done = gated.experiment(*options, env=own_address.env)
    assert done.returncode == 0, done.stderr
    assert sum(name.startswith("load") for name in counted(calls)) == 2
    assert payload(gated.cache, keys=False) == undisturbed


ON_GPUS = """
import os, time
from pathlib import Path
import curidask as cf
from curidask.caching import JsonCacher

CALLS = Path("CALLS_FOLDER")

@cf.stage(None, ["y"], [JsonCacher], resources={"GPU": 1})
def fit(record):
    (CALLS / f"at {os.getpid()}").touch()
    while not (CALLS / "open").exists():
        time.sleep(0.02)
    return record.name

@cf.stage(None, ["z"], [JsonCacher])
def plain(record):
    return record.name

def get_params():
    return [cf.ExperimentParameters(f"set{i}", hash=f"set{i}") for i in range(3)]

def run(param_sets, manager):
    for params in param_sets:
        fit(cf.Record(manager, params))
        plain(cf.Record(manager, params))
"""


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_only_a_worker_had_that_left_is_waited_for_and_then_missing(
    project: Project, calls: Path, own_address: Address, comes_back: bool
) -> None:
    wait_seconds = 60 if comes_back else 3
    settings = f'[cluster.own]\nkind = "address"\naddress = "{own_address.url}"\nwait_seconds = {wait_seconds}'
    project.write("curidask.toml", settings)
    project.write("experiments/demo.py", ON_GPUS.replace("CALLS_FOLDER", str(calls)))
    own_address.start_worker()
    gpu = own_address.start_worker("--resources", "GPU=1", "--no-nanny")
    own_address.wait_for_workers(2)
    run = project.start("demo", "--cluster", "own", env=own_address.env)
    wait_for(lambda: list(calls.glob("at *")))
    gpu.kill()
    (calls / "open").touch()
    if comes_back:
        read_errors_until(run, "no worker that is left has GPU: 1")
        own_address.start_worker("--resources", "GPU=1", "--no-nanny")
    code, errors = finish(run, 90)
    assert len(project.artifacts("plain_z")) == 3
    if comes_back:
        assert code == 0, errors
        assert len(project.artifacts("fit_y")) == 3
    else:
        assert code == 1, errors
        assert "No worker has what the stage asks for any more: GPU: 1." in errors
        assert "1 worker has" in errors


def read_errors_until(run: subprocess.Popen[str], text: str) -> None:
    assert run.stderr is not None
    for line in run.stderr:
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}")
