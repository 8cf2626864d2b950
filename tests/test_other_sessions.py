"""Records that an aggregate gathers: those of other sessions, given twice, with values by hand, as its output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.errors import BoundToSessionError, StageFailedError, WrongTypeError
from tests.conftest import Project


@dataclass
class Params(cf.ExperimentParameters):
    a: int = 1


@cf.stage(None, ["y"], [JsonCacher])
def stored(record: Any) -> Any:
    Path(record.get_path("note.txt")).write_text(str(record.params.a))
    return record.params.a


@cf.stage(None, ["y"])
def kept(record: Any) -> Any:
    return record.params.a


@cf.stage(["y"], ["z"])
def tenfold(record: Any, y: int) -> int:
    return y * 10


@cf.aggregate(["y"], ["table"], [JsonCacher])
def table(record: Any, records: Any, y: Any) -> Any:
    return [[r.params.name, value] for r, value in y.items()]


@cf.aggregate(None, ["all"], [JsonCacher])
def everything(record: Any, records: Any) -> Any:
    return [dict(r.state) for r in records]


@cf.aggregate(["y"], ["sizes"], [JsonCacher])
def sizes(record: Any, records: Any, y: Any) -> Any:
    return [sum(y.values()), len(y), len(records), records[0] is records[-1], records[0] == records[1]]


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    with local(1) as connection:
        yield connection


@pytest.fixture(params=["in process", "on a worker"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "in process":
        return {"parallel": 0}
    return {"cluster": request.getfixturevalue("workers").client}


@pytest.mark.parametrize("make", [stored, kept])
def test_an_aggregate_reads_the_values_of_another_session(tmp_path: Path, where: Any, make: Any) -> None:
    for _ in range(2):
        with (
            cf.ArtifactManager("first", cache=tmp_path / "one", **where) as first,
            cf.ArtifactManager("second", cache=tmp_path / "two") as second,
        ):
            mine = make(cf.Record(first, Params("one", a=1)))
            theirs = [make(cf.Record(second, Params(f"{a}", a=a))) for a in (2, 3)]
            gathered = table(cf.Record(first, None), [mine, *theirs])
            assert gathered.state["table"] == [["one", 1], ["2", 2], ["3", 3]]
            tenfold(theirs[1])
            of_all = everything(cf.Record(first, None), [mine, theirs[1]])
            assert of_all.state["all"] == [{"y": 1}, {"y": 3, "z": 30}]
            assert [record.state["y"] for record in theirs] == [2, 3]
            theirs[0].state["y"] = 7
            assert table(cf.Record(first, None), theirs[:1]).state["table"] == [["2", 7]]


def test_sessions_of_experiments_that_are_over_may_be_compared(tmp_path: Path) -> None:
    def run_one(names: list[str]) -> cf.ArtifactManager:
        manager = cf.ArtifactManager("ex", cache=tmp_path / "cache", live=False, parallel=0)
        for name in names:
            stored(cf.Record(manager, Params(name, a=int(name))))
        manager.finish()
        manager.close()
        return manager

    one, other = run_one(["0", "1"]), run_one(["2", "3"])
    with cf.ArtifactManager("compare", cache=tmp_path / "cache") as manager:
        gathered = table(cf.Record(manager, None), [*one.records, *other.records])
        assert gathered.state["table"] == [["0", 0], ["1", 1], ["2", 2], ["3", 3]]
    again = cf.ArtifactManager("compare", cache=tmp_path / "cache", live=False, parallel=0)
    gathered = table(cf.Record(again, None), [*one.records, *other.records])
    assert [decision.action.value for decision in again.plan().decisions.values()] == ["reuse"]
    again.close()


def test_a_record_that_is_given_twice_is_one_record(tmp_path: Path, where: Any) -> None:
    with cf.ArtifactManager("twice", cache=tmp_path, **where) as manager:
        one, two = (stored(cf.Record(manager, Params(f"{a}", a=a))) for a in (1, 2))
        assert sizes(cf.Record(manager, None), [one, two, one]).state["sizes"] == [3, 2, 3, True, False]


# --- inputs by hand --------------------------------------------------------------------------------------------------
def test_an_input_may_be_given_by_record(tmp_path: Path, where: Any) -> None:
    with cf.ArtifactManager("hand", cache=tmp_path, **where) as manager:
        one, two, three = (stored(cf.Record(manager, Params(f"{a}", a=a))) for a in (1, 2, 3))
        given = table(cf.Record(manager, None), [one, two, three], y={one: 10, three: [30]})
        assert given.state["table"] == [["1", 10], ["3", [30]]]
        other = table(cf.Record(manager, None), [one, two, three], y={one: 11, three: [30]})
        assert other.state["table"] == [["1", 11], ["3", [30]]]
        assert table(cf.Record(manager, None), [one], y={one: 5}).state["table"] == [["1", 5]]
        with pytest.raises(WrongTypeError, match="which is none of its records"):
            table(cf.Record(manager, None), [one], y={two: 5})


# --- records as outputs ----------------------------------------------------------------------------------------------
@cf.aggregate(["y"], ["best"])
def best(record: Any, records: Any, y: Any) -> Any:
    return max(y, key=y.get)


@cf.aggregate(["y"], ["keyed"], [PickleCacher])
def keyed(record: Any, records: Any, y: Any) -> Any:
    return {"all": {r: [v] for r, v in y.items()}}


@cf.stage(None, ["own"])
def own(record: Any) -> Any:
    return [lambda: 1, record]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("stage", [best, keyed, own], ids=["alone", "as a key", "beside what cannot travel"])
def test_a_record_is_no_output(tmp_path: Path, where: Any, stage: Any, live: bool) -> None:
    manager = cf.ArtifactManager("out", cache=tmp_path, live=live, **where)
    records = [stored(cf.Record(manager, Params(f"{a}", a=a))) for a in (1, 2)]

    def read() -> Any:
        record = cf.Record(manager, None)
        return (own(record) if stage is own else stage(record, records)).output

    with pytest.raises((BoundToSessionError, StageFailedError), match=r"(?s)holds a record.*return what is") as caught:
        read()
    assert "inside the stage" not in str(caught.value)
    manager.close(status="failed")


# --- a session that is over ------------------------------------------------------------------------------------------
GOES_ON = """
import curidask as cf
from experiments.ex import Params, stored, table

if __name__ == "__main__":
    _, manager = cf.run_experiment("ex", mngr=True, parallel=1, report=False)
    print(table(cf.Record(manager, Params("more", a=9))).output)
"""

EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    a: int = 1

@cf.stage(None, ["y"], [JsonCacher])
def stored(record):
    return record.params.a

@cf.aggregate(["y"], ["table"], [JsonCacher])
def table(record, records, y):
    return {r.params.name: value for r, value in y.items()}

def get_params():
    return [Params("one"), Params("two", a=2)]

def run(param_sets, manager):
    for params in param_sets:
        stored(cf.Record(manager, params))
"""


def test_whoever_goes_on_with_a_session_that_is_over_leaves_nothing_behind(project: Project) -> None:
    project.write("experiments/ex.py", EXPERIMENT)
    project.write("goes_on.py", GOES_ON)
    done = subprocess.run(
        [sys.executable, "goes_on.py"], cwd=project.root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "{'one': 1, 'two': 2}"
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
