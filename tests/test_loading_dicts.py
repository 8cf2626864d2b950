"""The dicts in which a stage looks up its inputs: its record's state, and what an aggregate gathers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.errors import MissingInputError, StageAccessError, UndeclaredInputError


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("dicts", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


@pytest.fixture
def records(manager: cf.ArtifactManager) -> list[cf.Record]:
    """Two, of which the first alone has a ``b``."""

    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return record.params.x

    @cf.stage(None, ["b"], [JsonCacher])
    def more(record: Any) -> Any:
        return 7

    one, two = (make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2))
    return [more(one), two]


# --- the state -------------------------------------------------------------------------------------------------------
GOING_THROUGH: list[Callable[[Any], Any]] = [
    list,
    len,
    sorted,
    dict,
    bool,
    lambda state: {**state},
    lambda state: list(state.keys()),
    lambda state: list(state.values()),
    lambda state: list(state.items()),
    lambda state: state.copy(),
    lambda state: state | {},
    lambda state: list(reversed(state)),
]
ASKING: list[Callable[[Any], Any]] = [
    lambda state: state["b"],
    lambda state: state.get("b"),
    lambda state: state.get("b", 3),
    lambda state: "b" in state,
]


@pytest.mark.parametrize("look", [*ASKING, *GOING_THROUGH])
def test_what_is_not_declared_is_refused_however_it_is_asked_for(
    manager: cf.ArtifactManager, records: list[cf.Record], look: Callable[[Any], Any]
) -> None:
    @cf.stage(["a"], ["c"])
    def one(record: Any, a: Any) -> Any:
        return look(record.state)

    @cf.aggregate(["a"], ["c"])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return look(records[0].state)

    for call in (lambda: one(records[0]), lambda: gather(cf.Record(manager, None), records)):
        with pytest.raises(UndeclaredInputError, match="is not a declared input") as caught:
            call()
        assert "`inputs`" in str(caught.value)


@pytest.mark.parametrize("look", [*ASKING[1:], *GOING_THROUGH])
def test_what_is_declared_is_there_however_it_is_asked_for(
    manager: cf.ArtifactManager, records: list[cf.Record], look: Callable[[Any], Any]
) -> None:
    def plain(value: Any) -> Any:
        return value if isinstance(value, int | bool | str | None) else type(value)(value)

    @cf.aggregate(["a", "b"], ["c"])
    def gather(record: Any, records: Any, a: Any, b: Any) -> Any:
        return [plain(look(each.state)) for each in records]

    @cf.aggregate(None, ["c"])
    def gather_all(record: Any, records: Any) -> Any:
        return [plain(look(each.state)) for each in records]

    expected = [plain(look({"a": 1, "b": 7})), plain(look({"a": 2}))]
    with pytest.warns(UserWarning, match="has no b"):
        assert gather(cf.Record(manager, None), records).output == expected
    assert gather_all(cf.Record(manager, None), records).output == expected


def test_what_a_record_lacks(manager: cf.ArtifactManager, records: list[cf.Record]) -> None:
    @cf.aggregate(None, ["c"])
    def gather(record: Any, records: Any) -> Any:
        return records[1].state["b"]

    @cf.stage(["a", "z"], ["c"], suppress_missing_inputs=True)
    def optional(record: Any, a: Any, z: Any = 5) -> Any:
        return a, z, "z" in record.state, record.state.get("z", 9), list(record.state), dict(record.state)

    with pytest.raises(MissingInputError, match="The record has no 'b'"):
        gather(cf.Record(manager, None), records)
    assert optional(records[1]).output == (2, 5, False, 9, ["a"], {"a": 2})


CHANGES: list[Callable[[Any], Any]] = [
    lambda state: state.__setitem__("a", 1),
    lambda state: state.__delitem__("a"),
    lambda state: state.pop("a"),
    lambda state: state.popitem(),
    lambda state: state.setdefault("z", 1),
    lambda state: state.update(a=1),
    lambda state: state.clear(),
    lambda state: state.__ior__({"a": 1}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_cannot_change_a_state(
    manager: cf.ArtifactManager, records: list[cf.Record], change: Callable[[Any], Any]
) -> None:
    @cf.stage(["a"], ["c"])
    def one(record: Any, a: Any) -> Any:
        return change(record.state)

    @cf.aggregate(["a"], ["c"])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return change(records[1].state)

    for call in (lambda: one(records[1]), lambda: gather(cf.Record(manager, None), records)):
        with pytest.raises(StageAccessError, match=r"cannot change a record's state(.|\n)*`outputs` and return it"):
            call()


# --- what an aggregate gathers ---------------------------------------------------------------------------------------
USES: list[Callable[[Any, Any], Any]] = [
    lambda a, records: isinstance(a, dict),
    lambda a, records: {each.name: value for each, value in a.copy().items()},
    lambda a, records: sorted((a | {1: 3}).values()),
    lambda a, records: sorted(({1: 3} | a).values()),
    lambda a, records: [each.name for each in reversed(a)],
    lambda a, records: [a.get(records[0]), a.get("x"), a.get("x", 3), records[1] in a, "x" in a],
    lambda a, records: [a.pop(records[0]), a.pop(records[0], 9), len(a), list(a) == records[1:]],
    lambda a, records: [a.popitem()[1], len(a)],
    lambda a, records: [a.setdefault(records[0], 5), a.setdefault("x", 5), a["x"], len(a)],
    lambda a, records: [a.update({"x": 4}), a["x"], sum(a.values())],
    lambda a, records: [a.update({records[0]: 4}), a[records[0]], dict(a) == a, a == {records[0]: 4, records[1]: 2}],
    lambda a, records: [a.clear(), len(a), bool(a), a == {}, a != {}],
    lambda a, records: json.dumps({each.name: value for each, value in dict(a).items()}),
    lambda a, records: sum({**a}.values()),
    lambda a, records: max(a, key=a.get).name,
]


@pytest.mark.parametrize("use", USES)
def test_what_an_aggregate_gathers_is_a_dict(
    manager: cf.ArtifactManager, records: list[cf.Record], use: Callable[[Any, Any], Any]
) -> None:
    @cf.aggregate(["a"], ["c"])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return use(a, records)

    @cf.aggregate(["a"], ["c"])
    def plainly(record: Any, records: Any, a: Any) -> Any:
        return use({each: a[each] for each in records}, records)

    expected = plainly(cf.Record(manager, None), records).output
    assert gather(cf.Record(manager, None), records).output == expected


@pytest.mark.parametrize("cacher", [None, PickleCacher])
def test_it_can_be_returned(manager: cf.ArtifactManager, records: list[cf.Record], cacher: Any) -> None:
    @cf.aggregate(["a"], ["c"], cacher and [cacher])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return a

    returned = gather(cf.Record(manager, None), records).output
    assert type(returned) is dict
    assert {each.name: value for each, value in returned.items()} == {"p1": 1, "p2": 2}


def test_values_are_loaded_when_they_are_looked_at(
    manager: cf.ArtifactManager, records: list[cf.Record], tmp_path: Path
) -> None:
    loaded = []

    class Told(JsonCacher):
        def load(self) -> Any:
            loaded.append(self.record.name)
            return super().load()

    @cf.stage(None, ["told"], [Told])
    def make(record: Any) -> Any:
        return record.name

    @cf.aggregate(["told"], ["c"])
    def gather(record: Any, records: Any, told: Any) -> Any:
        before = [len(told), list(told) == records, records[0] in told, list(loaded)]
        return [*before, [told[records[1]], list(loaded)], [next(iter(told.values())), list(loaded)]]

    for each in records:
        make(each)
    loaded.clear()
    expected = [2, True, True, [], ["p2", ["p2"]], ["p1", ["p2", "p1"]]]
    assert gather(cf.Record(manager, None), records).output == expected
