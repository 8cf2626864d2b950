"""What a stage is called with is as it was at the call, and each stage's own: in this process as on workers."""

from __future__ import annotations

import copy
import csv
import enum
import functools
import io
import os
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.errors import (
    CuridaskError,
    ParametersChangedError,
    ReadOnceError,
    RunFailedError,
    StageFailedError,
    UnpicklableError,
    ValueChangedError,
)
from curidask.execution import copies

Open = Callable[..., cf.ArtifactManager]


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    layers: list[int] = field(default_factory=lambda: [1])
    note: Any = None
    weights: Any = None
    hash_representations: dict[str, Any] = cf.set_hash_functions(note=None)  # noqa: RUF009


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    """Two workers that all sessions of this file share."""
    with local(2) as connection:
        yield connection


@pytest.fixture(params=["in process", "2 workers"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where stages run, as arguments of a manager."""
    if request.param == "in process":
        return {"parallel": 0}
    return {"cluster": request.getfixturevalue("workers").client}


@pytest.fixture
def opened(where: dict[str, Any], tmp_path: Path) -> Iterator[Open]:
    """Opens sessions on one cache."""
    made: list[cf.ArtifactManager] = []

    def open_session(**settings: Any) -> cf.ArtifactManager:
        made.append(cf.ArtifactManager("snap", cache=str(tmp_path / "cache"), **{**where, **settings}))
        return made[-1]

    yield open_session
    for manager in made:
        manager.close(status="failed")


@pytest.fixture(params=["live", "run"])
def manager(request: pytest.FixtureRequest, opened: Open) -> cf.ArtifactManager:
    return opened(live=request.param == "live")


@pytest.fixture
def in_process(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("snap", cache=str(tmp_path / "cache"), live=False, parallel=0) as made:
        yield made


def big(value: float = 0.0) -> np.ndarray:
    """An array that is too large to be copied at each call."""
    return np.full(300_000, value)


def failure(manager: cf.ArtifactManager) -> str:
    """Finish a run of which one stage fails; the error in full."""
    with pytest.raises(RunFailedError) as caught:
        manager.finish()
    (error,) = caught.value.failures
    return str(error)


def note(path: Path) -> int:
    """Count a call; how many there were before."""
    with path.open("ab") as file:
        file.write(b"x")
    return path.stat().st_size - 1


# --- one snapshot, at the call ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("live", [True, False])
def test_keyword_arguments_are_those_of_the_call(opened: Open, tmp_path: Path, live: bool) -> None:
    calls = tmp_path / "calls"

    @cf.stage(None, ["rate"], [JsonCacher])
    def train(record: Any, options: Any) -> Any:
        note(calls)
        return [options["lr"], options["layers"]]

    def results() -> list[Any]:
        session, options = opened(live=live), {"lr": 0, "layers": []}
        records = []
        for lr in (1, 2, 3):
            options["lr"] = lr
            options["layers"].append(lr)
            records.append(train(cf.Record(session, None), options=options))
        options.clear()
        return [record.state["rate"] for record in records]

    assert results() == [[1, [1]], [2, [1, 2]], [3, [1, 2, 3]]]
    assert results() == [[1, [1]], [2, [1, 2]], [3, [1, 2, 3]]]
    assert calls.stat().st_size == 3


def test_values_put_into_a_state_are_those_of_the_call(manager: cf.ArtifactManager) -> None:
    @cf.stage(["rows"], ["n"], [JsonCacher])
    def count(record: Any, rows: Any) -> Any:
        return len(rows)

    @cf.aggregate(["rows"], ["all"])
    def gather(record: Any, records: Any, rows: Any) -> Any:
        return [len(value) for value in rows.values()]

    rows = [1]
    records = [cf.Record(manager, None) for _ in range(2)]
    gathered = []
    for record in records:
        record.state["rows"] = rows
        count(record)
        gathered.append(gather(cf.Record(manager, None), records[:1]))
        rows.append(2)
    rows.extend([3, 4])
    assert [record.state["n"] for record in records] == [1, 2]
    assert [record.state["all"] for record in gathered] == [[1], [2]]
    assert records[0].state["rows"] is rows


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (np.zeros(3), lambda value: value.__setitem__(0, 9.0)),
        (pd.DataFrame({"a": [1, 2]}), lambda value: value.__setitem__("a", 0)),
        ({"a": {1, 2}}, lambda value: value["a"].clear()),
        ([Params("inner")], lambda value: value[0].layers.clear()),
        ({"a": [1], "f": lambda: 1}, lambda value: value["a"].clear()),
        ([[1], lambda: big()], lambda value: value[0].clear()),
    ],
    ids=["array", "table", "set", "dataclass", "beside a lambda", "in a list beside a lambda"],
)
def test_all_kinds_of_small_values_are_copied(
    in_process: cf.ArtifactManager, value: Any, change: Callable[[Any], Any]
) -> None:
    @cf.stage(None, ["text"])
    def show(record: Any, value: Any) -> Any:
        return str(value.a if isinstance(value, pd.DataFrame) else value)

    value = copy.deepcopy(value)
    text = str(value.a if isinstance(value, pd.DataFrame) else value)
    record = show(cf.Record(in_process, None), value=value)
    change(value)
    assert record.state["text"].split(" at ")[0] == text.split(" at ")[0]


def test_the_parameter_set_is_that_of_the_call(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["seen"], [JsonCacher])
    def first(record: Any) -> Any:
        return [record.params.x, record.params.layers, record.params.note]

    @cf.stage(None, ["again"])
    def second(record: Any) -> Any:
        return record.params.note

    params = Params("p", note=["before"])
    record = first(cf.Record(manager, params))
    params.note.append("after")  # is no part of the hash
    second(record)
    params.layers.append(2)
    params.x = 5
    assert record.state["seen"] == [1, [1], ["before"]]
    assert record.state["again"] == ["before", "after"]
    with pytest.raises(ParametersChangedError, match="'p'"):
        second(record)


def test_what_is_no_part_of_the_hash_is_as_it_is_when_the_stage_is_called(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["seen"])
    def first(record: Any) -> Any:
        return record.params.note

    params = Params("p", note=["made"])
    record = cf.Record(manager, params)
    params.note = ["called"]
    first(record)
    params.note = ["later"]
    assert record.state["seen"] == ["called"]


def test_one_set_may_be_changed_for_each_record(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["seen"], [JsonCacher])
    def show(record: Any) -> Any:
        return record.params.x

    @cf.aggregate(["seen"], ["all"])
    def gather(record: Any, records: Any, seen: Any) -> Any:
        return [r.params.x for r in records] + list(seen.values())

    params, records = Params("p"), []
    for x in (1, 2, 3):
        params.x = x
        records.append(show(cf.Record(manager, params)))
    assert [record.state["seen"] for record in records] == [1, 2, 3]
    with pytest.raises(ParametersChangedError, match="'p'"):
        gather(cf.Record(manager, None), records)


def test_a_copy_of_a_record_keeps_the_set_that_it_was_made_from(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["seen"])
    def show(record: Any) -> Any:
        return [(r.params.x, r.params.layers) for r in record.input_records]

    params = Params("p")
    other = cf.Record(manager, params).make_copy(Params("q"))
    params.layers.append(2)
    assert show(other).state["seen"] == [(1, [1])]


def test_a_function_that_was_defined_anew_is_not_taken_for_the_one_before(
    in_process: cf.ArtifactManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cf.stage(None, ["seen"])
    def call(record: Any, given: Any) -> Any:
        return given["f"]()

    one = call(cf.Record(in_process, None), given={"f": _measure})
    monkeypatch.setitem(globals(), "_measure", _measure_anew)
    monkeypatch.setattr(_measure_anew, "__qualname__", "_measure")
    two = call(cf.Record(in_process, None), given={"f": _measure})
    assert (one.state["seen"], two.state["seen"]) == ("old", "new")


def _measure() -> str:
    return "old"


def _measure_anew() -> str:
    return "new"


class _Holder:
    def __init__(self, function: Any) -> None:
        self.function = function


FORMS: dict[str, Callable[[Any], tuple[Any, Callable[[Any], Any]]]] = {
    "itself": lambda f: (f, lambda given: given(2)),
    "in a dict": lambda f: ({"f": f, "n": [1]}, lambda given: given["f"](2)),
    "partial": lambda f: (functools.partial(f, 2), lambda given: given()),
    "attribute": lambda f: (_Holder(f), lambda given: given.function(2)),
    "in a tuple": lambda f: ((f,), lambda given: given[0](2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_functions_hold_what_they_held_at_the_call(manager: cf.ArtifactManager, form: str) -> None:
    factors = {"all": 1}

    @cf.stage(None, ["n"], [JsonCacher])
    def call(record: Any, given: Any) -> Any:
        return FORMS[form](abs)[1](given)

    def made(plus: int) -> Any:
        return lambda x, more=factors: (x * k + plus) * factors["all"] + more["all"] - 1

    records = []
    for k in (1, 2, 3):
        records.append(call(cf.Record(manager, None), given=FORMS[form](made(plus=k))[0]))
        factors["all"] += 1
    assert [record.state["n"] for record in records] == [3, 13, 29]


def test_functions_that_share_a_variable_share_it_in_the_copy() -> None:
    def pair() -> tuple[Callable[[], int], Callable[[int], None]]:
        held = 1

        def put(value: int) -> None:
            nonlocal held
            held = value

        return (lambda: held), put

    get, put = copies.private_copy(original := pair())
    put(5)
    assert (get(), original[0]()) == (5, 1)


def test_functions_that_call_themselves_are_copied() -> None:
    base = [0]

    def factorial(n: int) -> int:
        return base[0] + 1 if n < 2 else n * factorial(n - 1)

    copied = copies.private_copy(factorial)
    base[0] = 100
    assert copied(5) == 120
    assert copied.__qualname__.endswith("factorial")


# --- objects whose class was defined in a function --------------------------------------------------------------------
@cf.stage(None, ["got"], [JsonCacher])
def ask(record: Any, obj: Any) -> Any:
    return obj.get()


@cf.stage(None, ["got"], [JsonCacher])
def ask_class(record: Any, kind: type) -> Any:
    return kind().get()


def by_closure(k: int) -> type:
    class Local:
        def get(self) -> int:
            return k

    return Local


def by_property(k: int) -> type:
    class Local:
        @property
        def held(self) -> int:
            return k

        def get(self) -> int:
            return int(self.held)

    return Local


def by_attribute(k: int) -> type:
    class Local:
        n: ClassVar = [k]

        def get(self) -> int:
            return self.n[0]

    return Local


def by_default(k: int) -> type:
    class Local:
        def get(self, n: int = k) -> int:
            return n

    return Local


def by_base(k: int) -> type:
    class Local(by_closure(k)):  # type: ignore[misc]
        pass

    return Local


def by_wrapped(k: int) -> type:
    class Local:
        @functools.lru_cache  # noqa: B019
        def get(self) -> int:
            return k

    return Local


def by_fields(k: int) -> type:
    @dataclass(frozen=True)
    class Local:
        x: int = 3

        def get(self) -> int:
            return k

    return Local


class HoldsK:
    k = 0

    def get(self) -> int:
        return self.k


class Doubled:
    k = 0

    def get(self) -> int:
        return self.k * 2 // 2


class Naming(type):
    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        return super().__new__(cls, name, bases, {**namespace, "get": lambda self: self.k})


GETS = [lambda self: 1, lambda self: 2, lambda self: 3, lambda self: 4, lambda self: 5]


def by_type(k: int) -> type:
    return type("D", (HoldsK,), {"k": k})


def by_new_class(k: int) -> type:
    return types.new_class("D", (HoldsK,), {}, lambda namespace: namespace.update(k=k))


def by_metaclass(k: int) -> type:
    return Naming("D", (), {"k": k})  # type: ignore[no-any-return]


def by_function_of_a_type(k: int) -> type:
    return type("D", (), {"get": GETS[k - 1]})


def by_made_fields(k: int) -> type:
    made = make_dataclass("D", [("x", int, 3)], namespace={"get": lambda self: self.offset + k - 1})
    made.offset = 1  # type: ignore[attr-defined]
    return made


def by_later_function(k: int) -> type:
    class Local:
        pass

    Local.get = GETS[k - 1]  # type: ignore[attr-defined]
    return Local


def by_branch(k: int) -> type:
    class Local:
        if k % 2:

            def get(self) -> int:
                return self.k

        else:

            def get(self) -> int:
                return self.k + 0

        n = 1

    Local.k = k  # type: ignore[attr-defined]
    return Local


def by_same_statement(k: int) -> type:
    """Of the name of another class of the module, which it is not."""
    return type("HoldsK", (), {"k": k, "get": HoldsK.get})


LOCAL = [by_closure, by_property, by_attribute, by_default, by_base, by_wrapped, by_fields]
CALLED = [by_type, by_new_class, by_metaclass, by_function_of_a_type, by_made_fields, by_later_function]
CALLED += [by_branch, by_same_statement]
"""Makers of classes of which no statement says all."""


@pytest.mark.parametrize("make", LOCAL)
def test_objects_of_local_classes_are_what_their_classes_hold(
    manager: cf.ArtifactManager, make: Callable[[int], type]
) -> None:
    records = [ask(cf.Record(manager, Params("a")), make(k)()) for k in (1, 2, 3)]
    records += [ask_class(cf.Record(manager, Params("b")), make(k)) for k in (4, 5)]
    inside = ask(cf.Record(manager, Params("c", note=1, weights=[make(6)()])), make(7)())
    manager.finish()
    assert [record.state["got"] for record in [*records, inside]] == [1, 2, 3, 4, 5, 7]


def test_objects_of_classes_that_a_call_made_are_what_their_classes_hold(opened: Open) -> None:
    manager = opened(live=False)
    records = [[ask(cf.Record(manager, Params("a")), make(k)()) for k in (1, 2, 3)] for make in CALLED]
    for made, make in zip(records, CALLED, strict=True):
        made += [ask_class(cf.Record(manager, Params("b")), make(k)) for k in (4, 5)]
    manager.finish()
    found = {make.__name__: [r.state["got"] for r in made] for made, make in zip(records, CALLED, strict=True)}
    assert found == {make.__name__: [1, 2, 3, 4, 5] for make in CALLED}


@pytest.mark.parametrize("make", [*LOCAL, *CALLED])
def test_parameter_sets_with_objects_of_local_classes_are_different(make: Callable[[int], type]) -> None:
    one, again, other = (Params("a", weights=[make(k)()]).params_hash() for k in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    "different",
    [
        lambda: [type("D", (base,), {"k": 1}) for base in (HoldsK, Doubled)],
        lambda: [type("D", (), {"get": get}) for get in (lambda self: 1, lambda self: 2)],
        lambda: [kind("D", (), {"k": 1}) for kind in (type, Naming)],
        lambda: [twice_a_statement(which) for which in (1, 2)],
        lambda: [by_given_base(base) for base in (HoldsK, Doubled)],
        lambda: [type(enum.Enum("En", {"A": 1}, type=mixed(n)).A) for n in (1, 2)],
        lambda: [enum.Enum("En", {"A": 1, "B": n}) for n in (1, 2)],
    ],
    ids=["bases", "functions", "metaclasses", "statements", "base of an argument", "mixin of an enum", "members"],
)
def test_classes_of_one_name_are_different(different: Callable[[], list[type]]) -> None:
    def of(values: list[Any]) -> str:
        return Params("a", weights=values).params_hash()

    one, other = ([kind.A if issubclass(kind, enum.Enum) else kind() for kind in different()] for _ in range(2))
    assert of(one) == of(other) != of(one[::-1])
    kinds, again = different(), different()
    assert of(kinds) == of(again) != of(kinds[::-1])


def twice_a_statement(which: int) -> type:
    if which == 1:

        class Local:
            def get(self) -> int:
                return 1

    else:

        class Local:  # type: ignore[no-redef]
            def get(self) -> int:
                return 2

    return Local


def by_given_base(base: type) -> type:
    class Local(base):  # type: ignore[misc]
        pass

    return Local


def mixed(n: int) -> type:
    return type("Mix", (), {"__call__": [lambda self: 1, lambda self: 2][n - 1]})


def test_a_local_class_that_changes_after_the_call_is_an_error(opened: Open) -> None:
    manager = opened(live=False)
    for k in (1, 2):

        class Local:
            def get(self) -> int:
                return k  # noqa: B023

        ask(cf.Record(manager, Params("a")), Local())
    told = failure(manager)
    assert "was changed after the call" in told
    assert "Local.get.k" in told


def test_an_attribute_of_a_local_class_that_changes_after_the_call_is_an_error(opened: Open) -> None:
    manager = opened(live=False)
    kind = by_attribute(1)
    ask(cf.Record(manager, Params("a")), {"x": kind()}["x"])
    kind.n = [7]  # type: ignore[attr-defined]
    told = failure(manager)
    assert "was changed after the call" in told
    assert "Local.n" in told


def test_local_classes_that_hold_nothing_count_as_before(manager: cf.ArtifactManager) -> None:
    @dataclass
    class Options:
        lr: float = 0.1

    @cf.stage(None, ["same"], None)
    def give(record: Any, options: Any) -> Any:
        return options

    record = give(cf.Record(manager, Params("a")), Options(0.3))
    manager.finish()
    assert record.state["same"] == Options(0.3)


def test_a_local_class_that_leads_to_itself_counts(manager: cf.ArtifactManager) -> None:
    class Tree:
        def __init__(self, depth: int = 2) -> None:
            super().__init__()
            self.child = Tree(depth - 1) if depth else None

        def get(self) -> int:
            return 1 + (self.child.get() if self.child else 0)

    record = ask(cf.Record(manager, Params("a")), Tree())
    manager.finish()
    assert record.state["got"] == 3


def test_what_a_local_class_holds_and_cannot_be_told_is_refused_by_name(manager: cf.ArtifactManager) -> None:
    lock = object()

    class Local:
        def get(self) -> bool:
            return lock is None

    with pytest.raises(CuridaskError, match=r"Local\.get\.lock"):
        ask(cf.Record(manager, Params("a")), Local())


class Patched:
    def get(self) -> int:
        return self.forward()

    def forward(self) -> int:
        return 1


def forward(self: Any) -> int:
    return 2


def new_forward(self: Any) -> int:
    return 3


def patched(function: Callable[..., Any]) -> Patched:
    made = Patched()
    made.forward = types.MethodType(function, made)  # type: ignore[method-assign]
    return made


class Called:
    def __init__(self, function: Callable[[], int]) -> None:
        self.function = function

    def get(self) -> int:
        return self.function()


def test_functions_that_are_bound_to_an_object_alone_go_with_it(manager: cf.ArtifactManager) -> None:
    given = [patched(forward), patched(new_forward), patched(lambda self: 4), Called(types.MethodType(int, 5))]
    given += [Called(Patched().forward), Called(types.MethodType(lambda n: n + 1, 5))]
    records = [ask(cf.Record(manager, None), obj=each) for each in given]
    records += [ask(cf.Record(manager, Params("a", weights=each)), obj=each) for each in given]
    manager.finish()
    assert [record.state["got"] for record in records] == [2, 3, 4, 5, 1, 6] * 2


class AtHome:
    """An object that other processes cannot make again."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["home"] != os.getpid():
            raise RuntimeError("not at home")
        self.__dict__.update(state)


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __curidask_hash__(self) -> str:
        return "locked"


@pytest.mark.parametrize(
    ("given", "said"),
    [(AtHome, "RuntimeError: not at home"), (Locked, "The value in the state 'given' (Locked) cannot be sent")],
)
def test_what_cannot_be_sent_is_told(tmp_path: Path, workers: Connection, given: type, said: str) -> None:
    @cf.stage(["given"], ["o"], [JsonCacher])
    def take(record: Any, given: Any) -> int:
        return 1

    manager = cf.ArtifactManager("sent", cache=str(tmp_path / "cache"), cluster=workers.client)
    record = cf.Record(manager, None)
    record.state["given"] = given()
    with pytest.raises(CuridaskError) as caught:
        assert take(record).state["o"]
    if given is Locked:
        with pytest.raises(CuridaskError, match="cannot be sent"):  # whoever asks again is told again
            assert record.state["o"]
        manager.close()  # which waits for nothing that was never sent
    else:
        manager.close(status="failed")
    told = str(caught.value)
    assert said in told
    assert "stage 'take'" in told
    assert "use plain data and make the object inside the stage" in told


def tagged() -> int:
    return 5


def test_attributes_of_functions_count(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["tag"], [JsonCacher])
    def ask_tag(record: Any, function: Any) -> Any:
        return function.tag

    records = []
    for tag in (1, 2):

        def local() -> None:
            pass

        local.tag = tag  # type: ignore[attr-defined]
        records.append(ask_tag(cf.Record(manager, None), function=local))
    manager.finish()
    assert [record.state["tag"] for record in records] == [1, 2]


@pytest.mark.parametrize("given", [lambda: tagged, lambda: [tagged]])
def test_an_attribute_of_a_function_that_changes_after_the_call_is_an_error(
    opened: Open, given: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    @cf.stage(None, ["tag"], [JsonCacher])
    def ask_tag(record: Any, given: Any) -> Any:
        return (given[0] if isinstance(given, list) else given).tag

    manager = opened(live=False)
    monkeypatch.setattr(tagged, "tag", 1, raising=False)
    ask_tag(cf.Record(manager, None), given=given())
    monkeypatch.setattr(tagged, "tag", 2)
    assert "was changed after the call" in failure(manager)


def test_what_is_large_in_a_function_is_watched(in_process: cf.ArtifactManager) -> None:
    @cf.stage(None, ["n"], [JsonCacher])
    def call(record: Any, given: Any) -> Any:
        return float(given())

    data = big(1.0)
    call(cf.Record(in_process, None), given=lambda: data.sum())
    data[0] = 5.0
    assert "was changed after the call" in failure(in_process)


# --- what is too large to be copied ----------------------------------------------------------------------------------
@pytest.fixture
def total() -> Any:
    @cf.stage(None, ["total"], [JsonCacher])
    def total(record: Any, data: Any) -> Any:
        data[0] += 1
        return float(data.sum())

    return total


def test_what_is_large_may_be_used_again_and_changed_when_it_was_used(opened: Open, total: Any) -> None:
    session, data = opened(), big()
    for value in (0.0, 1.0):
        data[:] = value
        records = [total(cf.Record(session, Params(x=x)), data=data) for x in (1, 2)]
        assert [record.state["total"] for record in records] == [value * len(data) + 1] * 2
    assert data[0] == 1.0


def test_what_is_large_is_refused_when_it_was_changed_at_the_next_call(opened: Open, total: Any) -> None:
    session, data = opened(live=False), big()
    total(cf.Record(session, Params("p")), data=data)
    data[7] = 1.0
    with pytest.raises(ValueChangedError, match="'data' of the stage 'total' was changed"):
        total(cf.Record(session, Params("q", x=2)), data=data)


def test_what_is_large_is_refused_when_it_was_changed_before_the_stage_gets_it(opened: Open, total: Any) -> None:
    @cf.stage(["total"], ["after"])
    def after(record: Any, total: Any) -> Any:
        return total

    session, data = opened(live=False), big()
    record = after(total(cf.Record(session, Params("p")), data=data))
    other = after(total(cf.Record(session, Params("q")), data=big(1.0)))
    data[7] = 1.0
    text = failure(session)
    assert "ValueChangedError: The keyword argument 'data' of the stage 'total' was changed after the call" in text
    assert "Record 0 (p)" in text
    assert "deepcopy" in text
    assert other.state["after"] == 300_001.0
    with pytest.raises(StageFailedError, match="'data' of the stage 'total'"):
        assert record.state["after"]


def test_large_values_in_a_state_are_refused_when_they_were_changed(opened: Open) -> None:
    @cf.aggregate(["data"], ["n"])
    def gather(record: Any, records: Any, data: Any) -> Any:
        return [float(value.sum()) for value in data.values()]

    session = opened(live=False)
    records = [cf.Record(session, None) for _ in range(2)]
    for number, record in enumerate(records):
        record.state["data"] = big(number)
    final = gather(cf.Record(session, None), records)
    assert final.state["n"] == [0.0, 300_000.0]
    gather(cf.Record(session, None), records[:1])
    records[0].state["data"][0] = 1.0
    assert "put into the state of Record 0 (None) or changed there by hand, was changed after" in failure(session)


def test_large_parameter_sets_are_refused_when_they_were_changed(opened: Open) -> None:
    @cf.stage(None, ["n"])
    def show(record: Any) -> Any:
        record.params.weights[0] = 5.0
        return float(record.params.weights.sum())

    session = opened(live=False)
    sets = [Params("p", weights=big()), Params("q", weights=big(1.0))]
    first, second = [show(cf.Record(session, params)) for params in sets]
    sets[1].weights[3] = 0.0
    assert first.state["n"] == 5.0
    text = failure(session)
    assert "ParametersChangedError: The parameter set 'q' was changed after the call" in text
    assert "stage 'show'" in text
    with pytest.raises(ParametersChangedError, match="'q'"):
        show(second)
    assert sets[0].weights[0] == 0.0


def test_what_cannot_be_copied_is_watched(in_process: cf.ArtifactManager) -> None:
    @cf.stage(None, ["n"])
    def use(record: Any, thing: Any) -> Any:
        return thing.n

    thing = Uncopyable(1)
    use(cf.Record(in_process, None), thing=thing)
    thing.n = 2
    assert "'thing' of the stage 'use' was changed" in failure(in_process)


class Uncopyable:
    def __init__(self, n: int) -> None:
        self.n = n

    def __getstate__(self) -> dict[str, Any]:
        return {"n": self.n}

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("there is only one of it")


# --- nothing leaks from stage to stage -------------------------------------------------------------------------------
def test_each_stage_has_its_own_keyword_arguments(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["seen"])
    def count(record: Any, options: Any) -> Any:
        options["seen"] += 1
        options["who"].append(record.name)
        return [options["seen"], options["who"]]

    options = {"seen": 0, "who": []}
    records = [count(cf.Record(manager, Params(f"p{x}", x=x)), options=options) for x in range(4)]
    assert [record.state["seen"] for record in records] == [[1, [f"p{x}"]] for x in range(4)]
    assert options == {"seen": 0, "who": []}


def test_each_stage_has_its_own_parameters(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["one"])
    def first(record: Any) -> Any:
        record.params.layers.append(2)
        record.params.x = 7
        return [record.params.x, record.params.layers, record.args.layers]

    @cf.stage(["one"], ["two"])
    def second(record: Any, one: Any) -> Any:
        return [record.params.x, record.params.layers]

    @cf.aggregate(["two"], ["all"])
    def gather(record: Any, records: Any, two: Any) -> Any:
        for other in records:
            other.params.layers.append(3)
        return [other.params.layers for other in records]

    params = Params("p")
    record = second(first(cf.Record(manager, params)))
    final = [gather(cf.Record(manager, None), [record]) for _ in range(2)]
    assert record.state["one"] == [7, [1, 2], [1, 2]]
    assert record.state["two"] == [1, [1]]
    assert [made.state["all"] for made in final] == [[[1, 3]], [[1, 3]]]
    assert params == Params("p")


def test_each_stage_has_its_own_defaults(manager: cf.ArtifactManager) -> None:
    @cf.stage(["rows"], ["n"], suppress_missing_inputs=True)
    def count(record: Any, rows: Any = [], more: Any = {}, *, last: Any = [1], same: Any = UNSET) -> Any:  # noqa: B006
        rows.append(1)
        more[record.name] = 1
        last.append(2)
        return [len(rows), len(more), len(last), same is UNSET]

    records = [count(cf.Record(manager, Params(f"p{x}", x=x))) for x in range(4)]
    assert [record.state["n"] for record in records] == [[1, 1, 2, True]] * 4


class _Unset:
    def __reduce__(self) -> str:
        return "UNSET"


UNSET = _Unset()


def test_each_reader_has_its_own_input(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["rows", "table"])
    def make(record: Any) -> Any:
        return [1], np.zeros(3)

    @cf.stage(["rows", "table"], ["sum"])
    def spoil(record: Any, rows: Any, table: Any) -> Any:
        rows.append(2)
        table[:] = 1
        return sum(rows) + float(table.sum())

    record = make(cf.Record(manager, None))
    assert record.state["rows"] == [1]
    assert spoil(record).state["sum"] == 6.0
    assert spoil(record).state["sum"] == 6.0
    copied = record.make_copy()
    assert copied.state["rows"] == [1]
    assert copied.state["table"].tolist() == [0.0] * 3
    copied.state["rows"].append(5)
    assert spoil(copied).state["sum"] == 11.0
    assert spoil(record).state["sum"] == 6.0
    assert record.state["rows"] == [1]


def test_a_stage_may_read_its_input_from_its_state(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["held", "stored"], [None, PickleCacher])
    def make(record: Any) -> Any:
        return [1], [1]

    @cf.stage(["held", "stored"], ["seen"])
    def use(record: Any, held: Any, stored: Any) -> Any:
        held.append(2)
        stored.append(2)
        return [record.state["held"], record.state["stored"]]

    assert use(make(cf.Record(manager, None))).state["seen"] == [[1, 2], [1, 2]]


def test_an_aggregate_gets_a_value_anew_each_time_it_looks(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["rows"])
    def make(record: Any) -> Any:
        return [record.params.x]

    @cf.aggregate(["rows"], ["all"])
    def gather(record: Any, records: Any, rows: Any) -> Any:
        for other in records:
            rows[other].append(9)
            other.state["rows"].append(9)
        return [rows[other] + other.state["rows"] for other in records]

    made = [make(cf.Record(manager, Params(x=x))) for x in (1, 2)]
    final = gather(cf.Record(manager, None), made)
    if not manager.live:
        manager.finish()
    assert final.state["all"] == [[1, 1], [2, 2]]


@functools.cache
def loaded() -> Any:
    return [1], np.zeros(2)


def test_what_a_stage_keeps_of_what_it_returned_changes_nothing(opened: Open) -> None:
    """As with a loader that remembers what it loaded: in this process all sets get the very object from it."""
    loaded.cache_clear()

    @cf.stage(None, ["rows", "table"])
    def load(record: Any) -> Any:
        return loaded()

    @cf.stage(["rows", "table"], ["n"], [JsonCacher])
    def use(record: Any, rows: Any, table: Any) -> Any:
        rows.append(2)
        table[0] += 1
        return len(rows) + table[0]

    session = opened(live=False)
    records = [use(load(cf.Record(session, Params(x=x)))) for x in range(3)]
    session.finish()
    assert [record.state["n"] for record in records] == [3.0] * 3


def test_two_outputs_that_are_one_object_are_two(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a", "b"])
    def make(record: Any) -> Any:
        rows = np.zeros(2)
        return rows, rows[:1]

    @cf.stage(["a", "b"], ["seen"], [JsonCacher])
    def use(record: Any, a: Any, b: Any) -> Any:
        a[0] = 5
        return b.tolist()

    record = use(make(cf.Record(manager, None)))
    if not manager.live:
        manager.finish()
    assert record.state["seen"] == [0.0]


def test_another_attempt_begins_with_what_the_first_began_with(opened: Open, tmp_path: Path) -> None:
    @cf.stage(None, ["rows"])
    def make(record: Any) -> Any:
        return [1]

    @cf.stage(["rows"], ["n"], [JsonCacher], retries=1)
    def use(record: Any, rows: Any, options: Any) -> Any:
        rows.append(2)
        options.append(2)
        record.params.layers.append(2)
        if not note(tmp_path / "attempts"):
            raise OSError("not yet")
        return [rows, options, record.params.layers]

    session = opened(live=False)
    record = use(make(cf.Record(session, Params())), options=[1])
    session.finish()
    assert record.state["n"] == [[1, 2]] * 3


def test_a_large_value_with_one_reader_is_copied_once(
    in_process: cf.ArtifactManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cf.stage(None, ["data"])
    def make(record: Any) -> Any:
        return big()

    @cf.stage(["data"], ["sum"], [JsonCacher])
    def use(record: Any, data: Any) -> Any:
        return float(data.sum())

    copied: list[int] = []
    original = copies._copied
    monkeypatch.setattr(copies, "_copied", lambda view: copied.append(view.nbytes) or original(view))
    use(make(cf.Record(in_process, Params(x=1))))
    record = make(cf.Record(in_process, Params(x=2)))
    assert record.state["data"][0] == 0.0
    use(record)
    in_process.finish()
    size = big().nbytes
    assert copied.count(size) == 1 + (1 + 1 + 1)  # made, read by run(), read by the stage


# --- what can be read only once --------------------------------------------------------------------------------------
def numbers() -> Iterator[int]:
    yield from range(3)


OPEN = {
    "generator": numbers,
    "map": lambda: map(str, numbers()),
    "TextIOWrapper": lambda: Path(__file__).open(),  # noqa: SIM115
    "_io.BufferedReader": lambda: Path(__file__).open("rb"),  # noqa: SIM115
    "_csv.reader": lambda: csv.reader(io.StringIO("1,2")),
}


@pytest.mark.parametrize("kind", OPEN)
def test_what_can_be_read_once_is_no_value_that_several_may_read(manager: cf.ArtifactManager, kind: str) -> None:
    make_it = OPEN[kind]

    @cf.stage(None, ["rows"])
    def read(record: Any) -> Any:
        return make_it()

    with pytest.raises((StageFailedError, ReadOnceError)) as caught:
        read(cf.Record(manager, None)).state["rows"]
    name = kind.rpartition(".")[2]
    assert f"The output 'rows' is of type {name}, which can be read only once." in str(caught.value)
    assert "`list(...)`" in str(caught.value)
    assert "cacher" in str(caught.value)
    assert isinstance(caught.value if manager.live else caught.value.__cause__, ReadOnceError)


def test_what_can_be_read_once_is_found_inside_of_values(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["rows"])
    def read(record: Any) -> Any:
        return {"f": lambda: 1, "rows": [numbers()]}

    @cf.stage(["rows"], ["n"])
    def count(record: Any, rows: Any) -> Any:
        return len(list(rows["rows"][0]))

    with pytest.raises(CuridaskError, match=r"'rows' \(dict\) holds something of type generator"):
        count(read(cf.Record(manager, None))).state["n"]


def test_one_stage_alone_may_read_it_in_this_process(in_process: cf.ArtifactManager) -> None:
    @cf.stage(None, ["rows"])
    def read(record: Any) -> Any:
        return numbers()

    @cf.stage(["rows"], ["n"], [JsonCacher])
    def count(record: Any, rows: Any) -> Any:
        return len(list(rows))

    record = count(read(cf.Record(in_process, Params())))
    in_process.finish()
    assert record.state["n"] == 3


def test_two_stages_may_not_read_it(opened: Open) -> None:
    @cf.stage(None, ["rows"])
    def read(record: Any) -> Any:
        return numbers()

    @cf.stage(["rows"], ["n"], [JsonCacher])
    def count(record: Any, rows: Any) -> Any:
        return len(list(rows))

    @cf.stage(["rows"], ["sum"], [JsonCacher])
    def add_up(record: Any, rows: Any) -> Any:
        return sum(rows)

    session = opened(live=False)
    add_up(count(read(cf.Record(session, Params()))))
    assert "'rows' is of type generator, which can be read only once" in failure(session)


def test_files_in_memory_and_copied_iterators_may_be_read_by_all(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["file", "rows"])
    def make(record: Any) -> Any:
        return io.BytesIO(b"abc"), iter([1, 2])

    @cf.stage(["file", "rows"], ["seen"])
    def use(record: Any, file: Any, rows: Any) -> Any:
        return file.read(), list(rows)

    record = make(cf.Record(manager, None))
    for _ in range(2):
        assert use(record).state["seen"] == (b"abc", [1, 2])
    assert record.state["file"].read() == b"abc"


@pytest.mark.parametrize("kind", OPEN)
def test_what_can_be_read_once_is_no_argument(in_process: cf.ArtifactManager, kind: str) -> None:
    @cf.stage(["rows"], ["n"])
    def count(record: Any, rows: Any) -> Any:
        return len(list(rows))

    record = cf.Record(in_process, Params("p"))
    with pytest.raises(ReadOnceError, match=r"(?s)'rows' of the stage 'count' is of type .*list\(\.\.\.\)"):
        count(record, rows=OPEN[kind]())
    with pytest.raises(ReadOnceError, match=r"'rows' of the stage 'count' \(list\) holds something of type "):
        count(record, rows=[OPEN[kind]()])
    record.state["rows"] = OPEN[kind]()
    with pytest.raises(
        ReadOnceError, match=r"'rows', put into the state of Record 0 \(p\) or changed there by hand, is of type "
    ):
        count(record)
    assert issubclass(ReadOnceError, UnpicklableError)


# --- costs -----------------------------------------------------------------------------------------------------------
def test_a_snapshot_of_small_arguments_costs_little(in_process: cf.ArtifactManager) -> None:
    from curidask.hashing import digest
    from curidask.session.snapshots import Snapshots

    records = [cf.Record(in_process, Params(f"p{x}", x=x)) for x in range(500)]
    options = [{"lr": x, "names": ["a", "b"], "schedule": (1, 2)} for x in range(500)]

    def seconds() -> tuple[float, float]:
        snapshots = Snapshots()
        started = time.process_time()
        for value in options:
            digest(value)
        for record in records:
            record.check_unchanged()
        between = time.process_time()
        for value in options:
            snapshots.of_value(value, "It", digest, "here")
        for record in records:
            snapshots.of_params(record)
        return between - started, time.process_time() - between

    before, now = min((seconds() for _ in range(5)), key=lambda pair: pair[1] - pair[0])
    assert (now - before) / len(records) < 1e-4
