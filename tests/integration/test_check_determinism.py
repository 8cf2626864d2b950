"""``--check-determinism``: what a second call of a stage gives is compared with what the first one gave."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

import pytest

from curidask.errors import NotDeterministicError
from curidask.experiment import run_experiment
from tests.conftest import DEMO, TABLE, Project

PROJECT = '''
"""Stages of which some cannot be trusted."""
import itertools
import json
import os
import random
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import curidask as cf
from curidask.caching import FileReferenceCacher, JsonCacher, Lazy, PandasCsvCacher, PathRef, PickleCacher

CALLS = Path(__file__).parent.parent / "calls"
COUNT = itertools.count()
KEPT = []


def note(stage, record):
    CALLS.mkdir(exist_ok=True)
    with open(CALLS / f"{stage}_{record.name}", "a") as file:
        file.write("x")


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    names: list = field(default_factory=lambda: ["a"])


@cf.stage(None, ["data", "table"], [PickleCacher, PandasCsvCacher])
def fine(record):
    note("fine", record)
    draws = record.rng.random(3).tolist()
    return {"x": {"b", "a", "c"}, "draws": draws}, pd.DataFrame({"a": draws})


@cf.stage(None, ["passed", "handle"])
def fine_passed(record):
    return [{"a": np.arange(3), "b": lambda: 1}], object


@cf.stage(["data", "table", "passed"], ["path", "folder", Lazy("film"), "score"],
          [PathRef, FileReferenceCacher, PickleCacher, JsonCacher])
def fine_files(record, data, table, passed):
    note("fine_files", record)
    path = Path(record.get_path("one.txt"))
    path.write_text(str(sorted(data["x"])))
    folder = Path(record.get_dir("more"))
    (folder / "two.txt").write_text("2")
    return str(path), [folder / "two.txt"], np.arange(5.0), len(table)


@cf.stage(["path", "film"], ["place"])
def fine_paths(record, path, film):
    film.sum()
    mine = Path(record.get_path("mine.txt"))
    mine.write_text(Path(path).read_text())
    return {"where": str(mine)}


@cf.stage(["score"], ["of_x"], [JsonCacher], params=["x"])
def fine_used(record, score):
    return record.params.x + score


@cf.aggregate(["score"], ["all"], [JsonCacher])
def fine_gather(record, records, score):
    return {r.name: value for r, value in score.items()}


# --- not deterministic
@cf.stage(None, ["drawn", "same"], [JsonCacher, JsonCacher])
def draws(record):
    note("draws", record)
    return random.random(), 1


@cf.stage(None, ["counted"])
def counts(record):
    return [next(COUNT)]


@cf.stage(None, ["where"], [PathRef])
def writes(record):
    path = Path(record.get_path("some.json"))
    path.write_text(uuid.uuid4().hex)
    return str(path)


@cf.stage(None, [])
def writes_only(record):
    Path(record.get_path("only.txt")).write_text(uuid.uuid4().hex)


@cf.stage(["data"], ["lazily"], [PickleCacher])
def lazily(record, data):
    return np.random.rand(2)


# --- changes its inputs
@cf.stage(["data", "table", "passed"], ["done"], [JsonCacher])
def changes(record, data, table, passed, given=None):
    data["x"].add("d")
    table["new"] = 1
    passed[0]["a"][0] = 7
    given.append(1)
    record.params.names.append("b")
    return 1


@cf.aggregate(["data"], ["n"], [JsonCacher])
def gather_changes(record, records, data):
    return len([value["draws"].sort(reverse=True) or value["draws"].append(1) for value in data.values()])


@cf.stage(["path"], ["length"], [JsonCacher])
def overwrites(record, path):
    text = Path(path).read_text()
    Path(path).write_text(text + "more")
    return len(text)


# --- fails the second time
@cf.stage(None, ["once"], [JsonCacher])
def once(record):
    if KEPT:
        raise ValueError("there is something already")
    KEPT.append(1)
    return 1


# --- another in each process
@cf.stage(None, ["order"], [JsonCacher])
def order(record):
    note("order", record)
    return list({f"word {i}" for i in range(50)})


# --- waits
@cf.stage(None, ["waited"], [JsonCacher])
def waits(record):
    note("waits", record)
    while not (CALLS / "go").exists():
        time.sleep(0.05)
    return random.random()


# --- of which one output is not stored
@cf.stage(None, ["kept", "held"], [JsonCacher, None])
def partly(record):
    note("partly", record)
    return random.random(), 1


@cf.stage(["kept", "held"], ["end"], [JsonCacher])
def ends(record, kept, held):
    note("ends", record)
    return [kept, held]


PARTS = {
    "fine": lambda r: [fine(r), fine_passed(r), fine_files(r), fine_paths(r), fine_used(r)],
    "wrong": lambda r: [draws(r), counts(r), writes(r), writes_only(r), fine(r), lazily(r)],
    "changes": lambda r: [fine(r), fine_passed(r), changes(r, given=[1])],
    "once": lambda r: [once(r)],
    "order": lambda r: [order(r)],
    "partly": lambda r: [partly(r), ends(r)],
    "waits": lambda r: [waits(r)],
    "overwrites": lambda r: [fine(r), fine_passed(r), fine_files(r), overwrites(r)],
}


def get_params():
    return [Params("p", x=1), Params("q", x=2)]


def run(param_sets, manager):
    part = os.environ["PART"]
    for params in param_sets:
        PARTS[part](cf.Record(manager, params))
    if part == "fine":
        return fine_gather(cf.Record(manager, None)).state["all"]
    if part == "changes":
        gather_changes(cf.Record(manager, None))
'''


@pytest.fixture
def shaky(project: Project) -> Project:
    project.write("experiments/shaky.py", PROJECT)
    return project


def checked(project: Project, part: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    flags = ["--check-determinism", *arguments]
    flags += [] if "--parallel" in arguments else ["--parallel", "0"]
    return project.experiment("shaky", *flags, env={"PART": part, **env})


def told(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The findings, without digests and numbers."""
    found = re.findall(r"warning: (stage .*)", done.stderr)
    return {re.sub(r"[0-9a-f]{8}", "D", text) for text in found}


def cached(project: Project) -> dict[str, bytes]:
    files = (path for path in (project.root / "data/cache").rglob("*") if path.is_file() and ".runs" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def n_calls(project: Project, name: str) -> int:
    return len((project.root / "calls" / name).read_text())


@pytest.mark.parametrize("where", [("--parallel", "0"), ("--parallel", "2"), ("--dry",)], ids=" ".join)
def test_nothing_is_found_of_stages_that_are_fine(shaky: Project, where: tuple[str, ...]) -> None:
    for _ in range(2):
        done = checked(shaky, "fine", *where)
        assert done.returncode == 0, done.stderr
        assert "checked: 11 tasks, each called twice, nothing differed" in done.stderr
        assert not told(done)


WRONG = {
    f"stage '{stage}' of Record 0 (p) is not deterministic: on the same inputs its {name} came out as D and D"
    for stage, name in {
        "draws": "output 'drawn'",
        "counts": "output 'counted'",
        "writes": "file 'some.json'",
        "writes_only": "file 'only.txt'",
        "lazily": "output 'lazily'",
    }.items()
}


@pytest.mark.parametrize("where", [("--parallel", "0"), ("--parallel", "2"), ("--dry",)], ids=" ".join)
def test_outputs_and_files_that_differ_are_named(shaky: Project, where: tuple[str, ...]) -> None:
    done = checked(shaky, "wrong", "-n", "p", *where)
    assert done.returncode == 1
    assert told(done) == WRONG
    assert "error: The check of determinism found something in 5 of 6 tasks, each called twice." in done.stderr
    assert "where: stages: draws, counts, writes, writes_only, lazily" in done.stderr
    assert "`record.rng`" in done.stderr
    assert n_calls(shaky, "draws_p") == 2
    if "--dry" in where:
        assert not cached(shaky)


def test_what_is_cached_stays_as_it_is(shaky: Project) -> None:
    assert checked(shaky, "wrong", "-n", "p").returncode == 1
    before = cached(shaky)
    done = checked(shaky, "wrong", "-n", "p")
    assert done.returncode == 1
    assert told(done) == WRONG
    assert cached(shaky) == before
    plain = shaky.experiment("shaky", "--parallel", "0", "-n", "p", env={"PART": "wrong"})
    assert plain.returncode == 0
    assert cached(shaky) == before


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_inputs_that_are_changed_in_place_are_named(shaky: Project, parallel: str) -> None:
    done = checked(shaky, "changes", "--parallel", parallel)
    assert done.returncode == 1
    changed = {"input 'data'", "input 'table'", "input 'passed'", "argument 'given'", "parameters"}
    expected = {f"stage 'changes' of {r} changes its {name} in place" for r in RECORDS for name in changed}
    gathered = {f"stage 'gather_changes' of Record 2 (None) changes its input 'data' of {r} in place" for r in RECORDS}
    assert told(done) == expected | gathered
    assert "data.copy()" in done.stderr


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


RECORDS = ("Record 0 (p)", "Record 1 (q)")


def test_a_file_of_an_input_that_is_written_to_is_told(shaky: Project) -> None:
    done = checked(shaky, "overwrites", "-n", "p")
    assert done.returncode == 1
    assert any("'overwrites' of Record 0 (p) changes its inputs in the cache" in text for text in told(done))


def test_a_stage_that_fails_on_its_second_call_is_told_and_its_first_result_is_kept(shaky: Project) -> None:
    done = checked(shaky, "once", "-n", "p")
    assert done.returncode == 1
    problem = "failed when it was called a second time: ValueError: there is something already"
    assert told(done) == {f"stage 'once' of Record 0 (p) {problem}"}
    plain = shaky.experiment("shaky", "--parallel", "0", "-n", "p", env={"PART": "once"})
    assert "everything was in the cache: 1 reused" in plain.stderr


def test_what_depends_on_the_order_of_a_set_differs_from_what_another_process_stored(shaky: Project) -> None:
    plain = shaky.experiment("shaky", "--parallel", "0", "-n", "p", env={"PART": "order", "PYTHONHASHSEED": "1"})
    assert plain.returncode == 0, plain.stderr
    before = cached(shaky)
    done = checked(shaky, "order", "-n", "p", PYTHONHASHSEED="2")
    assert done.returncode == 1
    (text,) = told(done)
    assert text.startswith("stage 'order' of Record 0 (p): the cache holds another output 'order' than two calls gave")
    assert "sorted(" in done.stderr
    assert cached(shaky) == before
    assert n_calls(shaky, "order_p") == 3
    same = checked(shaky, "order", "-n", "p", PYTHONHASHSEED="1")
    assert same.returncode == 0, same.stderr
    assert n_calls(shaky, "order_p") == 4  # equal to what another process made: nothing more is to be known


def test_of_a_stage_part_of_which_is_stored_the_cached_part_stays(shaky: Project) -> None:
    plain = shaky.experiment("shaky", "--parallel", "0", "-n", "p", env={"PART": "partly"})
    assert plain.returncode == 0, plain.stderr
    before = cached(shaky)
    done = checked(shaky, "partly", "-n", "p")
    assert done.returncode == 1
    problem = "is not deterministic: on the same inputs its output 'kept' came out as D and D"
    assert told(done) == {f"stage 'partly' of Record 0 (p) {problem}"}
    assert cached(shaky) == before


def test_the_plan_says_why_everything_runs(shaky: Project) -> None:
    assert checked(shaky, "order", "-n", "p").returncode == 0
    mapped = checked(shaky, "order", "-n", "p", "--map")
    assert "determinism is checked" in mapped.stdout
    assert n_calls(shaky, "order_p") == 2


def test_without_the_flag_each_stage_is_called_once(shaky: Project) -> None:
    plain = shaky.experiment("shaky", "--parallel", "0", "-n", "p", env={"PART": "wrong"})
    assert plain.returncode == 0, plain.stderr
    assert n_calls(shaky, "draws_p") == 1


def test_a_run_in_python_raises_what_was_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    with pytest.raises(NotDeterministicError, match="3 of 13 tasks") as raised:
        run_experiment("demo", parallel=0, check_determinism=True)
    assert raised.value.where == "stages: change"  # in place, but where x is 0
    project.write("experiments/mended.py", DEMO.replace('data["x"] *= 10', 'data = {"x": 10 * data["x"]}'))
    assert run_experiment("mended", parallel=0, check_determinism=True) == TABLE


def test_what_another_run_made_meanwhile_is_checked_too(shaky: Project) -> None:
    flags = ("shaky", "--check-determinism", "--parallel", "0", "-n", "p")
    first = shaky.start(*flags, env={"PART": "waits"})
    wait_for((shaky.root / "calls" / "waits_p").exists)
    second = shaky.start(*flags, env={"PART": "waits"})
    assert second.stderr is not None
    wait_for(lambda: "waiting for" in (second.stderr.readline() if second.stderr else ""))
    (shaky.root / "calls" / "go").touch()
    for process in (first, second):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1, errors
        assert "its output 'waited' came out as" in errors
    assert n_calls(shaky, "waits_p") == 4  # what the first run stored, once more, and twice to compare with that
