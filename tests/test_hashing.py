"""The canonical encoding: different values never share a digest, equal ones always do."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import operator
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import uuid
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from curidask.errors import UnstableHashError
from curidask.hashing import digest, encode


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    pass


@dataclass
class Inner:
    a: Any = None
    b: Any = None


@dataclass
class Other:
    a: Any = None
    b: Any = None


class WithSlots:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a


class WithState:
    def __init__(self, a: Any, cache: Any) -> None:
        self.a, self.cache = a, cache

    def __getstate__(self) -> dict[str, Any]:
        return {"a": self.a}


def plus(x: int) -> int:
    return x + 1


def minus(x: int) -> int:
    return x - 1


def adder(n: int) -> Any:
    return lambda x: x + n


def array(change: int | None = None) -> np.ndarray[Any, Any]:
    values = np.zeros(2001)
    if change is not None:
        values[change] = 1
    return values


UTC = datetime.UTC
CEST = datetime.timezone(datetime.timedelta(hours=2))
DIFFERENT: list[Any] = [
    None,
    False,
    True,
    0,
    1,
    -1,
    2**70,
    0.0,
    -0.0,
    1.0,
    float("nan"),
    float("inf"),
    1j,
    complex(1, 0),
    "",
    "1",
    "a",
    b"",
    b"1",
    bytearray(b"1"),
    "True",
    "None",
    "1.0",
    Text("1"),
    Number.ONE,
    Colour.RED,
    Colour.BLUE,
    ...,
    NotImplemented,
    decimal.Decimal(1),
    decimal.Decimal("1.0"),
    fractions.Fraction(1),
    fractions.Fraction(1, 2),
    (),
    [],
    {},
    set(),
    frozenset(),
    (1,),
    [1],
    {1},
    frozenset({1}),
    {1: None},
    (1, 2),
    (2, 1),
    [1, 2],
    [[1], 2],
    [1, [2]],
    [[1, 2]],
    Point(1, 2),
    Point(2, 1),
    collections.OrderedDict([(1, 2), (3, 4)]),
    collections.OrderedDict([(3, 4), (1, 2)]),
    {1: 2, 3: 4},
    collections.defaultdict(int, {1: 2}),
    collections.Counter("aab"),
    collections.deque([1, 2]),
    collections.deque([1, 2], 5),
    ("ab", "c"),
    ("a", "bc"),
    ("abc",),
    "abc",
    [("a", 1)],
    {"a": 1},
    {"a": "1"},
    {"1": "a"},
    {"a": {"b": 1}},
    {"a": {"b": {}}},
    {"b": {"a": 1}},
    range(3),
    range(0, 3, 2),
    slice(3),
    slice(0, 3),
    datetime.date(2020, 1, 2),
    datetime.datetime(2020, 1, 2),
    datetime.datetime(2020, 1, 2, tzinfo=UTC),
    datetime.datetime(2020, 1, 2, tzinfo=CEST),
    datetime.datetime(2020, 1, 2, fold=1),
    datetime.time(1),
    datetime.timedelta(1),
    datetime.timedelta(seconds=1),
    UTC,
    CEST,
    uuid.UUID(int=1),
    pathlib.PurePosixPath("a/b"),
    pathlib.PurePosixPath("a"),
    re.compile("a"),
    re.compile("a", re.I),
    re.compile(b"a"),
    Inner(1),
    Inner(b=1),
    Inner(Inner(1)),
    Other(1),
    Inner([1]),
    Inner((1,)),
    WithSlots(1),
    WithSlots(2),
    WithState(1, 2),
    WithState(2, 2),
    plus,
    minus,
    len,
    sorted,
    str.upper,
    "a".upper,
    "b".upper,
    operator.itemgetter(1),
    operator.itemgetter(2),
    operator.attrgetter("a"),
    operator.add,
    lambda x: x,
    lambda x: x + 1,
    lambda y: y * 2,
    lambda: 0,
    adder(1),
    adder(2),
    functools.partial(plus, 1),
    functools.partial(plus, 2),
    functools.partial(minus, 1),
    functools.partial(plus, x=1),
    int,
    str,
    Inner,
    Other,
    LogisticRegression,
    LogisticRegression(),
    LogisticRegression(C=2),
    os,
    sys,
    array(),
    array(0),
    array(1000),
    array(2000),
    array().astype("f4"),
    array().astype(">f8"),
    array().reshape(3, 667),
    array().tolist(),
    np.array([1, 2]),
    np.array([1, 2], dtype="i4"),
    np.array([[1, 2]]),
    np.array(["a", "b"]),
    np.array(["a", 1], dtype=object),
    np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]),
    np.int64(1),
    np.int32(1),
    np.float64(1),
    np.bool_(True),
    np.str_("a"),
    np.dtype("f4"),
    np.dtype("f8"),
    np.datetime64("2020-01-02"),
    np.random.default_rng(1),
    np.random.default_rng(2),
    np.random.RandomState(1),
    np.ma.masked_array([1, 2], [0, 1]),
    np.ma.masked_array([1, 2], [1, 0]),
    pd.DataFrame({"a": [1, 2]}),
    pd.DataFrame({"a": [1, 3]}),
    pd.DataFrame({"b": [1, 2]}),
    pd.DataFrame({"a": [1, 2]}, index=[5, 6]),
    pd.DataFrame({"a": [1.0, 2]}),
    pd.DataFrame({"a": ["x", None]}),
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
    pd.Series([1, 2]),
    pd.Series([1, 2], name="a"),
    pd.Series(["1", "2"]),
    pd.Series([1, 2], dtype="Int64"),
    pd.Series([1, None], dtype="Int64"),
    pd.Series(["a", "b"], dtype="category"),
    pd.Index([1, 2]),
    pd.Index([1, 2], name="i"),
    pd.MultiIndex.from_tuples([(1, 2)]),
    pd.Timestamp("2020-01-02"),
    pd.Timestamp("2020-01-02", tz="UTC"),
    pd.Timedelta("1D"),
    pd.NA,
    pd.NaT,
    pd.date_range("2020", periods=2),
]


def test_different_values_have_different_digests() -> None:
    by_digest: dict[str, Any] = {}
    for value in DIFFERENT:
        other = by_digest.setdefault(digest(value), value)
        assert other is value, f"{value!r} and {other!r} share a digest"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, "x"}, {"x", 1, 3}),
        (float("nan"), -float("nan")),
        (array(1000), array(1000)),
        (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
        (adder(3), adder(3)),
        (Inner(1, None), Inner(1)),
        (WithState(1, "warm"), WithState(1, "cold")),
        (LogisticRegression(C=3), LogisticRegression(C=3)),
        (pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("a\\b")),
        (pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["x", None]})),
        (np.random.default_rng(1), np.random.default_rng(1)),
        (functools.partial(plus, x=1, y=2), functools.partial(plus, y=2, x=1)),
    ],
)
def test_equal_values_have_equal_digests(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


def test_aliases_do_not_count() -> None:
    x = [1]
    assert digest([x, x]) == digest([[1], [1]])


def test_code_counts_without_comments_docstrings_and_layout(tmp_path: Path) -> None:
    sources = [
        "def f(x):\n    return x + 1\n",
        '# a comment\n\n\ndef f( x ):\n    """Says what."""\n    return (x +\n        1)  # more\n',
        "def f(x):\n    return x + 2\n",
    ]
    digests = []
    for number, source in enumerate(sources):
        path = tmp_path / f"code{number}.py"
        path.write_text(source)
        space: dict[str, Any] = {"__name__": "written_by_a_user"}
        exec(compile(source, path, "exec"), space)
        digests.append(digest(space["f"]))
    assert digests[0] == digests[1] != digests[2]


def test_two_lambdas_on_a_line_differ() -> None:
    one, other = (lambda x: x + 1), (lambda x: x + 2)
    nested = [lambda: lambda: 1, lambda: lambda: 2]
    assert len({digest(f) for f in (one, other, *nested, nested[0](), nested[1]())}) == 6


CONSTANT = 1


def test_constants_and_functions_that_a_function_uses_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def uses() -> int:
        return plus(CONSTANT)

    before = digest(uses)
    monkeypatch.setitem(globals(), "CONSTANT", 2)
    assert digest(uses) != before
    monkeypatch.setitem(globals(), "CONSTANT", 1)
    assert digest(uses) == before
    monkeypatch.setitem(globals(), "plus", minus)
    assert digest(uses) != before


def recursive(n: int) -> int:
    return n if n < 2 else mutual(n - 1)


def mutual(n: int) -> int:
    return recursive(n)


def test_recursive_functions_end() -> None:
    assert digest(recursive) == digest(recursive) != digest(mutual)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        (i for i in range(3)),
        threading.Lock(),
        threading.local(),
        sys.stdout.buffer,
        iter([1]),
        sys._getframe(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_only_an_address_is_refused(value: Any) -> None:
    with pytest.raises(UnstableHashError, match="cannot be hashed") as caught:
        digest({"field": [1, value]}, where="set 'a'")
    assert "set 'a'['field'][1]" in str(caught.value)
    assert "hash_representations" in str(caught.value)


def test_cycles_and_depth_are_refused_not_crashed_on() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(UnstableHashError, match="contains itself"):
        digest(cycle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(UnstableHashError, match="nested more than"):
        digest(deep)


@dataclass
class Settings:
    a: Any = None
    b: Any = None
    nested: Inner = field(default_factory=Inner)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from(["1", "True", "a", "b", "ab", "abc", "bc", "c", 1, 1.0, True, "1.0"]),
)
ARRAYS = st.builds(
    lambda n, at, value: tuple_of_array(n, at, value), st.integers(3, 6), st.integers(0, 2), st.sampled_from([0, 1, 2])
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(-1, 1), inner, max_size=3)
        | st.builds(Inner, inner, inner)
        | st.builds(Settings, inner, inner, st.builds(Inner, inner, inner))
    ),
    max_leaves=6,
)


def tuple_of_array(n: int, at: int, value: int) -> np.ndarray[Any, Any]:
    values = np.zeros(n)
    values[at] = value
    return values


def tell(value: Any) -> Any:
    """A value in plain tuples that are equal exactly when the values are the same, written without the encoder."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        return kind, value.dtype.str, value.shape, tuple(value.ravel().tolist())
    if isinstance(value, list | tuple):
        return kind, tuple(map(tell, value))
    if isinstance(value, dict):
        return kind, frozenset((tell(k), tell(v)) for k, v in value.items())
    if isinstance(value, Inner | Settings):
        return kind, frozenset((name, tell(v)) for name, v in vars(value).items() if v is not None)
    return kind, repr(value)  # the repr tells 0.0 from -0.0


COUNTED = {"pairs": 0}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.builds(Settings, VALUES, VALUES, st.builds(Inner, VALUES, VALUES)), min_size=30, max_size=45))
def pairs_of_settings(values: list[Settings]) -> None:
    swapped = [Settings(value.b, value.a, value.nested) for value in values]
    told = {tell(value): digest(value) for value in [*values, *swapped]}
    # Equal digests in any pair would make this set smaller.
    assert len(set(told.values())) == len(told)
    COUNTED["pairs"] += len(told) * (len(told) - 1) // 2


def test_a_hundred_thousand_pairs_of_different_values_have_different_digests() -> None:
    COUNTED["pairs"] = 0
    pairs_of_settings()
    assert COUNTED["pairs"] >= 100_000


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
def test_digests_are_equal_exactly_when_values_are(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == (tell(one) == tell(other))


def test_encodings_of_a_few_tricky_values_do_not_nest_into_each_other() -> None:
    tricky = ["1:1", b"s1:a", ("s1:a",), ["", ""], [""], [[], []], [[[]]], {"": ""}, {("",): ""}]
    assert all(encode(a) not in encode(b)[1:] or a in b for a, b in combinations(tricky[:4], 2))
    assert len({encode(value) for value in tricky}) == len(tricky)


GNARLY = """
from dataclasses import dataclass, field
from enum import Enum
import functools, json, sys
import numpy as np
from curidask import ExperimentParameters

class Kind(Enum):
    A = "a"

@dataclass
class Sub:
    names: set = field(default_factory=lambda: {"x", "y", "z", "longer name", ("t", 1)})
    table: dict = field(default_factory=lambda: {"b": {1, 2, 3}, "a": {"q": 1.5}})

def scale(x, by=2):
    return x * by * len(NAMES)

NAMES = "constant"

@dataclass
class Params(ExperimentParameters):
    sub: Sub = field(default_factory=Sub)
    kind: Kind = Kind.A
    function: object = scale
    small: object = lambda x: x + 1
    part: object = functools.partial(scale, by=3)
    array: object = field(default_factory=lambda: np.arange(5))
    model: type = dict

def hashes():
    return [Params("a").params_hash(), Params("b", kind=None).params_hash(), Params("c", small=None).params_hash()]
"""


def test_twenty_processes_of_different_hash_seeds_agree(tmp_path: Path) -> None:
    (tmp_path / "gnarly.py").write_text(textwrap.dedent(GNARLY))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", "import gnarly; print(gnarly.hashes())"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(20)
    ]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    (only,) = said
    assert len(set(eval(only))) == 3


def test_the_encoding_does_not_change_by_accident() -> None:
    golden = {
        "plain": digest([1, 1.5, "a", None, True, b"x", {"k": (1, 2)}, {3}]),
        "array": digest(np.arange(3, dtype="<i8")),
        "dataclass": digest(datetime.date(2020, 1, 2)),
    }
    assert golden == {
        "plain": "3b597e525cdb499be68a6794234ed9dded7f0de92c3de71ed1ef9997474829d3",
        "array": "f6ba382b87a4b02ca0eba7feb2b53e04777a48e7856905489dd9dd57e03ec141",
        "dataclass": "a95f2812e47cdff73ae69797e50970be74f1ab6f2dbd958a19568fc09126d2ef",
    }
