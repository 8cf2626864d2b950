"""The canonical encoding: different values never share a digest, equal ones always do."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import itertools
import operator
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import textwrap
import threading
import types
import uuid
import weakref
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from curidask.errors import ParameterError, UnstableHashError
from curidask.hashing import digest, encode, register_hash_representation


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
        itertools.count(3),
        map(plus, [1]),
        np.frompyfunc(plus, 1, 1),
        pl.LazyFrame({"a": [1]}),
        pl.col("a") > 1,
        OmegaConf.create({"a": "${b}"}),
        weakref.ref(plus),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_only_an_address_is_refused(value: Any) -> None:
    with pytest.raises(UnstableHashError, match="cannot be hashed") as caught:
        digest({"field": [1, value]}, where="set 'a'")
    assert "set 'a'['field'][1]" in str(caught.value)
    assert caught.value.fix


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


DRAWN: dict[Any, str] = {}
"""What was drawn, told in plain tuples, with its digest."""


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(Settings, VALUES, VALUES, st.builds(Inner, VALUES, VALUES)), min_size=30, max_size=45))
def draw_settings(values: list[Settings]) -> None:
    swapped = [Settings(value.b, value.a, value.nested) for value in values]
    DRAWN.update((tell(value), digest(value)) for value in [*values, *swapped])


def test_a_hundred_thousand_pairs_of_different_values_have_different_digests() -> None:
    DRAWN.clear()
    draw_settings()
    assert len(DRAWN) * (len(DRAWN) - 1) // 2 >= 100_000
    assert len(set(DRAWN.values())) == len(DRAWN)  # equal digests in any pair would make the set smaller


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


# --- attributes, memos, state ----------------------------------------------------------------------------------------
class Metres(np.ndarray):
    pass


def metres(**attributes: Any) -> Metres:
    made = np.arange(3.0).view(Metres)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


class Measured(pd.DataFrame):
    _metadata = ["unit"]  # noqa: RUF012  # as pandas has it

    @property
    def _constructor(self) -> Any:
        return Measured


def measured(unit: str) -> Measured:
    made = Measured({"a": [1, 2]})
    made.unit = unit
    return made


def test_what_was_never_set_of_a_table_is_none_in_its_copy() -> None:
    table = Measured({"a": [1]})
    assert table.copy().unit is None
    assert digest(table) == digest(table.copy())
    table.unit = "m"
    assert digest(table) == digest(table.copy()) != digest(Measured({"a": [1]}))


def noted(**attrs: Any) -> pd.DataFrame:
    made = pd.DataFrame({"a": [1, 2]})
    made.attrs.update(attrs)
    return made


class OddState:
    def __init__(self, a: Any) -> None:
        self.a = a

    def __getstate__(self) -> Any:
        return self.a, {"a": 1}


class Buffer(collections.deque):  # type: ignore[type-arg]
    size = 0


def buffer(items: list[int], size: int) -> Buffer:
    made = Buffer(items)
    made.size = size
    return made


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (metres(unit="m"), metres(unit="m"), metres(unit="km")),
        (metres(), np.arange(3.0).view(Metres), np.arange(3.0)),
        (measured("m"), measured("m"), measured("km")),
        (noted(unit="m"), noted(unit="m"), noted(unit="km")),
        (pd.CategoricalIndex(["a"]), pd.CategoricalIndex(["a"]), pd.CategoricalIndex(["a"], categories=["a", "b"])),
        (OddState(1), OddState(1), OddState(2)),
        (buffer([1], 2), buffer([1], 2), buffer([2], 2)),
        (buffer([1], 2), buffer([1], 2), buffer([1], 3)),
        (
            collections.defaultdict(int, a=1),
            collections.defaultdict(int, a=1),
            collections.defaultdict(list, a=1),
        ),
        (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [0, 0])),
        (random.Random(1), random.Random(1), random.Random(2)),
        (ValueError(1), ValueError(1), ValueError(2)),
        (pl.Series("a", [1, 2]), pl.Series("a", [1, 2]), pl.Series("a", [1.0, 2.0])),
        (pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": [None]})),
        (stats.norm(0, 1), stats.norm(0, 1), stats.norm(0, 2)),
        (stats.norm(0, 1), stats.norm(0, 1), stats.uniform(0, 1)),
        (np.vectorize(plus), np.vectorize(plus), np.vectorize(minus)),
        (
            TfidfVectorizer(stop_words=["x"]).fit(["aa bb", "aa cc"]),
            TfidfVectorizer(stop_words=["x"]).fit(["aa bb", "aa cc"]),
            TfidfVectorizer(stop_words=["y"]).fit(["aa bb", "aa cc"]),
        ),
        (OmegaConf.create({"a": [1]}), OmegaConf.create({"a": [1]}), OmegaConf.create({"a": [2]})),
        (OmegaConf.create([1, "${oc.env:HOME}"]), OmegaConf.create([1, "${oc.env:HOME}"]), OmegaConf.create([1])),
        (
            GridSearchCV(LogisticRegression(), {"C": stats.loguniform(1, 2)}),
            GridSearchCV(LogisticRegression(), {"C": stats.loguniform(1, 2)}),
            GridSearchCV(LogisticRegression(), {"C": stats.loguniform(1, 3)}),
        ),
    ],
)
def test_what_a_class_adds_to_another_counts(one: Any, same: Any, other: Any) -> None:
    assert digest(one) == digest(same) != digest(other)


@pytest.mark.parametrize("table", [pd.DataFrame({"a": [1]}), pd.Series([1.5], name="s"), pd.Index(["x"])])
def test_a_table_that_was_pickled_is_the_same(table: Any) -> None:
    assert digest(pickle.loads(pickle.dumps(table))) == digest(table)


def test_an_exception_is_the_same_whatever_other_packages_make_of_pickling_it() -> None:
    before = digest(ValueError("a", 1))
    importlib.import_module("distributed")  # which installs a way of its own
    assert digest(ValueError("a", 1)) == before != digest(ValueError("a", 2))


def test_labels_of_text_are_the_same_whatever_type_pandas_gives_them() -> None:
    assert digest(pd.Index(["a"], dtype=object)) == digest(pd.Index(["a"], dtype="str"))
    assert digest(pd.Series(["a"], dtype=object)) != digest(pd.Series(["a"], dtype="string"))


def test_what_lies_between_the_fields_of_records_does_not_count() -> None:
    kind = np.dtype([("x", "i1"), ("y", "f8")], align=True)
    one, other = np.frombuffer(bytes(16), kind), np.frombuffer(b"\0" + b"?" * 7 + bytes(8), kind)
    assert digest(one) == digest(other)


class Costly:
    def __init__(self, n: int) -> None:
        self.n = n
        self.cached = functools.lru_cache(self.plain)

    @functools.cached_property
    def squared(self) -> int:
        return self.n**2

    def plain(self) -> int:
        return self.n


def test_what_fills_on_use_does_not_count() -> None:
    import scipy.sparse

    def use_costly(value: Costly) -> None:
        assert value.squared == value.cached() == 1

    def use_frame(value: pd.DataFrame) -> None:
        assert value["a"].str.upper().tolist() == ["A"]
        assert value.index.is_unique

    uses: list[tuple[Any, Any]] = [
        (Costly(1), use_costly),
        (pd.DataFrame({"a": ["a"]}), use_frame),
        (pd.Series(["a"]), lambda value: value.str.upper()),
        (np.vectorize(plus), lambda value: value([1, 2])),
        (stats.norm(0, 1), lambda value: (value.rvs(3), value.ppf(0.5), value.entropy())),
        (stats.multivariate_normal([0, 0]), lambda value: (value.rvs(2), value.pdf([0, 0]), value.entropy())),
        (scipy.sparse.csr_matrix([[1, 0]]), lambda value: (value.has_canonical_format, value.has_sorted_indices)),
        (re.compile("a"), lambda value: value.match("a")),
        (functools.cache(plus), lambda value: value(1)),
        (shown, lambda value: value(True)),
    ]
    if hasattr(stats, "Normal"):
        uses.append((stats.Normal(mu=1.0, sigma=2.0), lambda value: (value.mean(), value.entropy(), value.cdf(1.0))))
    for value, use in uses:
        before = digest(value)
        use(value)
        assert digest(value) == before, value


@functools.singledispatch
def shown(value: Any) -> str:
    return "any"


def test_what_a_dispatching_function_does_for_a_class_counts() -> None:
    before = digest(shown)
    shown.register(str, plus)
    assert digest(shown) != before


class Empty:
    pass


def test_classes_count_by_name_for_their_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(body: str, module: str) -> Any:
        made = types.ModuleType(module)
        file = tmp_path / f"{module}.py"
        file.write_text(body)
        vars(made).update({"dataclass": dataclass, "enum": enum, "__file__": str(file)})
        monkeypatch.setitem(sys.modules, module, made)
        exec(compile(body, str(file), "exec", dont_inherit=True), vars(made))
        return vars(made)

    plain = "class Thing:\n    def __init__(self, **named): self.__dict__.update(named)\n"
    methods = plain + "    def more(self): return 1\n    LIMIT = 3\n"
    fields = "@dataclass\nclass Thing:\n    a: int = 1\n"
    colours = "class Thing(enum.Enum):\n    RED = 1\n"
    for one, other in (
        (make(plain, "a")["Thing"](a=1), make(methods, "b")["Thing"](a=1, new=None)),
        (make(plain, "__main__")["Thing"](a=1), make(plain, "_private")["Thing"](a=1)),
        (make(fields, "c")["Thing"](), make(fields + "    new: object = None\n", "d")["Thing"]()),
        (make(colours, "e")["Thing"].RED, make(colours + "    BLUE = 2\n", "f")["Thing"].RED),
    ):
        assert digest(one) == digest(other)
    renamed = make(fields.replace("Thing", "Other"), "g")["Other"]
    assert digest(make(fields, "h")["Thing"]()) != digest(renamed())
    assert digest(Empty()) == digest(Empty()) != digest(Stateless())


class Stateless:
    pass


def test_a_function_counts_by_its_code_wherever_it_stands(tmp_path: Path) -> None:
    digests = set()
    for module in ("one", "other"):
        (tmp_path / f"{module}.py").write_text("def f(x):\n    return x + 1\n")
        space: dict[str, Any] = {"__name__": module}
        exec(compile("def f(x):\n    return x + 1\n", tmp_path / f"{module}.py", "exec"), space)
        digests.add(digest(space["f"]))
    assert len(digests) == 1


def test_types_of_arguments_do_not_count_in_code(tmp_path: Path) -> None:
    digests = set()
    for number, source in enumerate(["def f(x):\n    return x\n", "def f(x: int) -> 'int':\n    return x\n"]):
        path = tmp_path / f"typed{number}.py"
        path.write_text(source)
        space: dict[str, Any] = {"__name__": "written_by_a_user"}
        exec(compile(source, path, "exec"), space)
        digests.add(digest(space["f"]))
    assert len(digests) == 1


# --- hooks -----------------------------------------------------------------------------------------------------------
class Told:
    def __init__(self, size: int) -> None:
        self.size, self.lock = size, threading.Lock()

    def __curidask_hash__(self) -> Any:
        return {"size": self.size}


class Foreign:
    def __init__(self, size: int) -> None:
        self.size, self.lock = size, threading.Lock()


class MoreForeign(Foreign):
    pass


class Grams(np.ndarray):
    pass


def test_a_class_says_what_identifies_its_objects() -> None:
    assert digest(Told(1)) == digest(Told(1)) != digest(Told(2))
    assert digest(Inner(Told(1))) != digest(Inner(Told(2)))
    assert digest(Told(1)) != digest({"size": 1})


def test_it_can_be_said_for_a_class_of_others() -> None:
    with pytest.raises(UnstableHashError, match="register_hash_representation"):
        digest(Foreign(1))

    @register_hash_representation(Foreign)
    def _(value: Foreign) -> Any:
        return value.size

    assert digest(Foreign(1)) == digest(Foreign(1)) != digest(Foreign(2))
    assert digest(MoreForeign(1)) == digest(MoreForeign(1)) != digest(Foreign(1))
    register_hash_representation(Foreign, lambda value: None)
    assert digest(Foreign(1)) == digest(Foreign(2))
    register_hash_representation(Grams, lambda value: "an array")
    assert digest(np.arange(3).view(Grams)) == digest(np.arange(4).view(Grams)) != digest(np.arange(3))


def test_a_hook_that_cannot_be_used_is_an_error_that_names_it() -> None:
    class Broken:
        def __curidask_hash__(self) -> Any:
            return self.missing  # type: ignore[attr-defined]

    class Odd:
        def __curidask_hash__(self) -> Any:
            return object()

    with pytest.raises(ParameterError, match=r"stands for a .*Broken in a hash raised AttributeError"):
        digest(Broken())
    with pytest.raises(UnstableHashError) as caught:
        digest([Odd()])
    assert "[0].__curidask_hash__()" in caught.value.where
    with pytest.raises(ParameterError, match="was given"):
        register_hash_representation("Foreign", len)  # type: ignore[arg-type]
