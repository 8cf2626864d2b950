"""Values of many kinds with a name each, whose digests ``hash_digests.json`` keeps.

As a script it prints the digests that it can make with the packages there are, so that another Python, or one with
other versions of the packages, can be asked for them. Only the standard library and curidask are needed.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import importlib.util
import ipaddress
import json
import math
import operator
import pathlib
import random
import re
import types
import typing
import uuid
import zoneinfo
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curidask import ExperimentParameters
from curidask.hashing import digest, set_hash_functions


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Bits(enum.Flag):
    A = 1
    B = 2


class Size(enum.IntEnum):
    SMALL = 1


class Point(NamedTuple):
    x: int
    y: int | None = None


@dataclass
class Svm:
    c: float = 1
    kernel: str | None = None


@dataclass
class Logistic:
    c: float = 1


@dataclass(frozen=True, slots=True)
class Pair:
    left: Any
    right: Any


@dataclass
class Data(ExperimentParameters):
    path: str = "a"
    n_readers: int = 1
    hash_representations: dict = set_hash_functions(n_readers=None)


@dataclass
class Whole(ExperimentParameters):
    data: Data = field(default_factory=Data)
    layers: tuple[int, ...] = (64, 32)


class Plain:
    def __init__(self, **named: Any) -> None:
        self.__dict__.update(named)


class Slotted:
    __slots__ = ("__private", "a")

    def __init__(self, a: Any) -> None:
        self.a = self.__private = a


class Stateless:
    pass


class Told:
    def __init__(self, size: int) -> None:
        self.size, self.used = size, object()

    def __curidask_hash__(self) -> Any:
        return {"size": self.size}


class Tags(list):
    pass


class Queue(collections.deque):
    pass


class Holder:
    def __init__(self) -> None:
        self.cached = functools.lru_cache(self.plain)

    @functools.cached_property
    def costly(self) -> int:
        return 1

    def plain(self) -> int:
        return 1


def queue(*items: Any, note: str) -> Queue:
    made = Queue(items)
    made.note = note
    return made


def plus(x: int, by: int = 1) -> int:
    """Add."""
    return x + by


def wordy(x: int) -> str:
    if x > 3 and not x % 2:
        return f"{x!r:>{x}} {x=} and {x + 1:.2f}"
    return "".join(str(i) for i in range(x) if i not in {1, 2, 3})


async def later(x: int, /, *rest: int, named: bool = True, **others: Any) -> Any:
    match x:
        case [1, *_] | {"a": 1}:
            raise ValueError
    try:
        async with others["a"] as (b, c):
            yield [b, *c]
    except* OSError as error:
        del error
    global COUNT  # noqa: PLW0603
    COUNT += 1


COUNT = 0


def adder(n: int) -> Any:
    return lambda x: x + n


@functools.singledispatch
def shown(value: Any) -> str:
    return "any"


@shown.register
def _(value: int) -> str:
    return "int"


@functools.wraps(plus)
def wrapped(*args: Any) -> int:
    return plus(*args) + 1


UTC = datetime.UTC
CEST = datetime.timezone(datetime.timedelta(hours=2))
DAY = datetime.datetime(2020, 1, 2)


def plain_values() -> dict[str, Any]:
    return {
        "none": None,
        "true": True,
        "one": 1,
        "minus one": -1,
        "big": 2**70,
        "zero": 0.0,
        "minus zero": -0.0,
        "one point": 1.0,
        "nan": math.nan,
        "inf": math.inf,
        "complex": 1j,
        "text": "1",
        "text of all kinds": "a\0é\u1234\U0001f600\ud800",
        "empty": "",
        "bytes": b"1",
        "bytearray": bytearray(b"1"),
        "memoryview": memoryview(b"1"),
        "ellipsis": ...,
        "not implemented": NotImplemented,
        "decimal": decimal.Decimal("1.0"),
        "fraction": fractions.Fraction(1, 3),
        "tuple": (1, "2"),
        "list": [1, "2"],
        "set": {"a", "b", 1, ("t", 1)},
        "frozenset": frozenset({"a", "b", 1, ("t", 1)}),
        "dict": {"b": 1, "a": {"c": (1, 2)}, 3: None},
        "ordered": collections.OrderedDict(b=1, a=2),
        "ordered otherwise": collections.OrderedDict(a=2, b=1),
        "default int": collections.defaultdict(int, {"a": 1}),
        "default list": collections.defaultdict(list, {"a": 1}),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1, 2], 5),
        "deque of a project": queue(1, 2, note="a"),
        "deque of a project, other items": queue(1, 3, note="a"),
        "list of a project": Tags([1, "2"]),
        "array": array.array("d", [1, 2]),
        "range": range(0, 5, 2),
        "slice": slice(1, None),
        "namespace": types.SimpleNamespace(a=1),
        "proxy": types.MappingProxyType({"a": 1}),
        "date": DAY.date(),
        "moment": DAY,
        "moment in UTC": DAY.replace(tzinfo=UTC),
        "moment in summer time": DAY.replace(tzinfo=CEST),
        "moment in Berlin": DAY.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "span": datetime.timedelta(1, 2, 3),
        "time": datetime.time(1, 2),
        "zone": CEST,
        "named zone": zoneinfo.ZoneInfo("Europe/Berlin"),
        "uuid": uuid.UUID(int=1),
        "address": ipaddress.ip_address("127.0.0.1"),
        "path": pathlib.PurePosixPath("a/b"),
        "windows path": pathlib.PureWindowsPath("a\\c"),
        "pattern": re.compile("a", re.I),
        "error": ValueError("a", 1),
        "random": random.Random(1),
        "other random": random.Random(2),
        "enum": Colour.RED,
        "other enum": Colour.BLUE,
        "flags": Bits.A | Bits.B,
        "int enum": Size.SMALL,
        "named tuple": Point(1, 2),
        "dataclass": Svm(c=1),
        "dataclass of another class": Logistic(c=1),
        "dataclass with a text": Svm(c=1, kernel="rbf"),
        "frozen dataclass": Pair(1, [Svm()]),
        "parameter set": Whole("a"),
        "parameter set in parts": Whole("a", data=Data(path="b", n_readers=3)),
        "object": Plain(a=1, b=None),
        "object with other attributes": Plain(b=1),
        "slots": Slotted(1),
        "stateless": Stateless(),
        "object that says what it is": Told(3),
        "object with a memo": Holder(),
        "builtin class": dict,
        "class": Stateless,
        "class with methods": Holder,
        "dataclass itself": Svm,
        "builtin function": sorted,
        "builtin method": "a".upper,
        "method of a builtin": str.upper,
        "slot of a builtin": int.__add__,
        "function of C": math.sqrt,
        "operator": operator.add,
        "getter": operator.itemgetter(1),
        "caller": operator.methodcaller("a", 1, b=2),
        "function": plus,
        "long function": wordy,
        "odd function": later,
        "wrapped function": wrapped,
        "function of the library": json.dumps,
        "lambda": lambda x: x + 1,
        "other lambda": lambda x: x + 2,
        "one of two": (lambda x: x * 3, lambda x: x * 4)[0],
        "two of two": (lambda x: x * 3, lambda x: x * 4)[1],
        "closure": adder(1),
        "other closure": adder(2),
        "partial": functools.partial(plus, by=3),
        "cached": functools.cache(plus),
        "dispatching": shown,
        "bound method": Plain(a=1).__init__,
        "static method": staticmethod(plus),
        "cached property": Holder.__dict__["costly"],
        "property": property(plus),
        "module": math,
        "generic": list[int],
        "optional": int | None,
        "old optional": typing.Optional[str],  # noqa: UP045  # that form is meant
        "mapping type": typing.Mapping[str, int],
    }  # fmt: skip


def numpy_values() -> dict[str, Any]:
    import numpy as np

    class Metres(np.ndarray):
        pass

    def with_unit(unit: str) -> Any:
        made = np.arange(3.0).view(Metres)
        made.unit = unit
        return made

    return {
        "floats": np.arange(3.0),
        "singles": np.arange(3, dtype="f4"),
        "big-endian": np.arange(3, dtype=">f8"),
        "ints": np.arange(3, dtype="i8"),
        "column": np.arange(3.0)[:, None],
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "no dimension": np.array(1.0),
        "texts": np.array(["a", "b"]),
        "objects": np.array(["a", 1, None], dtype=object),
        "records": np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]),
        "padded records": np.zeros(2, np.dtype([("x", "i1"), ("y", "f8")], align=True)),
        "dates": np.array(["2020-01-02"], dtype="M8[D]"),
        "masked": np.ma.masked_array([1.0, 2.0], [0, 1]),
        "masked otherwise": np.ma.masked_array([1.0, 2.0], [1, 0]),
        "in m": with_unit("m"),
        "in km": with_unit("km"),
        "matrix": np.arange(4.0).reshape(2, 2).view(np.matrix),
        "number": np.float64(1),
        "int number": np.int32(1),
        "truth": np.bool_(True),
        "date of numpy": np.datetime64("2020-01-02"),
        "type": np.dtype("f4"),
        "type of records": np.dtype([("x", "U1"), ("y", "i4", (2,))]),
        "generator": np.random.default_rng(1),
        "old generator": np.random.RandomState(1),
        "mean": np.mean,
        "add": np.add,
        "vectorized": np.vectorize(plus, excluded=["by"]),
        "scalar class": np.float32,
    }


def pandas_values() -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    class Measured(pd.DataFrame):
        _metadata: typing.ClassVar = ["unit"]

    def measured(unit: str) -> Any:
        made = Measured({"a": [1, 2]})
        made.unit = unit
        return made

    def noted(**attrs: Any) -> Any:
        made = pd.DataFrame({"a": [1, 2]})
        made.attrs.update(attrs)
        return made

    days = pd.date_range("2020-01-02", periods=3, freq="D").as_unit("ns")
    return {
        "frame": pd.DataFrame({"a": [1, 2]}),
        "frame of other values": pd.DataFrame({"a": [1, 3]}),
        "frame with an index": pd.DataFrame({"a": [1, 2]}, index=[5, 6]),
        "frame of several types": pd.DataFrame({"a": [1, 2], "b": [1.5, np.nan], "c": [True, False]}),
        "frame in m": measured("m"),
        "frame in km": measured("km"),
        "frame with a note": noted(unit="m"),
        "frame with another note": noted(unit="km"),
        "column": pd.Series([1, 2], name="a"),
        "column without a name": pd.Series([1, 2]),
        "column of objects": pd.Series(["x", None], dtype=object),
        "nullable": pd.Series([1, None], dtype="Int64"),
        "nullable and full": pd.Series([1, 0], dtype="Int64"),
        "categories": pd.Series(["a", "b"], dtype=pd.CategoricalDtype(["a", "b"])),
        "more categories": pd.Series(["a", "b"], dtype=pd.CategoricalDtype(["a", "b", "c"])),
        "ordered categories": pd.Series(["a", "b"], dtype=pd.CategoricalDtype(["a", "b"], ordered=True)),
        "labels": pd.Index([1, 2], name="i"),
        "labels of categories": pd.CategoricalIndex(["a", "b"]),
        "labels of more categories": pd.CategoricalIndex(["a", "b"], categories=["a", "b", "c"]),
        "levels": pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"]),
        "days": days,
        "days in UTC": days.tz_localize("UTC"),
        "day in Berlin": pd.Timestamp("2020-01-02", tz="Europe/Berlin").as_unit("ns"),
        "day": pd.Timestamp("2020-01-02").as_unit("ns"),
        "span of pandas": pd.Timedelta("1D").as_unit("ns"),
        "month": pd.Period("2020-01", "M"),
        "interval": pd.Interval(1, 2),
        "intervals": pd.Series(pd.IntervalIndex.from_breaks([0, 1, 2])),
        "offset": pd.offsets.MonthEnd(2),
        "missing": pd.NA,
        "no time": pd.NaT,
    }


def polars_values() -> dict[str, Any]:
    import polars as pl

    return {
        "polars frame": pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        "other polars frame": pl.DataFrame({"a": [1, 3], "b": ["x", None]}),
        "polars column": pl.Series("a", [1.5, 2]),
        "polars column with a gap": pl.Series("a", [1.5, None]),
        "polars lists": pl.Series("a", [[1], [2, 3]]),
        "polars type": pl.Int64,
    }


def sklearn_values() -> dict[str, Any]:
    import numpy as np
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import Ridge
    from sklearn.metrics import f1_score, make_scorer
    from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    class Own(BaseEstimator):
        def __init__(self, size: int = 1) -> None:
            self.size = size

        def fit(self, x: Any) -> Any:
            self.mean_ = x.mean(axis=0)
            return self

    values = {
        "estimator": Ridge(),
        "estimator with a parameter": Ridge(alpha=2.0),
        "own, fitted": Own(2).fit(np.array([[1.0], [3.0]])),
        "scaler": StandardScaler(),
        "own estimator": Own(2),
        "pipeline": make_pipeline(StandardScaler(), Ridge(alpha=0.5)),
        "split": KFold(3),
        "search": GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=KFold(3)),
        "scorer": make_scorer(f1_score),
        "estimator class": Ridge,
    }
    if importlib.util.find_spec("scipy"):
        from scipy.stats import loguniform

        values["random search"] = RandomizedSearchCV(Ridge(), {"alpha": loguniform(1, 2)}, random_state=1)
    return values


def scipy_values() -> dict[str, Any]:
    import numpy as np
    from scipy import sparse, special, stats

    return {
        "normal": stats.norm(0, 1),
        "wider normal": stats.norm(0, 2),
        "uniform": stats.uniform(0, 1),
        "binomial": stats.binom(3, 0.5),
        "distribution": stats.norm,
        "histogram": stats.rv_histogram((np.array([1, 2]), np.array([0.0, 1.0, 2.0]))),
        "of several variables": stats.multivariate_normal([0.0, 0.0]),
        "sparse": sparse.csr_matrix([[1.0, 0.0], [0.0, 2.0]]),
        "special function": special.expit,
    }


def omegaconf_values() -> dict[str, Any]:
    from omegaconf import OmegaConf

    config = OmegaConf.create({"a": 1, "b": "${a}", "c": [1, 2]})
    return {"config": config, "part of a config": config.c}


def attrs_values() -> dict[str, Any]:
    import attrs

    @attrs.define
    class Attributes:
        a: int = 1
        b: Any = None

    @attrs.frozen(slots=False)
    class Frozen:
        a: int = 1

    return {"attrs": Attributes(), "attrs with a part": Attributes(b=Frozen(2)), "frozen attrs": Frozen()}


def pydantic_values() -> dict[str, Any]:
    import pydantic

    class Model(pydantic.BaseModel):
        a: int = 1
        b: Any = None

    return {"model": Model(), "model with a part": Model(b=Model(a=2)), "secret": pydantic.SecretStr("a")}


PACKAGES = {
    "": plain_values,
    "numpy": numpy_values,
    "pandas": pandas_values,
    "polars": polars_values,
    "sklearn": sklearn_values,
    "scipy": scipy_values,
    "omegaconf": omegaconf_values,
    "attrs": attrs_values,
    "pydantic": pydantic_values,
}


def values() -> dict[str, Any]:
    """The values for which the packages are there, by name."""
    there = [package for package in PACKAGES if not package or importlib.util.find_spec(package)]
    return {f"{package or 'python'}: {name}": v for package in there for name, v in PACKAGES[package]().items()}


def digests() -> dict[str, str]:
    """Their digests."""
    return {name: digest(value, where=name) for name, value in values().items()}


if __name__ == "__main__":
    print(json.dumps(digests(), indent=1))
