"""What a cacher for tables gives back is what it was given, or it says at once which other one can do it."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curidask as cf
from curidask.caching import Cacheable, PandasCacher, PandasCsvCacher, PandasJsonCacher, ParquetCacher
from curidask.caching.comparing import difference
from curidask.errors import CacheError
from curidask.session.config import Config

CACHERS: dict[str, Any] = {
    "parquet": ParquetCacher(),
    "pandas parquet": PandasCacher(format="parquet"),
    "feather": PandasCacher(format="feather"),
    "orc": PandasCacher(format="orc"),
    "hdf5": PandasCacher(format="hdf5"),
    "csv": PandasCsvCacher(),
    "csv, other arguments": PandasCsvCacher(to_args={"sep": ";", "na_rep": "-", "encoding": "utf-16", "decimal": ","}),
    "json": PandasJsonCacher(),
    "excel": PandasCacher(format="excel"),
    "xml": PandasCacher(format="xml"),
}
FOR_PEOPLE = ("csv", "json", "excel", "xml")


def come_back(cacher: Cacheable, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Save a frame, and load it as a later run does."""
    saving = cacher.bound(folder, "x", name="table")
    saving.save(frame)
    loading = cacher.bound(folder, "x", name="table")
    loading.extra_metadata = json.loads(json.dumps(saving.extra_metadata, allow_nan=False))
    found = loading.load()
    assert isinstance(found, pd.DataFrame)
    return found


def with_texts_of_one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts and lists as Python objects."""
    frame = frame.copy()
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        if isinstance(column.dtype, pd.StringDtype) or column.dtype == object:
            lists = [list(value) if isinstance(value, np.ndarray) else value for value in column]
            frame.isetitem(place, pd.array(lists, dtype=object))
    for axis in ("index", "columns"):
        labels = getattr(frame, axis)
        nameless = labels.set_names([None] * labels.nlevels)
        levels = [nameless.get_level_values(level) for level in range(labels.nlevels)]
        levels = [level.astype(object) if isinstance(level.dtype, pd.StringDtype) else level for level in levels]
        made = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
        setattr(frame, axis, made.set_names(labels.names))
    return frame


def assert_same(found: pd.DataFrame, frame: pd.DataFrame, *, exact: bool = True) -> None:
    """All that pandas compares, except what the documentation leaves out."""
    found, frame = map(with_texts_of_one_type, (found, frame))
    digits: dict[str, Any] = {"check_exact": True} if exact else {"check_exact": False, "rtol": 1e-15, "atol": 0}
    pd.testing.assert_frame_equal(found, frame, check_freq=False, check_index_type="equiv", **digits)


# --- any frame -------------------------------------------------------------------------------------------------------
TEXTS = st.sampled_from(
    ["", "a", "NA", "nan", "007", "1e3", "True", "x\ry", "p\r\nq", "\n", " b ", '"', ",;", "é", "=1+1"]
)
TIMES = st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01")).map(pd.Timestamp)
ZONED = st.integers(0, 2**60).map(lambda n: pd.Timestamp(n, tz="Europe/Berlin"))
MONTHS = st.integers(0, 600).map(lambda n: pd.Period(ordinal=n, freq="M"))
SPANS = st.integers(-(2**60), 2**60).map(pd.Timedelta)
BOUNDS = st.integers(-5, 5).map(lambda n: pd.Interval(n, n + 1, closed="left"))


def values(elements: st.SearchStrategy[Any], dtype: Any) -> Any:
    """A strategy of so many values of a type."""
    return lambda n: st.lists(elements, min_size=n, max_size=n).map(lambda found: pd.Series(found, dtype=dtype))


INTS = {f"{kind}{bits}": np.iinfo(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
TEXT = "str" if pd.__version__ >= "3" else "object"
KINDS: dict[str, Any] = {
    **{name: values(st.integers(int(info.min), int(info.max)), name) for name, info in INTS.items()},
    "float64": values(st.floats(), "float64"),
    "float32": values(st.floats(width=32), "float32"),
    "complex": values(st.complex_numbers(allow_nan=False), "complex128"),
    "bool": values(st.booleans(), "bool"),
    "Int64": values(st.integers(-(2**63), 2**63 - 1) | st.none(), "Int64"),
    "boolean": values(st.booleans() | st.none(), "boolean"),
    "Float32": values(st.floats(width=32, allow_nan=False) | st.none(), "Float32"),
    "text": values(TEXTS | st.none(), TEXT),
    "texts all there": values(TEXTS, TEXT),
    "string": values(TEXTS | st.none(), "string"),
    "object texts": values(TEXTS | st.none(), object),
    "categories": values(TEXTS | st.none(), "category"),
    "categories of numbers": values(st.integers(0, 3) | st.none(), "category"),
    "ordered": lambda n: st.lists(st.integers(-1, 2), min_size=n, max_size=n).map(
        lambda codes: pd.Series(pd.Categorical.from_codes(codes, ["z", "a", ""], ordered=True))
    ),
    "times": values(TIMES | st.none(), "datetime64[ns]"),
    "zoned": values(ZONED | st.none(), "datetime64[ns, Europe/Berlin]"),
    "seconds": values(TIMES, "datetime64[s]"),
    "spans": values(SPANS | st.none(), "timedelta64[ns]"),
    "months": values(MONTHS | st.none(), "period[M]"),
    "intervals": values(BOUNDS | st.none(), pd.IntervalDtype("float64", "left")),
    "dates": values(st.dates(dt.date(1000, 1, 1)) | st.none(), object),
    "truths": values(st.booleans() | st.none(), object),
    "whole": values(st.integers() | st.none(), object),
    "decimals": values(st.decimals(allow_nan=False, allow_infinity=False), object),
    "mixed": values(st.integers(0, 2) | TEXTS, object),
    "lists": values(st.lists(st.integers(0, 2)), object),
    "dicts": values(st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), min_size=1), object),
}
LABELS: dict[str, Any] = {
    "range": lambda n: st.just(pd.RangeIndex(n)),
    "steps": lambda n: st.just(pd.RangeIndex(3, 3 + 2 * n, 2, name="k")),
    **{name: KINDS[name] for name in ("int64", "uint8", "float64", "bool", "texts all there", "text", "mixed")},
    **{
        name: KINDS[name]
        for name in ("times", "zoned", "spans", "months", "intervals", "categories", "dates", "string")
    },
}


@st.composite
def indexes(draw: Any, n: int) -> Any:
    """An index of so many labels, of one or two levels, with and without names."""
    kinds = draw(st.lists(st.sampled_from(sorted(LABELS)), min_size=1, max_size=2))
    levels = [pd.Index(draw(LABELS[kind](n))) for kind in kinds]
    found = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    if len(levels) > 1 or not isinstance(found, pd.RangeIndex):
        found.names = draw(
            st.lists(st.sampled_from([None, "k", "index", 7]), min_size=len(levels), max_size=len(levels))
        )
    return found


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    """Any frame."""
    n_rows = draw(st.integers(0, 4))
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=3))
    columns = {place: draw(KINDS[kind](n_rows)).array for place, kind in enumerate(kinds)}
    frame = pd.DataFrame(columns, index=draw(indexes(n_rows)))
    named = draw(st.booleans())
    frame.columns = draw(indexes(len(kinds))) if named else pd.Index([f"c{place}" for place in range(len(kinds))])
    return frame


@pytest.mark.parametrize("name", CACHERS)
def test_a_frame_comes_back_or_another_cacher_is_named(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("frames")
    refused = []

    @given(frame=frames())
    @settings(max_examples=30, deadline=None, derandomize=True)
    def check(frame: pd.DataFrame) -> None:
        before = frame.copy()
        try:
            found = come_back(CACHERS[name], frame, folder)
        except CacheError as error:
            refused.append(error.fix)
        else:
            assert_same(found, before, exact=name != "excel")
        assert_same(frame, before)

    check()
    assert all("PickleCacher" in fix for fix in refused)


# --- frames of every day ---------------------------------------------------------------------------------------------
FLOATS = np.array([0.1, 1 / 3], dtype="float32")
EVERY_DAY = {
    "labels that count": pd.DataFrame([[1, 2], [3, 4]]),
    "index of integers": pd.DataFrame([["a", 2], ["b", 4]]).set_index(0),
    "crosstab": pd.crosstab(pd.Series([True, False], name="a"), pd.Series([False, True], name="b")),
    "pivot": pd.DataFrame({"r": ["x", "y"], "c": [1, 2], "v": [0.5, 1.5]}).pivot(index="r", columns="c", values="v"),
    "described groups": pd.DataFrame({"k": [1, 1, 2], "v": [0.5, 1.5, 2.5]}).groupby("k").agg(["mean", "count"]),
    "texts as index": pd.DataFrame({"a": [1, 2]}, index=["007", "1e3"]),
    "times as index": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024-01-01", periods=2)),
    "twice": pd.DataFrame([[1, 2]], columns=["a", "a"], index=["x"]),
    "empty and missing": pd.DataFrame({"a": ["", None, "NA", "nan", "NaN", "null"]}),
    "returns": pd.DataFrame({"a": ["x\ry", "p\r\nq", "\n"]}),
    "small": pd.DataFrame({"a": FLOATS, "b": np.array([1, 255], "uint8"), "c": [0.1 + 0.2, 1e-310]}),
    "large": pd.DataFrame({"a": np.array([2**64 - 1, 1], "uint64"), "b": [2**63 - 1, -(2**63)]}),
    "missing integers": pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [np.inf, None]}),
    "categories": pd.cut(pd.Series([1, 5, 9]), [0, 3, 6, 10]).to_frame("bin").assign(k=pd.Categorical([3, 1, 3])),
    "moments": pd.DataFrame({"a": pd.to_datetime(["2024-01-31 01:02:03.123456789"]), "b": [pd.Timedelta("1h")]}),
    "days": pd.DataFrame({"a": [dt.date(2024, 1, 31), None]}, index=pd.period_range("2020", periods=2, freq="M")),
    "complex": pd.DataFrame({"a": [1 + 2j, 0.1j]}),
    "nothing": pd.DataFrame(),
}


@pytest.mark.parametrize("name", FOR_PEOPLE)
@pytest.mark.parametrize("frame", EVERY_DAY.values(), ids=EVERY_DAY)
def test_a_frame_of_every_day_comes_back_from_what_is_for_people(
    tmp_path: Path, name: str, frame: pd.DataFrame
) -> None:
    if name == "excel":
        frame = frame.round(15) if "c" in frame else frame  # it has no more digits
    if (name, len(frame)) == ("excel", 0):
        return
    assert_same(come_back(CACHERS[name], frame, tmp_path), frame)


@pytest.mark.parametrize("name", ["parquet", "pandas parquet", "feather"])
@pytest.mark.parametrize("frame", [frame for kind, frame in EVERY_DAY.items() if kind != "complex"])
def test_a_frame_of_every_day_comes_back_from_arrow(tmp_path: Path, name: str, frame: pd.DataFrame) -> None:
    frame = frame.assign(s=pd.array(["2024-01-01"] * len(frame), dtype="datetime64[s]")) if "a" in frame else frame
    assert_same(come_back(CACHERS[name], frame, tmp_path), frame)


@pytest.mark.parametrize("name", ["parquet", "feather", "orc"])
@pytest.mark.parametrize("frame", [EVERY_DAY["labels that count"], pd.DataFrame([[1, 2]], columns=[True, False])])
def test_labels_come_back_from_what_has_texts_only(tmp_path: Path, name: str, frame: pd.DataFrame) -> None:
    assert_same(come_back(CACHERS[name], frame, tmp_path), frame)


def test_excel_keeps_sixteen_digits(tmp_path: Path) -> None:
    found = come_back(CACHERS["excel"], pd.DataFrame({"a": [0.1 + 0.2]}), tmp_path)
    assert found["a"].tolist() == [0.3]


def test_what_the_file_looks_like_is_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["", "x"], "b": [0.5, None]}, index=[3, 5])
    for place, content in ((0, None), (1, ",a,b\n3,,0.5\n5,x,\n"), (2, ",a,b\n3,,0.5\n5,NA,\n")):
        if content:
            frame.iloc[1, 0] = "x" if place == 1 else None
            PandasCsvCacher(tmp_path / "a.csv").save(frame)
            assert (tmp_path / "a.csv").read_text() == content
    assert pd.read_csv(tmp_path / "a.csv", index_col=0)["a"].isna().all()


# --- odd cells -------------------------------------------------------------------------------------------------------
class Odd:
    """An object whose methods say nothing that helps."""

    def __init__(self, name: str, answer: Any) -> None:
        self.answer = answer
        self.name = name

    def __repr__(self) -> str:
        return self._answer("repr", "odd\nobject")

    def __eq__(self, other: object) -> bool:
        return self._answer("eq", self is other)

    def __bool__(self) -> bool:
        return self._answer("bool", True)

    __hash__ = object.__hash__

    def _answer(self, name: str, usual: Any) -> Any:
        if name == self.name and isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if name == self.name else usual


class Tensor:
    """What torch and its like have."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.ndim = values, 1

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, place: int) -> float:
        return self.values[place]

    def item(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


class Scalarless(Tensor):
    """One that does not say that it has several values."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.ndim = values, 0


ODD_CELLS: dict[str, Any] = {
    "arrays": [np.array([1.5, 2]), np.array([3.0])],
    "arrays of two dimensions": [np.ones((2, 2)), np.zeros((1, 2))],
    "an array of no dimension": [np.array(1.5), np.array(2.5)],
    "arrays and texts": [np.array([1, 2]), "x"],
    "empty arrays": [np.array([]), None],
    "tensors": [Tensor([1.5, 2]), Tensor([3.0, 4])],
    "tensors of no dimension": [Scalarless([1.5, 2]), Scalarless([3.0, 4])],
    "frames": [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})],
    "series": [pd.Series([1, 2]), pd.Series([1.5])],
    "sets": [{1, 2}, {3}],
    "numbers of numpy": [np.int32(1), np.float32(0.5)],
    "what raises when it is compared": [Odd("eq", ValueError("eq")), 1],
    "what compares to many": [Odd("eq", np.array([True, False])), 1],
    "what raises when it is shown": [Odd("repr", ValueError("repr")), 1],
    "what has no truth": [Odd("bool", TypeError("bool")), 1],
    "dictionaries of those": [{"a": np.array([1, 2])}, {"a": Odd("eq", ValueError("eq"))}],
}


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, "column") for name in ("parquet", "feather", "hdf5", "csv", "json", "excel", "xml", "pickle")]
    + [(name, "index") for name in ("parquet", "csv", "json")],
)
@pytest.mark.parametrize("kind", ODD_CELLS)
def test_odd_cells_come_back_or_another_cacher_is_named(tmp_path: Path, name: str, kind: str, place: str) -> None:
    cells = pd.Series(ODD_CELLS[kind], dtype=object)
    frame = pd.DataFrame({"a": cells}) if place == "column" else pd.DataFrame({"a": [1, 2]}, index=pd.Index(cells))
    cacher = CACHERS.get(name, PandasCacher())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what has to be pickled
            found = come_back(cacher, frame, tmp_path)
    except CacheError as error:
        named = error
        assert ("PickleCacher" in named.fix, "\n" in named.what) == (True, False)
    else:
        assert found.shape == frame.shape


@pytest.mark.parametrize(
    ("values", "names", "found"),
    [
        ([pd.NaT, "x"], ("parquet", "feather"), {"[None, 'x']", "[nan, 'x']"}),
        ([pd.NA, "x"], ("parquet", "feather"), {"[None, 'x']", "[nan, 'x']"}),
        ([(1, 2), (3,)], ("parquet", "feather"), {"[array([1, 2]), array([3])]"}),
        ([Decimal("2"), Decimal("1.25")], ("parquet", "feather"), {"[Decimal('2.00'), Decimal('1.25')]"}),
        ([np.int32(1), np.int32(2)], ("csv", "json"), {"[1, 2]"}),
    ],
    ids=["NaT", "NA", "tuples", "decimals", "numbers"],
)
def test_what_the_page_says_is_not_told_apart(
    tmp_path: Path, values: list[Any], names: tuple[str, ...], found: set[str]
) -> None:
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    for name in names:
        assert repr(come_back(CACHERS[name], frame, tmp_path)["a"].tolist()) in found


def test_frames_in_cells_are_compared_by_what_they_hold(tmp_path: Path) -> None:
    one, other = (pd.DataFrame({"a": [pd.DataFrame({"x": [value]})]}) for value in (1, 2))
    assert difference(one, one.copy()) == ""
    assert difference(one, other).startswith("its column 'a'")


def test_the_index_is_named_as_the_fault_only_where_it_is(tmp_path: Path) -> None:
    labelled = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    for format, frame in (
        ("orc", labelled),
        ("feather", MIXED),
        ("feather", pd.DataFrame({"a": [{"x": 1}, {"y": 2}]})),
    ):
        with pytest.raises(CacheError) as caught:
            PandasCacher(tmp_path / "x", format=format).save(frame)
        assert ("reset_index" in caught.value.fix) == (frame is labelled), caught.value
        assert "PickleCacher" in caught.value.fix


# --- when it is checked ----------------------------------------------------------------------------------------------
MIXED = pd.DataFrame({"a": [1, "1"]})


def test_what_would_change_fails_the_stage_and_is_not_stored(tmp_path: Path) -> None:
    @cf.stage(None, ["table"], [PandasCsvCacher])
    def make(record: Any) -> Any:
        return MIXED

    with cf.ArtifactManager("e", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
        with pytest.raises(CacheError, match="would come back from csv as another one: its column 'a'") as caught:
            make(cf.Record(manager, None))
        assert "ParquetCacher or PandasCacher(format='pickle') or PickleCacher" in str(caught.value)
    assert not list((tmp_path / "cache").glob("e_*"))


def test_the_check_can_be_left_out(tmp_path: Path) -> None:
    assert come_back(PandasCsvCacher(check_saved=False), MIXED, tmp_path)["a"].tolist() == ["1", "1"]
    frame = pd.DataFrame({"a": [{"x": 1}, {"y": 2}]})
    assert come_back(ParquetCacher(check_saved=False), frame, tmp_path)["a"].tolist()[0] == {"x": 1, "y": None}


def test_what_arguments_leave_out_is_no_difference_but_it_must_load(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.123], "b": ["x"]}, index=["r"])
    found = come_back(PandasCsvCacher(to_args={"float_format": "%.1f", "columns": ["a"]}), frame, tmp_path)
    assert found.to_dict() == {"a": {"r": 0.1}}
    found = come_back(PandasCsvCacher(to_args={"index": False}), frame, tmp_path)
    assert_same(found, frame.reset_index(drop=True))
    with pytest.raises(CacheError, match="cannot be loaded: "):
        PandasCsvCacher(tmp_path / "a.csv", read_args={"usecols": ["c"]}).save(frame)


TIMES = pd.DataFrame(
    {
        "when": pd.to_datetime(["2024-01-31", "2024-02-01T12:34:56.789123456"], format="ISO8601"),
        "zoned": pd.to_datetime(["2024-01-31", "2024-02-01"], utc=True).tz_convert("Europe/Paris"),
        "date": pd.to_datetime(["2024-01-31", None]),
        "n": [1.5, 2.5],
    }
)


@pytest.mark.parametrize("given", [{}, {"date_format": "iso"}, {"force_ascii": False}], ids=str)
@pytest.mark.parametrize("orient", ["split", "records", "index", "columns"])
def test_times_come_back_from_json_of_any_form(tmp_path: Path, orient: str, given: dict[str, Any]) -> None:
    for read_args in ({"orient": orient}, None):
        cacher = PandasJsonCacher(to_json_args={"orient": orient, **given}, read_json_args=read_args)
        for frame in (TIMES, TIMES.set_axis(range(4), axis="columns")):
            found = come_back(cacher, frame, tmp_path)
            assert str(found.dtypes.iloc[1]).endswith(", Europe/Paris]")
            assert [each.kind for each in found.dtypes] == ["M", "M", "M", "f"]
            pd.testing.assert_frame_equal(found.astype(frame.dtypes.to_dict()), frame)


def test_times_are_written_and_read_as_arguments_say(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what pandas will leave out
        numbers = PandasJsonCacher(to_json_args={"orient": "split", "date_format": "epoch"})
        found = come_back(numbers, TIMES[["when"]], tmp_path)
        assert found["when"].tolist() == TIMES["when"].astype("datetime64[ns]").astype("int64").tolist()
        texts = PandasJsonCacher(to_json_args={"orient": "split"}, read_json_args={"convert_dates": False})
        assert come_back(texts, TIMES[["when"]], tmp_path)["when"][0].startswith("2024-01-31T00:00:00")
        PandasJsonCacher(tmp_path / "a.json", to_json_args={"orient": "split"}).save(TIMES)
        by_hand = PandasJsonCacher(tmp_path / "a.json", read_json_args={"orient": "split"}).load()
        assert by_hand["when"][0].startswith("2024-01-31T00:00:00")
        assert by_hand["date"].dtype.kind == "M"
    whole = PandasJsonCacher(to_json_args={"orient": "table"})
    pd.testing.assert_frame_equal(come_back(whole, TIMES[["when"]], tmp_path), TIMES[["when"]], check_dtype=False)


def test_types_of_json_of_another_form_are_told_from_the_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({"f": [1.0, 2.0], "t": ["007", "8"]})
    found = come_back(PandasJsonCacher(to_json_args={"orient": "split"}), frame, tmp_path)
    assert found.to_dict("list") == {"f": [1, 2], "t": [7, 8]}
    found = come_back(PandasJsonCacher(to_json_args={"orient": "table"}), frame, tmp_path)
    assert found.to_dict("list") == {"f": [1.0, 2.0], "t": ["007", "8"]}


def test_a_cacher_of_ones_own_may_give_something_else(tmp_path: Path) -> None:
    class Rows(PandasCsvCacher):
        def save(self, obj: Any) -> Any:
            return super().save(pd.DataFrame({"n": obj}))

        def load(self) -> Any:
            return super().load()["n"].tolist()

    Rows(tmp_path / "a.csv").save([1, 2])
    assert Rows(tmp_path / "a.csv").load() == [1, 2]


def test_tables_of_earlier_versions_are_read(tmp_path: Path) -> None:
    cacher = PandasCsvCacher(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("k,t,n\n3,007,1\n5,,2\n")
    cacher.extra_metadata = {"csv": {"index_levels": 1, "column_levels": 1, "texts": ["t"], "dates": {}}}
    expected = pd.DataFrame({"t": ["007", None], "n": [1, 2]}, index=pd.Index([3, 5], name="k"))
    assert_same(cacher.load(), expected.assign(t=expected["t"].where(expected["t"].notna(), np.nan)))


def test_frames_that_arrow_has_are_not_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetCacher, "load", lambda self: pytest.fail("it was read"))
    monkeypatch.setattr(PandasCacher, "load", lambda self: pytest.fail("it was read"))
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": [True, False]})
    for name in ("parquet", "pandas parquet", "feather", "csv"):
        CACHERS[name].bound(tmp_path, "x").save(frame)
    PandasCacher(tmp_path / "p").save(MIXED)
    with pytest.raises(pytest.fail.Exception, match="it was read"):
        CACHERS["parquet"].bound(tmp_path, "x").save(frame.assign(d=pd.Categorical(["x", "y"])))
