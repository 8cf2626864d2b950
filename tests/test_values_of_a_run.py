"""Values that are not stored: each is made once a run, stays as long as somebody may ask for it, and no longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curidask as cf
from curidask.execution import inputs
from curidask.execution.copies import Copy
from curidask.execution.inputs import HeldValues
from curidask.execution.returned_paths import OnDisk, unpack
from tests.conftest import Project

ONCE = """
import random, time
from pathlib import Path
from dataclasses import dataclass
import curidask as cf

CALLS = Path(__file__).parent.parent / "calls"
CALLS.mkdir(exist_ok=True)

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0
    all: int = 1

@cf.stage(None, ["drawn"])
def draw(record):
    with open(CALLS / f"draw{record.params.x}", "a") as file:
        file.write("x")
    return random.SystemRandom().random()

@cf.stage(["drawn"], ["double"])
def double(record, drawn):
    return 2 * drawn

@cf.stage(["drawn"], ["half"])
def halve(record, drawn):
    return drawn / 2

@cf.aggregate(["double"], ["total"])
def add(record, records, double):
    return sum(double.values())

@cf.aggregate(["drawn"], ["sum"])
def sum_up(record, records, drawn):
    return sum(drawn.values())

@cf.stage(None, ["met"])
def meet(record):
    (CALLS / f"met{record.params.x}").touch()
    until = time.monotonic() + 20
    while len(list(CALLS.glob("met*"))) < record.params.all and time.monotonic() < until:
        time.sleep(0.01)
    return len(list(CALLS.glob("met*")))

def get_params():
    return [Params(f"p{x}", x=x) for x in range(3)]

def run(param_sets, manager):
    records = [double(draw(cf.Record(manager, params))) for params in param_sets]
    total = add(cf.Record(manager, None), records).output
    drawn = [record.state["drawn"] for record in records]
    assert abs(total - 2 * sum(drawn)) < 1e-12
    halves = [halve(record).output for record in records]
    assert halves == [value / 2 for value in drawn]
    assert abs(sum_up(cf.Record(manager, None), records).output - sum(drawn)) < 1e-12
    if manager.notes:
        pairs = [meet(cf.Record(manager, Params(f"m{x}", x=x, all=2))) for x in range(2)]
        assert [record.output for record in pairs] == [2, 2]
"""


@pytest.mark.parametrize("parallel", [("--parallel", "0"), ("--parallel", "2")], ids=["in process", "2 workers"])
def test_one_run_makes_a_value_once(project: Project, parallel: tuple[str, str]) -> None:
    """However late somebody asks for it; and where there are workers, what was called so far runs side by side."""
    project.write("experiments/once.py", ONCE)
    notes = () if "0" in parallel else ("--notes", "side by side")
    done = project.experiment("once", *parallel, *notes)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = {path.name: len(path.read_text()) for path in (project.root / "calls").glob("draw*")}
    assert counted == dict.fromkeys(["draw0", "draw1", "draw2"], 1)
    table = [line.split() for line in done.stderr.splitlines() if line.startswith(("draw ", "double ", "add "))]
    assert {row[0]: row[1:6] for row in table} == {
        "draw": ["3", "0", "0", "0", "0"],
        "double": ["3", "0", "0", "0", "0"],
        "add": ["1", "0", "0", "0", "0"],
    }


class Unreadable:
    """Its own error when it is read is a KeyError, as that of any dictionary."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state["missing"]

    def __getstate__(self) -> dict[str, Any]:
        return {"there": 1}


def test_an_error_of_the_value_itself_is_raised(tmp_path: Path) -> None:
    called: Counter[str] = Counter()

    @cf.stage(None, ["value"])
    def make(record: Any) -> Any:
        called["make"] += 1
        return Unreadable()

    with cf.ArtifactManager("own", cache=str(tmp_path), parallel=0, live=False) as manager:
        record = make(cf.Record(manager, None))
        with pytest.raises(KeyError, match="missing"):
            record.state["value"]
    assert called["make"] == 1


# --- in memory and on disk --------------------------------------------------------------------------------------------
def test_what_takes_too_much_memory_goes_to_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inputs, "LEAST_BYTES", 3000)
    monkeypatch.setattr(inputs, "available_bytes", lambda: 0)
    values = HeldValues()
    for job in range(4):
        values.add(job, {0: Copy.of(np.full(1000, job, "uint8")), 1: Copy.of([job])})
    assert [isinstance(values[job][0], OnDisk) for job in range(4)] == [True, True, False, False]
    for job in range(4):
        for _ in range(2):
            assert unpack(values[job][0], shared=True).tolist() == [job] * 1000
            assert unpack(values[job][1], shared=True) == [job]
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    values.drop(0)
    assert 0 not in values
    assert len(list(folder.iterdir())) < 6
    values.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("least_bytes", [0, 1 << 40])
def test_a_run_with_little_memory_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, in_project: Project, least_bytes: int
) -> None:
    monkeypatch.setattr(inputs, "LEAST_BYTES", least_bytes)
    monkeypatch.setattr(inputs, "available_bytes", lambda: 0)
    in_project.write("experiments/once.py", ONCE)
    cf.run_experiment("once", parallel=0)
    assert {path.name: len(path.read_text()) for path in (in_project.root / "calls").glob("draw*")} == dict.fromkeys(
        ["draw0", "draw1", "draw2"], 1
    )


def test_after_run_values_go_with_their_last_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    most = 0
    add = HeldValues.add

    def count(self: HeldValues, job: int, values: Mapping[int, Any]) -> None:
        nonlocal most
        add(self, job, values)
        most = max(most, len([held for held in self if self[held]]))

    monkeypatch.setattr(HeldValues, "add", count)

    @cf.stage(None, ["value"])
    def make(record: Any) -> Any:
        return 1

    @cf.stage(["value"], ["kept"], [cf.caching.JsonCacher])
    def keep(record: Any, value: int) -> int:
        return value

    with cf.ArtifactManager("own", cache=str(tmp_path), parallel=0, live=False) as manager:
        first = [keep(make(cf.Record(manager, cf.ExperimentParameters(f"p{x}", hash=f"p{x}")))) for x in range(5)]
        assert [record.state["value"] for record in first] == [1] * 5
        assert most == 5
        for x in range(5, 50):
            keep(make(cf.Record(manager, cf.ExperimentParameters(f"p{x}", hash=f"p{x}"))))
        manager.finish()
    assert most == 5
