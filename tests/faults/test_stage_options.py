"""What stages ask for, and how they end when they do not get it: each on real workers, within a bound."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.processes import wait_for

HEAD = '''
from dataclasses import dataclass
from pathlib import Path
import ctypes, logging, os, signal, sys, threading, time

import curidask as cf
from curidask.caching import JsonCacher

CALLS = Path(__file__).parent.parent / "calls"


def note(record, stage):
    """Count a call; how many there were with this one."""
    CALLS.mkdir(exist_ok=True)
    with open(CALLS / f"{stage}_{record.name}", "a") as file:
        file.write("x")
        file.flush()
        return file.tell()


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0


def get_params():
    return [Params(f"set{i}", x=i) for i in range(N_SETS)]

'''


def write(project: Project, stages: str, run: str, n_sets: int = 3) -> None:
    """An experiment of these stages; `run` is what is done with each record."""
    body = f"\n\ndef run(param_sets, manager):\n    for params in param_sets:\n        {run}\n"
    project.write("experiments/demo.py", HEAD.replace("N_SETS", str(n_sets)) + stages + body)


def statuses(project: Project) -> dict[str, str]:
    return {f"{task['stage']}_{task['set']}": task["status"] for task in project.last_run()["tasks"]}


# --- retries ---------------------------------------------------------------------------------------------------------
RETRIES = """
@cf.stage(None, ["y"], [JsonCacher], retries=2)
def fit(record):
    calls = note(record, "fit")
    if record.params.x == 1 and calls < 3 or record.params.x == 2:
        raise ConnectionError(f"call {calls}")
    return record.params.x
"""


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_an_exception_is_followed_by_as_many_attempts_as_asked_for(project: Project, parallel: str) -> None:
    write(project, RETRIES, "fit(cf.Record(manager, params))")
    done = project.experiment("demo", "--parallel", parallel)
    assert done.returncode == 1
    assert "ConnectionError: call 3" in done.stderr
    assert "attempt 2 of 3" in done.stderr
    assert project.calls() == {"fit_set0": 1, "fit_set1": 3, "fit_set2": 3}
    assert statuses(project) == {"fit_set0": "done", "fit_set1": "done", "fit_set2": "failed"}


# --- time ------------------------------------------------------------------------------------------------------------
TIMEOUTS = """
@cf.stage(None, ["y"], [JsonCacher], timeout_seconds=1)
def fit(record):
    note(record, "fit")
    print("about to", record.name)
    if record.params.x == 1:
        wait_in_python()
    if record.params.x == 2:
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter: no exception gets in
    return record.params.x


def wait_in_python():
    time.sleep(1.2)
    while True:
        time.sleep(0.01)
"""


def test_stages_that_hang_end_when_their_time_is_up(project: Project) -> None:
    write(project, TIMEOUTS, "fit(cf.Record(manager, params))", n_sets=4)
    started = time.monotonic()
    done = project.experiment("demo", "--parallel", "2")
    assert time.monotonic() - started < 40
    assert done.returncode == 1
    assert "in wait_in_python" in done.stderr
    assert "it did not stop then, so its worker process was ended" in done.stderr
    # What the ended process had committed is found.
    assert {name for name, status in statuses(project).items() if status == "failed"} == {"fit_set1", "fit_set2"}
    assert len(project.artifacts("fit_y")) == 2
    errors = {task["set"]: task["error"] for task in project.last_run()["tasks"] if "error" in task}
    assert {error["type"] for error in errors.values()} == {"StageTimeoutError"}
    assert "about to set2" in errors["set2"]["output"]
    calls = project.calls()
    # A failure lies in its worker's memory until the driver has it; if another ends that worker first, it runs again.
    assert {calls.pop("fit_set1"), calls.pop("fit_set2")} <= {1, 2}
    assert calls == {"fit_set0": 1, "fit_set3": 1}


def test_a_stage_that_hangs_in_this_process_ends_when_its_time_is_up(project: Project) -> None:
    write(project, TIMEOUTS, "fit(cf.Record(manager, params))", n_sets=2)
    done = project.experiment("demo", "--parallel", "0")
    assert done.returncode == 1
    assert "in wait_in_python" in done.stderr
    assert statuses(project) == {"fit_set0": "done", "fit_set1": "failed"}


# --- resources and priority ------------------------------------------------------------------------------------------
RESOURCES = """
@cf.stage(None, ["y"], [JsonCacher], resources={"GPU": 1})
def fit(record):
    note(record, "fit")
    return record.params.x


@cf.stage(["y"], ["z"], [JsonCacher], resources={"GPU": AMOUNT})
def more(record, y):
    note(record, "more")
    return y
"""


def test_what_no_worker_has_is_an_error_before_anything_runs(project: Project) -> None:
    project.write("curidask.toml", "resources = { GPU = 1 }")
    for amount, code in ((2, 1), (1, 0)):
        write(project, RESOURCES.replace("AMOUNT", str(amount)), "more(fit(cf.Record(manager, params)))")
        done = project.experiment("demo", "--parallel", "2")
        assert done.returncode == code, done.stderr
        if code:
            assert "GPU: 2" in done.stderr
            assert "2 workers have GPU: 1" in done.stderr
            assert project.calls() == {}
    assert len(project.calls()) == 6


PRIORITY = """
@cf.stage(None, ["y"], [JsonCacher])
def usual(record):
    with open(CALLS.parent / "order", "a") as file:
        file.write("u")
    time.sleep(0.05)
    return 1


@cf.stage(None, ["z"], [JsonCacher], priority=10)
def urgent(record):
    with open(CALLS.parent / "order", "a") as file:
        file.write("!")
    return 1
"""


def test_stages_of_a_higher_priority_go_first(project: Project) -> None:
    write(project, PRIORITY, "usual(cf.Record(manager, params)), urgent(cf.Record(manager, params))", n_sets=12)
    done = project.experiment("demo", "--parallel", "1")
    assert done.returncode == 0, done.stderr
    order = (project.root / "order").read_text()
    assert sorted(order) == ["!"] * 12 + ["u"] * 12
    assert order.rindex("!") < order.rindex("u") - 6, order  # dask's worker had a few usual ones by then


# --- values and exceptions that cannot travel ------------------------------------------------------------------------
STRANGE = """
class Stubborn(Exception):
    def __reduce__(self):
        raise TypeError("I do not travel")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")
    __repr__ = __str__


@cf.stage(None, ["y"])
def fit(record):
    if record.params.x == 1:
        raise Stubborn("here I stay")
    if record.params.x == 2:
        raise Mute("?")
    if record.params.x == 3:
        return threading.Lock()
    return 1


@cf.stage(["y"], ["z"], [JsonCacher])
def use(record, y):
    note(record, "use")
    return y
"""


def test_values_and_exceptions_that_cannot_travel_are_named_at_once(project: Project) -> None:
    write(project, STRANGE, "use(fit(cf.Record(manager, params)))", n_sets=5)
    started = time.monotonic()
    done = project.experiment("demo", "--parallel", "2")
    assert time.monotonic() - started < 30
    assert done.returncode == 1
    errors = {task["set"]: task["error"] for task in project.last_run()["tasks"] if "error" in task}
    assert {name: error["type"] for name, error in errors.items()} == {
        "set1": "Stubborn", "set2": "Mute", "set3": "UnpicklableError",
    }  # fmt: skip
    assert "here I stay" in errors["set1"]["message"]
    assert all("in fit" in errors[name]["traceback"] for name in ("set1", "set2"))
    assert project.calls() == {"use_set0": 1, "use_set4": 1}


# --- stopping and going on -------------------------------------------------------------------------------------------
FAILING = """
@cf.stage(None, ["y"], [JsonCacher])
def fit(record):
    note(record, "fit")
    if FAST:
        stop_or_wait()
    elif record.params.x == 0:
        raise ValueError("none")
    return record.params.x


def stop_or_wait():
    try:
        open(CALLS.parent / "first", "x").close()
    except FileExistsError:
        while True:
            time.sleep(0.05)
    raise ValueError("first")


@cf.aggregate(["y"], ["total"], [JsonCacher])
def total(record, records, y):
    note(record, "total")
    return sum(y.values())


def run(param_sets, manager):
    for params in param_sets:
        fit(cf.Record(manager, params))
    total(cf.Record(manager, None))
"""


def test_fail_fast_stops_everything_at_the_first_failure(project: Project) -> None:
    project.write("experiments/demo.py", HEAD.replace("N_SETS", "6") + FAILING.replace("FAST", "True"))
    started = time.monotonic()
    done = project.experiment("demo", "--parallel", "2", "--fail-fast")
    assert time.monotonic() - started < 25
    assert done.returncode == 1
    assert "ValueError: first" in done.stderr
    counts = Counter(statuses(project).values())
    assert counts.pop("failed") == 1
    assert set(counts) <= {"not run", "blocked"}


def test_an_aggregate_runs_over_what_is_left_only_when_asked_to(project: Project) -> None:
    project.write("experiments/demo.py", HEAD.replace("N_SETS", "4") + FAILING.replace("FAST", "False"))
    stopped = project.experiment("demo", "--parallel", "2")
    assert stopped.returncode == 1
    assert not project.artifacts("total")
    project.calls()
    going = project.experiment("demo", "--parallel", "2", "--keep-going-aggregates")
    assert going.returncode == 1
    assert "runs over 3 of 4 records" in going.stderr
    assert project.calls() == {"fit_set0": 1, "total_None": 1}
    (path,) = project.artifacts("total_total")
    assert json.loads(path.read_text()) == 6


# --- what stages say -------------------------------------------------------------------------------------------------
SAYING = """
@cf.stage(None, ["y"], [JsonCacher])
def fit(record):
    print("printed by", record.name)
    print("to stderr by", record.name, file=sys.stderr)
    logging.getLogger("mine").warning("logged by %s", record.name)
    os.system("echo from a child")
    note(record, "fit")
    while not (CALLS.parent / "open").exists():
        time.sleep(0.02)
    if record.params.x == 1:
        taken = bytearray(os.urandom(1)) * 150_000_000
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1
"""


def test_what_stages_say_is_heard_while_they_run_and_kept(project: Project) -> None:
    write(project, SAYING, "fit(cf.Record(manager, params))", n_sets=2)
    run = project.start("demo", "--parallel", "2")
    logs = project.root / "logs"
    wait_for(lambda: len(list((project.root / "calls").glob("*"))) == 2, what="both stages")
    said = [f"{text} set{i}" for i in (0, 1) for text in ("printed by", "to stderr by", "logged by")]
    # Both stages still wait: what they said is in the run's log by now, with stage and set.
    wait_for(lambda: all(text in log_of(logs) for text in [*said, "from a child"]), 10, "what was said")
    lines = log_of(logs).splitlines()
    assert all(any(text in line and f"[{text[-4:]} fit]" in line for line in lines) for text in said)
    (project.root / "open").touch()
    output, errors = run.communicate(timeout=90)
    assert run.returncode == 1
    assert "[set0 fit] printed by set0" in output
    assert "[set0 fit] to stderr by set0" in errors
    (failed,) = [task for task in project.last_run()["tasks"] if task["status"] == "failed"]
    assert "SIGKILL" in failed["error"]["message"]
    assert "printed by set1" in failed["error"]["output"]
    assert failed["peak_bytes"] > 150_000_000


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.log"))


# --- the moment of a commit ------------------------------------------------------------------------------------------
COMMITTING = """
@cf.stage(None, ["y"], [JsonCacher])
def fit(record):
    if note(record, "fit") == 1 and record.params.x == 1:
        for name in ("replace", "link"):
            setattr(os, name, dying(getattr(os, name)))
    return record.params.x


def dying(do):
    def done(source, target, **options):
        if str(target).endswith("_metadata.json"):
            os.kill(os.getpid(), signal.SIGKILL)
        return do(source, target, **options)
    return done
"""


def test_a_worker_killed_in_the_middle_of_a_commit_costs_one_call(project: Project) -> None:
    write(project, COMMITTING, "fit(cf.Record(manager, params))")
    done = project.experiment("demo", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning:") == 1
    calls = project.calls()
    assert calls.pop("fit_set1") == 2
    assert set(calls.values()) == {1}
    assert sorted(path.read_text().strip() for path in project.artifacts("fit_y")) == ["0", "1", "2"]
    again = project.experiment("demo", "--parallel", "2")
    assert "everything was in the cache" in again.stderr
    assert not list(project.cache.glob(".work*"))


# --- a set among many ------------------------------------------------------------------------------------------------
ONE_BAD = """
@cf.stage(None, ["y"], [JsonCacher])
def fit(record):
    if record.params.x == 571:
        raise ValueError("571!")
    return record.params.x
"""


def test_of_a_thousand_sets_with_one_that_fails_all_others_are_there(project: Project) -> None:
    write(project, ONE_BAD, "fit(cf.Record(manager, params))", n_sets=1000)
    done = project.experiment("demo", "--parallel", "2", "--no-report")
    assert done.returncode == 1
    assert "ValueError: 571!" in done.stderr
    assert "in fit" in done.stderr
    assert len(project.artifacts("fit_y")) == 999
    (failed,) = [task for task in project.last_run()["tasks"] if task["status"] == "failed"]
    assert failed["set"] == "set571"
    assert "in fit" in failed["error"]["traceback"]
