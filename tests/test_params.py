"""Parameter sets: their hash, what enters it, and how sets are selected."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from curidask import ArtifactManager, Record
from curidask.args import ExperimentArgs
from curidask.errors import ParameterError, SelectionError, UnstableHashError
from curidask.hashing import get_parameter_hash_value, set_hash_functions
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


def test_the_class_does_not_count_for_a_set_but_for_its_parts() -> None:
    @dataclass
    class Other(ExperimentParameters):
        inner: Inner = field(default_factory=Inner)
        x: Any = 1

    @dataclass
    class Deep:
        depth: int = 1

    assert Other("b").params_hash() == Params("a").params_hash()
    assert Params(inner=Deep()).params_hash() != Params().params_hash()
    assert Params(y=Other()).params_hash() != Params(y=Params()).params_hash()


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


def test_dry_says_for_every_field_how_it_enters_and_as_what() -> None:
    shown = Params("a", x=2.0, y=3, hash_representations={"y": None}).params_hash(dry=True)
    assert set(shown) == {field.name for field in dataclasses.fields(Params)}
    assert shown["x"] == ("value of type float", "2.0")
    assert shown["y"] == ("left out by hash_representations", None)
    assert shown["inner"][0] == "value of type Inner"
    assert shown["inner"][1]["depth"] == ("value of type int", "1")
    assert Params().params_hash(dry=True)["y"] == ("left out: None", None)
    assert shown["name"] == shown["hash_representations"] == ("left out: not part of the hash", None)
    assert get_parameter_hash_value(Params(x=2.0), "x") == shown["x"]
    with pytest.raises(ParameterError, match="no field 'inn'") as caught:
        get_parameter_hash_value(Params(), "inn")
    assert "'inner'" in caught.value.fix


def test_the_representation_shown_is_what_the_function_returned() -> None:
    shown = Params("a", x=2.0, hash_representations={"x": lambda self, x: [self.name, x]}).params_hash(dry=True)
    assert shown["x"] == ("hash_representations['x']", ["a", 2.0])


def test_none_is_left_out_before_a_function_is_asked() -> None:
    asked = []
    params = Params("a", y=None, hash_representations={"y": lambda self, y: asked.append(y) or "y"})
    assert params.params_hash() == Params("b").params_hash()
    assert asked == []


def test_set_hash_functions_takes_a_dict_and_keywords() -> None:
    @dataclass
    class Model(ExperimentParameters):
        size: float = 1.0
        n_threads: int = 1
        seed: int = 0
        hash_representations: dict = set_hash_functions({"size": lambda self, v: round(v)}, n_threads=None)

    assert Model(size=1.1, n_threads=8).params_hash() == Model(size=0.9).params_hash()
    assert Model(size=2.1).params_hash() != Model().params_hash() != Model(seed=1).params_hash()
    assert "hash_representations" not in repr(Model())
    assert Model() == Model()
    with pytest.raises(ParameterError, match="one dict at most"):
        set_hash_functions([1])
    with pytest.raises(ParameterError, match="hash function of 'size'"):
        set_hash_functions(size=3)


def test_hash_representations_count_in_a_part_of_a_set() -> None:
    @dataclass
    class Data:
        path: str = "a"
        n_readers: int = 1
        hash_representations: dict = set_hash_functions(n_readers=None)

    @dataclass
    class Model(ExperimentParameters):
        depth: int = 1

    @dataclass
    class Whole(ExperimentParameters):
        data: Data = field(default_factory=Data)
        model: Model = field(default_factory=Model)

    same = Whole("a").params_hash()
    assert Whole("b", data=Data(n_readers=8), model=Model("other", overwrite=True)).params_hash() == same
    assert Whole(data=Data(path="b")).params_hash() != same != Whole(model=Model(depth=2)).params_hash()
    used = Whole("c")
    used.model.params_hash()
    used.model.hash = "given"
    assert used.params_hash() == same


def test_a_typo_in_a_field_is_an_error_with_the_near_name() -> None:
    with pytest.raises(TypeError, match=r"Params\(\) has no keyword 'inn'") as caught:
        Params("a", inn=Inner())
    assert caught.value.fix == "did you mean 'inner'?"
    with pytest.raises(TypeError, match="did you mean 'overwrite'"):
        ExperimentParameters("a", overwrit=True)
    copied = pickle.loads(pickle.dumps(Params("a", x=3.0)))
    assert copied == Params("a", x=3.0)
    assert dataclasses.replace(copied, x=4.0).x == 4.0


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
        ({"global_indices": ["2", "0-2", "1"]}, [C, A, B]),
        ({"indices": ["1", "0"]}, [B, A, A, C]),
        ({"indices": ["0"], "global_indices": ["2-4", "0"]}, [C, A]),
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


def test_two_different_sets_with_one_given_hash_are_refused() -> None:
    same = [Params("a", hash="h"), Params("b", hash="h"), Params("c", x=2, hash="other")]
    assert select([("one", same)]) == same
    for other in (Params("b", x=2, hash="h"), Params("b", x=2, hash=A.params_hash())):
        with pytest.raises(ParameterError, match="have the hash") as caught:
            select([("one", [A, Params("h", hash="h")]), ("two", [other])])
        assert "'b'" in caught.value.where
        assert select([("one", [A, Params("h", hash="h")]), ("two", [other])], names=["b"]) == [other]


def test_records_of_different_sets_with_one_given_hash_are_refused(tmp_path: Path) -> None:
    with ArtifactManager("demo", cache=str(tmp_path / "cache"), runs_path=tmp_path / "runs", dry=True) as manager:
        Record(manager, Params("a", hash="h"))
        Record(manager, Params("b", hash="h"))
        with pytest.raises(ParameterError, match="'a' and 'c'"):
            Record(manager, Params("c", x=2, hash="h"))


def test_duplicate_names() -> None:
    assert duplicate_names([A, Params("a"), B]) == {}
    assert duplicate_names([A, Params("a", x=9), B]) == {"a": [A, Params("a", x=9)]}


def test_a_name_that_is_no_text_is_refused_before_anything_runs() -> None:
    @dataclass
    class Numbered(ExperimentParameters):
        x: int = 0

    with pytest.raises(ParameterError, match="no text"):
        Numbered(3).params_hash()  # type: ignore[arg-type]


def test_an_index_that_one_of_several_lists_has() -> None:
    groups = [("one", [ExperimentParameters("a")]), ("two", [ExperimentParameters(n) for n in ("b", "c", "d")])]
    for asked, names in (["0-2"], "abc"), (["2"], "d"), (["2", "0"], "adb"), (["1-3"], "cd"):
        assert "".join(params.name for params in select(groups, indices=asked)) == names
    for missing in ("3", "0-4"):
        with pytest.raises(SelectionError, match="out of range") as caught:
            select(groups, indices=[missing])
        assert caught.value.where == "--indices, the list of two"
