"""Parameter sets: their hash, what enters it, and how sets are selected."""

from __future__ import annotations

import copy
import functools
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from curidask.args import ExperimentArgs
from curidask.errors import ParameterError, SelectionError, UnstableHashError
from curidask.params import ComputedHash, ExperimentParameters, check_param_sets, duplicate_names, fill_hash, select


@dataclass
class Inner:
    depth: int = 1
    new: Any = None


@dataclass
class Params(ExperimentParameters):
    x: Any = 1
    y: Any = None
    inner: Inner = field(default_factory=Inner)


def test_shown_as_the_documents_show_it() -> None:
    @dataclass
    class MyParams(ExperimentParameters):
        some_scalar_multiplier: float = 1.0

    shown = repr(MyParams(name="default"))
    assert shown.endswith("MyParams(name='default', hash=None, overwrite=False, some_scalar_multiplier=1.0)")


def test_old_names_are_the_same_objects() -> None:
    assert ExperimentArgs is ExperimentParameters
    assert Params().args_hash() == Params().params_hash()


def test_name_and_overwrite_do_not_count() -> None:
    assert Params("a").params_hash() == Params("b", overwrite=True).params_hash()
    assert len(Params().params_hash()) == 32


@pytest.mark.parametrize("other", [{"x": 2}, {"x": 1.0}, {"x": True}, {"x": "1"}, {"y": 1}, {"inner": Inner(2)}])
def test_values_count_with_their_types(other: dict[str, Any]) -> None:
    assert Params(**other).params_hash() != Params().params_hash()


def test_which_field_holds_a_value_counts() -> None:
    assert Params(x="a", y="b").params_hash() != Params(x="b", y="a").params_hash()
    assert Params(x="ab", y="c").params_hash() != Params(x="a", y="bc").params_hash()


def test_a_new_optional_field_keeps_hashes_of_old_sets() -> None:
    def make(*extra: tuple[str, Any, Any]) -> Any:
        namespace = {
            "__annotations__": {"x": int, **{n: t for n, t, _ in extra}},
            "x": 1,
            **{n: v for n, _, v in extra},
        }
        return dataclass(
            type("Evolving", (ExperimentParameters,), namespace | {"__module__": "m", "__qualname__": "Evolving"})
        )

    old, new = make(), make(("added", Any, None))
    assert old().params_hash() == new().params_hash() != new(added=0).params_hash()


def test_attributes_beside_the_fields_count() -> None:
    class Undecorated(ExperimentParameters):
        @functools.cached_property
        def costly(self) -> int:
            return 1

    one, other = Undecorated(), Undecorated()
    assert one.params_hash() == other.params_hash()
    assert one.costly
    assert one.params_hash() == other.params_hash()
    other.extra = 5  # type: ignore[attr-defined]
    assert one.params_hash() != other.params_hash()


def test_representations_stand_for_values() -> None:
    def make(x: Any) -> Params:
        return Params(x=x, hash_representations={"x": lambda self, value: value % 2, "y": None})

    assert make(1).params_hash() == make(3).params_hash() != make(2).params_hash()
    ignored = make(1)
    ignored.y = object()
    assert ignored.params_hash() == make(1).params_hash()
    with pytest.raises(ParameterError, match="names 'z', which is no field"):
        Params(hash_representations={"z": None}).params_hash()
    with pytest.raises(ParameterError, match="representation of 'x' raised TypeError"):
        Params(x="a", hash_representations={"x": lambda self, value: value + 1}).params_hash()


def test_dry_says_what_enters() -> None:
    shown = Params("a", x=2.0, y=3, hash_representations={"y": None}).params_hash(dry=True)
    assert shown["x"] == "float: 2.0"
    assert shown["y"] == "left out by hash_representations"
    assert "Inner(depth=1" in shown["inner"]
    assert Params().params_hash(dry=True)["y"] == "left out: None"


def test_unhashable_values_name_set_and_field() -> None:
    with pytest.raises(UnstableHashError) as caught:
        Params("broken", x={"deep": object()}).params_hash()
    assert "'broken'" in str(caught.value)
    assert "field x['deep']" in str(caught.value)


def test_given_hashes_override_and_computed_ones_do_not() -> None:
    assert Params(hash="mine").params_hash() == "mine"
    for bad in ("", "../x", "a/b", "x" * 65):
        with pytest.raises(ParameterError, match="cannot be part of file names"):
            Params(hash=bad).params_hash()
    params = Params()
    filled = fill_hash(params)
    assert params.hash == filled
    assert params == Params()
    for other in (replace(params, x=2), copy.deepcopy(params), pickle.loads(pickle.dumps(params))):
        other.x = 2
        assert isinstance(other.hash, ComputedHash)
        assert other.params_hash() == Params(x=2).params_hash() != filled


def test_check_param_sets() -> None:
    assert check_param_sets((Params(),), "here") == [Params()]
    for bad, said in (
        (None, "NoneType"),
        (Params(), "Params, not a list"),
        ({}, "dict"),
        ([Params], "the class Params"),
    ):
        with pytest.raises(ParameterError, match=said):
            check_param_sets(bad, "here")


A, B, C = Params("a"), Params("b", x=2), Params("c", x=3)


@pytest.mark.parametrize(
    ("selectors", "chosen"),
    [
        ({}, [A, B, C, A]),
        ({"names": ["a"]}, [A, A]),
        ({"indices": ["0"]}, [A, C]),
        ({"indices": ["0-2"]}, [A, B, C, A]),
        ({"global_indices": ["1-3"]}, [B, C]),
        ({"global_indices": ["3", "0"]}, [A, A]),
        ({"names": ["a", "b"], "global_indices": ["1"]}, [B]),
    ],
)
def test_select(selectors: dict[str, list[str]], chosen: list[Params]) -> None:
    assert select([("one", [A, B]), ("two", [C, A])], **selectors) == chosen


@pytest.mark.parametrize(
    "selectors",
    [{"names": ["d"]}, {"indices": ["2"]}, {"indices": ["1-1"]}, {"indices": ["-1"]}, {"global_indices": ["2-5"]}],
)
def test_select_refuses_what_is_not_there(selectors: dict[str, list[str]]) -> None:
    with pytest.raises(SelectionError):
        select([("one", [A, B]), ("two", [C, A])], **selectors)


def test_duplicate_names() -> None:
    assert duplicate_names([A, Params("a"), B]) == {}
    assert duplicate_names([A, Params("a", x=9), B]) == {"a": [A, Params("a", x=9)]}


def test_a_name_that_is_no_text_is_refused_before_anything_runs() -> None:
    @dataclass
    class Numbered(ExperimentParameters):
        x: int = 0

    with pytest.raises(ParameterError, match="no text"):
        Numbered(3).params_hash()  # type: ignore[arg-type]
