"""What an experiment changes in place in a value that it has read is what the stages that it calls then get."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import curidask as cf
from curidask.caching import JsonCacher, Lazy, PickleCacher
from curidask.errors import CuridaskError, ValueChangedError

Open = Callable[..., cf.ArtifactManager]


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens sessions on one cache, one at a time."""
    made: list[cf.ArtifactManager] = []

    def close() -> None:
        for manager in made:
            manager.close()

    def open_session(*, live: bool = True, **settings: Any) -> cf.ArtifactManager:
        close()
        settings = {"parallel": 0, "live": live, **settings}
        made.append(cf.ArtifactManager("changed", cache=str(tmp_path / "cache"), **settings))
        return made[-1]

    yield open_session
    close()


@pytest.fixture(params=["live", "run"])
def manager(request: pytest.FixtureRequest, opened: Open) -> cf.ArtifactManager:
    return opened(live=request.param == "live")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A file to which `counted` adds a byte each time that it runs."""
    path = tmp_path / "calls"
    path.touch()
    return path


def load_with(cacher: Any = None) -> Any:
    @cf.stage(None, ["d"], None if cacher is None else [cacher])
    def load(record: cf.Record) -> Any:
        return [1, 2]

    return load


@cf.stage(["d"], ["seen"], [JsonCacher])
def see(record: cf.Record, d: Any) -> Any:
    return d


@cf.stage(["d"], ["described"])
def describe(record: cf.Record, d: Any) -> Any:
    return repr(d)


@cf.stage(["d"], ["seen"], [JsonCacher])
def counted(record: cf.Record, d: Any, calls: str) -> Any:
    with open(calls, "a") as file:
        file.write(".")
    return len(d)


@cf.aggregate(["d"], ["all"])
def gather(record: cf.Record, records: Any, d: Any) -> Any:
    return list(d.values())


@cf.aggregate(None, ["all"])
def gather_states(record: cf.Record, records: Any) -> Any:
    return [dict(each.state) for each in records]


def loaded(manager: cf.ArtifactManager, cacher: Any = PickleCacher, name: str = "only") -> cf.Record:
    record: cf.Record = load_with(cacher)(cf.Record(manager, Params(name)))
    return record


@pytest.mark.parametrize("cacher", [None, PickleCacher, JsonCacher])
def test_what_was_changed_reaches_the_stages_called_then(manager: cf.ArtifactManager, cacher: Any) -> None:
    record = loaded(manager, cacher)
    before = see(record.make_copy())
    record.state["d"].append(10)
    assert see(record).state["seen"] == [1, 2, 10]
    record.output.append(5)  # an output of `see`, which is not what is given to it
    assert record.state["seen"] == [1, 2, 10, 5]
    record.state["d"].append(20)
    assert see(record).state["seen"] == [1, 2, 10, 20]
    assert before.state["seen"] == [1, 2]
    assert loaded(manager, cacher, "other").state["d"] == [1, 2]


def test_it_reaches_copies_and_aggregates(manager: cf.ArtifactManager) -> None:
    record, other = loaded(manager), loaded(manager, None, "other")
    record.output.append(10)
    copied = record.make_copy(add_to_manager=False)
    record.state["d"].append(20)
    assert see(copied).state["seen"] == [1, 2, 10]
    members = [record, other, copied]
    assert gather(cf.Record(manager, None), members).output == [[1, 2, 10, 20], [1, 2], [1, 2, 10]]
    assert gather_states(cf.Record(manager, None), [record, other]).output == [{"d": [1, 2, 10, 20]}, {"d": [1, 2]}]


def test_what_two_records_have_read_is_changed_for_one(manager: cf.ArtifactManager) -> None:
    one, two = loaded(manager), loaded(manager)
    assert one.state["d"] == two.state["d"]
    one.state["d"].append(10)
    assert [see(one).state["seen"], see(two).state["seen"]] == [[1, 2, 10], [1, 2]]


@pytest.mark.parametrize("live", [True, False])
def test_the_same_change_is_the_same_artifact(opened: Open, calls: Path, live: bool) -> None:
    for _ in range(2):
        record = loaded(opened(live=live))
        record.state["d"].append(10)
        assert counted(record, calls=str(calls)).state["seen"] == 3
        assert calls.read_text() == "."
    record.state["d"].append(11)
    assert counted(record, calls=str(calls)).state["seen"] == 4
    assert calls.read_text() == ".."


def test_what_was_only_read_is_the_artifact_itself(opened: Open, calls: Path) -> None:
    counted(loaded(opened()), calls=str(calls))
    record = loaded(opened())
    record.state["d"].append(10)
    record.state["d"].pop()
    assert counted(record, calls=str(calls)).state["seen"] == 2
    assert calls.read_text() == "."


class Summed:
    """An object that keeps what it computes from its content."""

    def __init__(self) -> None:
        self.content = [1, 2]

    @functools.cached_property
    def total(self) -> int:
        return sum(self.content)

    def __len__(self) -> int:
        return len(self.content)


@cf.stage(None, ["d"], [PickleCacher])
def make_summed(record: cf.Record) -> Any:
    return Summed()


def test_what_an_object_keeps_of_its_content_changes_nothing(opened: Open, calls: Path) -> None:
    counted(make_summed(cf.Record(opened(), Params("only"))), calls=str(calls))
    record = make_summed(cf.Record(opened(), Params("only")))
    assert record.state["d"].total == 3
    assert counted(record, calls=str(calls)).state["seen"] == 2
    assert calls.read_text() == "."


@cf.stage(None, ["d"], [PickleCacher])
def make_table(record: cf.Record) -> Any:
    return pd.DataFrame({"a": np.arange(300_000), "b": np.arange(300_000) / 2})


@cf.stage(["d"], ["total"])
def total(record: cf.Record, d: Any) -> Any:
    return float(d["a"].sum())


def test_large_tables(manager: cf.ArtifactManager) -> None:
    record = make_table(cf.Record(manager, Params("large")))
    before = float(record.state["d"]["a"].sum())
    record.state["d"].loc[7, "a"] = 0
    assert total(record).output == before - 7
    record.state["d"]["a"] = 1
    assert total(record).output == 300_000


def test_a_large_value_that_is_changed_again_before_its_stage_runs(opened: Open) -> None:
    with opened(live=False) as manager:
        record = make_table(cf.Record(manager, Params("large")))
        record.state["d"]["a"] = 1
        total(record)
        record.state["d"]["a"] = 2
        with pytest.raises(ValueChangedError, match=r"'d', put .* or changed there by hand, was changed after"):
            total(record)
        manager.close(status="failed")


def test_a_stage_that_is_called_again_makes_its_value_anew(manager: cf.ArtifactManager) -> None:
    record = loaded(manager)
    record.state["d"].append(10)
    load_with(PickleCacher)(record)
    assert record.state["d"] == [1, 2]
    assert see(record).output == [1, 2]


def test_a_lazy_value_is_another_object_at_each_read(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("d")], [PickleCacher])
    def load(record: cf.Record) -> Any:
        return [1, 2]

    record = load(cf.Record(manager, Params("only")))
    record.state["d"].append(10)
    assert record.state["d"] == [1, 2] == see(record).output


def test_values_that_cannot_be_changed_are_not_looked_at(
    manager: cf.ArtifactManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cf.stage(None, ["a", "b", "c"])
    def make(record: cf.Record) -> Any:
        return 1, "text", (1, None)

    monkeypatch.setattr("curidask.session.snapshots._mark", lambda value: pytest.fail(f"looked into {value!r}"))
    record = make(cf.Record(manager, Params("only")))
    assert record.output == (1, "text", (1, None))
    assert cf.stage(["a", "b", "c"], ["d"])(lambda record, a, b, c: repr((a, b, c)))(record).output


class Lock:
    """What can be neither pickled nor told apart."""

    def __init__(self) -> None:
        self.held = threading.Lock()
        self.n = 0


@cf.stage(None, ["d"])
def make_lock(record: cf.Record) -> Any:
    return Lock()


@cf.stage(["d"], ["n"])
def count(record: cf.Record, d: Any) -> Any:
    return d.n


def test_what_is_one_object_for_all(manager: cf.ArtifactManager) -> None:
    record = make_lock(cf.Record(manager, Params("only")))
    record.state["d"].n = 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count(record).output == 7


class LockCacher(cf.caching.Cacheable):
    """Gives another object at each load."""

    def save(self, obj: Any) -> str:
        path = self.get_path(".lock")
        Path(path).write_text(str(obj.n))
        return path

    def load(self) -> Any:
        made = Lock()
        made.n = int(Path(self.get_path(".lock")).read_text())
        return made


def test_what_cannot_be_compared_is_told_of_once(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["d"], [LockCacher])
    def make_stored(record: cf.Record) -> Any:
        return Lock()

    record = make_stored(cf.Record(manager, Params("only")))
    record.state["d"].n = 7
    with pytest.warns(UserWarning, match=r"It cannot be told whether 'd' .*Record 0.* \(Lock\)") as told:
        assert count(record).output == 0
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count(record)


def test_what_was_changed_and_has_no_identity(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["d"], [PickleCacher])
    def make_iterator(record: cf.Record) -> Any:
        return [iter([1, 2])]

    record = make_iterator(cf.Record(manager, Params("only")))
    next(record.state["d"][0])
    with pytest.raises(CuridaskError, match="'d'"):
        describe(record)


def test_setdefault_gives_the_value(manager: cf.ArtifactManager) -> None:
    record = loaded(manager)
    record.state.setdefault("d", []).append(10)
    record.state.setdefault("e", []).append(1)
    assert see(record).output == [1, 2, 10]
    assert record.state["e"] == [1]
