"""Cachers for tables, arrays and notebooks: what comes back, what is refused, and the arguments all cachers take."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.extra import pandas as hpd
from polars.testing.parametric import dataframes

import curidask as cf
from curidask import caching
from curidask.caching import (
    Cacheable,
    NumpyCacher,
    PandasCacher,
    PandasCSVCacher,
    PandasCsvCacher,
    PandasJsonCacher,
    ParquetCacher,
    RawJupyterNotebookCacher,
)
from curidask.core.json_text import NotJsonError
from curidask.errors import CacheError, ConfigurationError
from curidask.session.config import Config
from tests.contracts.test_cachers import CASES, FRAME, same

BUILT_IN = [name for name in caching.__all__ if name not in ("Cacheable", "Lazy")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that each example writes anew."""
    return tmp_path_factory.mktemp("values")


# --- what all take ---------------------------------------------------------------------------------------------------
def one_case(kind: type[Cacheable]) -> Any:
    """A value for a cacher."""
    return next(value for template, value in CASES.values() if kind in (template, type(template)))


def test_every_built_in_cacher_is_in_the_contract_suite() -> None:
    for name in BUILT_IN:
        assert one_case(getattr(caching, name)) is not None
    assert set(BUILT_IN) <= set(dir(caching))
    with pytest.raises(AttributeError, match="NoCacher"):
        _ = caching.NoCacher


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_argument_works_on_every_cacher(tmp_path: Path, name: str) -> None:
    kind, value = getattr(caching, name), one_case(getattr(caching, name))
    overridden = {} if name == "PathRef" else {"path_override": "out/{name}_{stage}.dat"}
    cacher = kind(subdir="some/where", prefix="shared", track=False, extension="dat", **overridden)

    @cf.stage(None, ["value"], [cacher])
    def make(record: Any) -> Any:
        calls.append(1)
        return value

    calls: list[int] = []
    for experiment in ("one", "two"):  # that share by the prefix
        with cf.ArtifactManager(experiment, cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
            assert same(make(cf.Record(manager, None)).state["value"], value)
    assert len(calls) == 1
    (payload,) = (p for p in (tmp_path / "cache/some/where").iterdir() if not p.name.endswith("_metadata.json"))
    assert payload.name.startswith("shared_")
    assert payload.suffix == ".dat"
    if overridden:
        published = tmp_path / "out" / "value_make.dat"
        assert published.read_bytes() == payload.read_bytes()
        inline = kind(published)
        inline.extra_metadata = json.loads(payload.with_name(f"{payload.stem}_metadata.json").read_text())[
            "extra_metadata"
        ]
        assert same(inline.load(), value)
    assert cacher.bound(tmp_path, "x").track is False


def test_a_cacher_of_another_format_does_not_load_what_this_one_wrote(tmp_path: Path) -> None:
    def make_with(cacher: Any) -> Any:
        @cf.stage(None, ["frame"], [cacher])
        def make(record: Any) -> Any:
            calls.append(1)
            return pd.DataFrame({"a": [1]})

        with cf.ArtifactManager("e", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
            return make(cf.Record(manager, None)).state["frame"]

    calls: list[int] = []
    cachers = [PandasCacher, PandasCacher(), PandasCacher(format="csv"), PandasCacher(format="csv", extension="txt")]
    for cacher in [*cachers, PandasCsvCacher]:
        assert same(make_with(cacher), pd.DataFrame({"a": [1]}))
    assert len(calls) == 4  # the first two are alike


@pytest.mark.parametrize(
    ("statement", "missing", "text"),
    [
        ("PandasCacher(format='feather')", "pyarrow", r"PandasCacher\(format='feather'\) needs .*pyarrow"),
        ("PandasCacher(format='hdf5')", "tables", r"PandasCacher\(format='hdf5'\) needs .*tables"),
        ("PandasCacher(format='excel')", "openpyxl", r"PandasCacher\(format='excel'\) needs .*openpyxl"),
        ("PandasCacher(format='xml')", "lxml", r"PandasCacher\(format='xml'\) needs .*lxml"),
        ("ParquetCacher", "pyarrow polars", "ParquetCacher needs .*pyarrow"),
        ("PandasCsvCacher", "pandas", "PandasCsvCacher needs .*pandas"),
        ("NumpyCacher", "numpy", "NumpyCacher needs .*numpy"),
    ],
)
def test_a_missing_package_is_named_before_the_stage_runs(
    tmp_path: Path, statement: str, missing: str, text: str
) -> None:
    code = f"""
import sys
for name in {missing.split()!r}:
    sys.modules.pop(name, None)

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing.split()!r}:
            raise ModuleNotFoundError(name)

import importlib.util
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {missing.split()!r} else there(name, *rest)
sys.meta_path.insert(0, Hide())
import curidask as cf
from curidask.caching import *

@cf.stage(None, ["x"], [{statement}])
def make(record):
    print("ran")

try:
    make(cf.Record(cf.ArtifactManager("e"), None))
except cf.CuridaskError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "ran" not in done.stdout
    assert re.search(text, done.stdout), done.stdout
    assert "pip install 'curidask[" in done.stdout


@pytest.mark.parametrize(("format", "package"), [("excel", "openpyxl"), ("hdf5", "tables"), ("xml", "lxml")])
def test_a_package_that_is_missing_is_named_by_a_cacher_used_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, package: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name))
    with pytest.raises(CacheError, match=f"needs the package '{package}'(.|\n)*pip install"):
        PandasCacher(str(tmp_path / "below" / "t"), format=format).save(pd.DataFrame({"a": [1]}))
    assert not list(tmp_path.iterdir())


# --- frames ----------------------------------------------------------------------------------------------------------
LETTERS = st.text(string.ascii_letters + string.digits + " ,;\"'\n-é", min_size=1)
COLUMNS = [
    hpd.column("whole", dtype="int64"),
    hpd.column("part", elements=st.floats(allow_infinity=False)),
    hpd.column("text", elements=LETTERS | st.none(), dtype=object),
    hpd.column("flag", dtype=bool),
    hpd.column("time", elements=st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01")).map(pd.Timestamp)),
]
FRAMES = hpd.data_frames(COLUMNS, index=hpd.range_indexes(min_size=1, max_size=6)).map(
    lambda frame: frame.astype({"text": "str" if pd.__version__ >= "3" else "object", "time": "datetime64[us]"})
)


@given(frame=FRAMES)
@settings(max_examples=60, deadline=None)
def test_frames_come_back_from_parquet_and_pickle(folder: Path, frame: pd.DataFrame) -> None:
    for cacher in (ParquetCacher(folder / "f.parquet"), PandasCacher(folder / "f.pkl")):
        cacher.save(frame)
        assert same(cacher.load(), frame)


@given(frame=FRAMES)
@settings(max_examples=60, deadline=None)
def test_frames_come_back_from_csv_and_json(folder: Path, frame: pd.DataFrame) -> None:
    csv = PandasCsvCacher(folder / "f.csv")
    csv.save(frame)
    pd.testing.assert_frame_equal(csv.load(), frame, check_dtype=False, check_exact=True)
    table = PandasJsonCacher(folder / "f.json")
    frame = frame.assign(part=frame["part"].where(frame["part"].abs().between(1e-300, 1e300), 0.5))
    table.save(frame)
    pd.testing.assert_frame_equal(table.load(), frame, check_dtype=False, check_exact=False, rtol=1e-13)


@given(frame=dataframes(max_cols=5, max_size=6, excluded_dtypes=[pl.Object, pl.Null]))
@settings(max_examples=60, deadline=None)
def test_polars_frames_come_back(folder: Path, frame: pl.DataFrame) -> None:
    cacher = ParquetCacher(folder / "p.parquet")
    cacher.save(frame)
    loaded = cacher.load()
    assert loaded.schema == frame.schema
    assert loaded.equals(frame)


LABELS = {
    "crosstab": pd.crosstab(
        pd.Series([True, False, True], name="a"), pd.Series([False, False, True], name="b")
    ).columns,
    "booleans": pd.Index([True, False], name="flag"),
    "mixed": pd.Index(["a", 1], dtype=object),
    "with a missing one": pd.Index(["a", None], dtype=object),
    "numbers as texts": pd.Index(["1", "1.0"]),
    "numbers": pd.Index([0.5, -1.5]),
    "small numbers": pd.Index([1, 2], dtype="uint8"),
    "categories": pd.CategoricalIndex(["y", "x"], categories=["y", "x", "z"], ordered=True, name="kind"),
    "categories of intervals": pd.CategoricalIndex(pd.interval_range(0, 2)),
    "intervals": pd.interval_range(0.0, 2.0, closed="left"),
    "intervals of times": pd.interval_range(pd.Timestamp("2020"), periods=2),
    "periods": pd.period_range("2020", periods=2, freq="M", name="month"),
    "differences": pd.to_timedelta([1, 2], unit="h"),
    "times": pd.date_range("2020", periods=2, tz="Europe/Berlin").as_unit("us"),
    "twice": pd.Index(["a", "a"]),
    "twice, and what would tell them apart": pd.Index(["a.1", "a"]).append(pd.Index(["a"])),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["p", "q"]),
    "levels of booleans": pd.MultiIndex.from_tuples([("a", True), ("a", False)], names=["p", None]),
    "levels of intervals": pd.MultiIndex.from_product([["a"], pd.interval_range(0, 2)]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_columns_come_back_from_parquet(tmp_path: Path, labels: pd.Index[Any]) -> None:
    frame = pd.DataFrame([range(len(labels)), range(len(labels))], columns=labels)
    frame.attrs["unit"] = "m"
    for cacher in (ParquetCacher(tmp_path / "p.parquet"), PandasCacher(tmp_path / "q.parquet", format="parquet")):
        cacher.save(frame)
        loaded = cacher.load()
        pd.testing.assert_frame_equal(loaded, frame, check_freq=False)
        assert loaded.attrs == frame.attrs == {"unit": "m"}


def test_some_columns_under_labels_of_their_own(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2]], columns=[True, False])
    ParquetCacher(tmp_path / "p.parquet").save(frame)
    loaded = ParquetCacher(tmp_path / "p.parquet", read_args={"columns": ["False"]}).load()
    pd.testing.assert_frame_equal(loaded, frame.iloc[:, [1]])
    assert list(pd.read_parquet(tmp_path / "p.parquet").columns) == ["True", "False"]


def test_labels_that_cannot_be_written_down_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1]], columns=[Ellipsis])
    for cacher in (ParquetCacher(tmp_path / "p"), PandasCsvCacher(tmp_path / "c"), PandasCacher(tmp_path / "f", "orc")):
        with pytest.raises(CacheError, match=r"a label is Ellipsis") as caught:
            cacher.save(frame)
        assert "PickleCacher" in caught.value.fix


def test_a_parquet_file_of_another_program_is_a_pandas_frame(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    assert same(ParquetCacher(tmp_path / "a.parquet").load(), pd.DataFrame({"a": [1, 2]}))


def test_both_names_and_the_older_arguments(tmp_path: Path) -> None:
    assert PandasCSVCacher is PandasCsvCacher
    frame = pd.DataFrame({"a": [0.123456]}, index=["r"])
    PandasCSVCacher(tmp_path / "a.csv", to_csv_args={"float_format": "%.2f"}).save(frame)
    assert (tmp_path / "a.csv").read_text() == ",a\nr,0.12\n"
    read = PandasCSVCacher(tmp_path / "a.csv", read_csv_args={"index_col": None}).load()
    assert list(read.columns) == ["Unnamed: 0", "a"]
    PandasJsonCacher(tmp_path / "a.json", to_json_args={"orient": "index"}).save(frame)
    assert json.loads((tmp_path / "a.json").read_text()) == {"r": {"a": 0.123456}}
    read = PandasJsonCacher(tmp_path / "a.json", read_json_args={"orient": "columns"}).load()
    assert list(read.columns) == ["r"]
    ParquetCacher(tmp_path / "a.parquet", to_args={"index": False}, read_args={"columns": []}).save(frame)
    assert ParquetCacher(tmp_path / "a.parquet").load().index[0] == 0
    assert list(ParquetCacher(tmp_path / "a.parquet", read_args={"columns": []}).load().columns) == []


def test_csv_of_other_programs_keeps_texts_that_look_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,land\n1,NA\n2,\n")
    frame = PandasCsvCacher(tmp_path / "a.csv").load()
    assert frame["land"].isna().tolist() == [False, True]
    assert frame.index.name == "id"


def test_csv_of_other_programs_is_read_as_pandas_does(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("land,n,flag\nNA,1,True\nDE,NA,False\nFR,nan,\n")
    frame = PandasCsvCacher(tmp_path / "a.csv", read_csv_args={}).load()
    assert frame["land"].tolist() == ["NA", "DE", "FR"]
    assert frame["n"].tolist()[0] == 1.0
    assert frame["n"].isna().tolist() == [False, True, True]
    assert same(PandasCsvCacher(tmp_path / "a.csv").load(), frame.set_index("land"))
    as_pandas = PandasCsvCacher(tmp_path / "a.csv", read_csv_args={"keep_default_na": True}).load()
    assert same(as_pandas, pd.read_csv(tmp_path / "a.csv"))
    pd.DataFrame({"n": [1, "NA"], "t": ["NA", "x"]}).to_excel(tmp_path / "a.xlsx")
    sheet = PandasCacher(tmp_path / "a.xlsx", "excel").load()
    assert sheet["n"].isna().tolist() == [False, True]
    assert sheet["t"].tolist() == ["NA", "x"]
    (part,) = PandasCsvCacher(tmp_path / "a.csv", read_csv_args={"chunksize": 5}).load()
    assert len(part) == 3


# --- JSON ------------------------------------------------------------------------------------------------------------
ROWS = pd.DataFrame(
    {"text": ["007", "é", None], "part": [0.1 + 0.2, np.nan, 1e300], "n": [1, 2**60, -1], "t": [True] * 3}
)


def test_json_is_an_array_of_dictionaries_where_that_gives_the_frame_back(tmp_path: Path) -> None:
    PandasJsonCacher(tmp_path / "a.json").save(ROWS)
    rows = json.loads((tmp_path / "a.json").read_text())
    assert rows[0] == {"text": "007", "part": 0.1 + 0.2, "n": 1, "t": True}
    assert rows[1]["part"] is None
    pd.testing.assert_frame_equal(PandasJsonCacher(tmp_path / "a.json").load(), ROWS, check_exact=True)
    pd.testing.assert_frame_equal(PandasCacher(tmp_path / "a.json", format="json").load(), ROWS, check_exact=True)


@pytest.mark.parametrize(
    "frame",
    [
        ROWS.set_axis(["a", "b", "c"]),
        ROWS.iloc[1:],
        ROWS.rename_axis("i"),
        ROWS.assign(kind=pd.Categorical(["x", "y", "x"])),
        ROWS.assign(time=pd.to_datetime(["2020-01-01"] * 3)),
        ROWS.assign(small=np.array([1, 2, 3], dtype="int8")),
        ROWS.assign(nothing=[np.nan] * 3),
        ROWS.assign(infinite=[np.inf] * 3),
        ROWS.iloc[:0],
    ],
)
def test_json_of_other_frames_has_the_schema(tmp_path: Path, frame: pd.DataFrame) -> None:
    PandasJsonCacher(tmp_path / "a.json").save(frame)
    assert "schema" in json.loads((tmp_path / "a.json").read_text())
    loaded = PandasJsonCacher(tmp_path / "a.json").load()
    assert list(loaded["text"].dropna()) == list(frame["text"].dropna())
    assert list(loaded.index) == list(frame.index)


@given(frame=FRAMES)
@settings(max_examples=40, deadline=None)
def test_json_rows_come_back_exactly(folder: Path, frame: pd.DataFrame) -> None:
    part = frame["part"].where(frame["part"].abs().between(1e-300, 1e300), 0.5)
    frame = frame.drop(columns="time").assign(part=part)
    PandasJsonCacher(folder / "rows.json").save(frame)
    if (folder / "rows.json").read_bytes().startswith(b"["):
        pd.testing.assert_frame_equal(PandasJsonCacher(folder / "rows.json").load(), frame, check_exact=True)


def test_json_of_other_versions_and_programs_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    ROWS.to_json(path, orient="table", double_precision=15, date_unit="ns")  # as earlier versions wrote it
    pd.testing.assert_frame_equal(PandasJsonCacher(path).load(), ROWS)
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_json(path, double_precision=15)  # as curifactory writes it
    assert same(PandasJsonCacher(path).load(), frame)
    frame.to_json(path, orient="table", compression="gzip")
    compressed = PandasJsonCacher(path, to_json_args={"compression": "gzip"}, read_json_args={"compression": "gzip"})
    assert same(compressed.load(), frame)
    for orient in ("split", "records"):
        PandasJsonCacher(path, to_json_args={"orient": orient}).save(frame)
        assert same(PandasJsonCacher(path, to_json_args={"orient": orient}).load(), frame)


# --- Excel, XML, HDF5 ------------------------------------------------------------------------------------------------
def test_formats_for_other_programs(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["007", "x"]})
    for format, read in (("excel", pd.read_excel), ("xml", pd.read_xml), ("hdf5", pd.read_hdf)):
        cacher = PandasCacher(tmp_path / "f", format=format)
        assert cacher.bound(tmp_path, "x").get_path().endswith({"excel": ".xlsx", "xml": ".xml", "hdf5": ".h5"}[format])
        cacher.save(frame)
        assert same(cacher.load(), frame)
        assert list(read(tmp_path / "f")["a"]) == [1, 2]
        (tmp_path / "f").unlink()
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    assert list(PandasCacher(tmp_path / "a.xlsx", "excel", read_args={}).load()) == ["a", "b"]
    assert list(PandasCacher(tmp_path / "a.xlsx", "excel").load()) == ["b"]
    PandasCacher(tmp_path / "a.h5", "hdf5", to_args={"key": "other"}).save(frame)
    assert same(PandasCacher(tmp_path / "a.h5", "hdf5").load(), frame)


def test_by_hand_only_json_keeps_what_labels_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.eye(2))
    PandasJsonCacher(tmp_path / "a.json").save(frame)
    assert same(PandasJsonCacher(tmp_path / "a.json").load(), frame)
    PandasCsvCacher(tmp_path / "a.csv").save(frame)
    assert same(PandasCsvCacher(tmp_path / "a.csv").load(), frame.rename(columns=str))


@pytest.mark.parametrize(
    ("cacher", "value", "text"),
    [
        (PandasCsvCacher, {"a": [1]}, "is a dict, not a pandas DataFrame"),
        (PandasCsvCacher, FRAME["text"], "Series, not a pandas DataFrame"),
        (ParquetCacher, pl.LazyFrame({"a": [1]}), "LazyFrame, not a frame"),
        (ParquetCacher, pd.DataFrame({"a": [1, "x"]}), "cannot be written as Parquet"),
        (PandasCacher(format="parquet"), pd.DataFrame({"a": [1, "x"]}), "cannot be written as parquet"),
        (PandasCacher(format="orc"), FRAME, "cannot be written as orc"),
        (PandasCacher(format="excel"), pd.DataFrame({"a": ["=1+1"]}), "would come back from excel as another"),
        (PandasCacher(format="hdf5"), FRAME, "cannot be written as hdf5"),
        (PandasCacher(format="xml"), pd.DataFrame({"a": ["\0"]}), "cannot be written as xml"),
        (PandasCsvCacher, pd.DataFrame({"a": [1, "1"]}), "its column 'a' would have '1', not 1"),
        (PandasCsvCacher, pd.DataFrame({"a": [{"x": 1}]}), "its column 'a' would have \"{'x': 1}\", not {'x': 1}"),
        (PandasJsonCacher, pd.DataFrame({"a": [{1: 2}]}), "its column 'a' would have {'1': 2}, not {1: 2}"),
        (ParquetCacher, pd.DataFrame({"a": [{"x": 1}, {"y": 2}]}), "its column 'a' would have"),
    ],
)
def test_frames_that_a_format_cannot_hold_are_refused(tmp_path: Path, cacher: Any, value: Any, text: str) -> None:
    template = cacher() if isinstance(cacher, type) else cacher
    with pytest.raises(CacheError, match=text) as caught:
        template.bound(tmp_path, "x", name="frame").save(value)
    assert caught.value.fix


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'stata'") as caught:
        PandasCacher(format="stata")
    assert "parquet" in caught.value.fix


# --- arrays ----------------------------------------------------------------------------------------------------------
DTYPES = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind not in "OV") | hnp.array_dtypes(hnp.integer_dtypes())
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0))
FORMS = ARRAYS | st.lists(ARRAYS, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), ARRAYS, max_size=3)


@given(value=FORMS, compressed=st.booleans(), mapped=st.sampled_from([None, "r", "c"]))
@settings(max_examples=120, deadline=None)
def test_arrays_come_back(folder: Path, value: Any, compressed: bool, mapped: str | None) -> None:
    options: dict[str, Any] = {"mmap_mode": mapped} if mapped else {"compressed": compressed}
    cacher = NumpyCacher(folder / "arrays.npz", **options)
    if isinstance(value, dict) and len({str(key) for key in value}) < len(value):
        value = {repr(key): array for key, array in value.items()}
    cacher.save(value)
    assert same(cacher.load(), value)
    assert same(NumpyCacher(folder / "arrays.npz").load(), value)


def test_mapped_arrays_are_not_read_and_do_not_change_what_is_stored(tmp_path: Path) -> None:
    array = np.arange(1000.0)
    NumpyCacher(tmp_path / "a", mmap_mode="r").save({"a": array})
    reading = NumpyCacher(tmp_path / "a", mmap_mode="r").load()["a"]
    assert isinstance(reading, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        reading[0] = 1
    copying = NumpyCacher(tmp_path / "a", mmap_mode="c").load()["a"]
    copying[0] = 7
    assert copying[0] == 7
    assert same(NumpyCacher(tmp_path / "a").load()["a"], array)


def test_the_archive_is_one_that_numpy_reads_and_one_of_numpy_is_read(tmp_path: Path) -> None:
    NumpyCacher(tmp_path / "a.npz").save({"w": np.arange(3), "b": np.float64(1)})
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["w"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "b.npz", x=np.arange(2))
    assert same(NumpyCacher(tmp_path / "b.npz").load(), {"x": np.arange(2)})
    NumpyCacher(tmp_path / "c.npz", compressed=True).save(np.zeros(100_000))
    assert (tmp_path / "c.npz").stat().st_size < 10_000


def test_a_later_save_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    for options, value in (({}, [1]), ({"mmap_mode": "r"}, [2, 3]), ({"mmap_mode": "r"}, [4]), ({}, [5])):
        NumpyCacher(tmp_path / "a.npz", **options).save([np.array(n) for n in value])
        assert [int(array) for array in NumpyCacher(tmp_path / "a.npz").load()] == value
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([1, "x", None], dtype=object), r"The array has the dtype object"),
        ({"a": [1, 2]}, r"The value\['a'\] is a list"),
        ([np.zeros(2), np.ma.masked_array([1, 2], [True, False])], r"The value\[1\] is a numpy.ma"),
        (np.zeros(1, dtype=[("o", object)]), "could only store as a pickle"),
        *([(np.array(["x"], dtype="T"), "the dtype StringDType")] if int(np.__version__[0]) >= 2 else []),
        ({(1, 2): np.zeros(1)}, "a tuple"),
        ({True: np.zeros(1)}, "a bool"),
        (FRAME, "DataFrame, not a numpy array"),
        (3, "is a int"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path: Path, value: Any, text: str) -> None:
    for cacher in (NumpyCacher(), NumpyCacher(mmap_mode="r")):
        bound = cacher.bound(tmp_path, "x", name="weights")
        with pytest.raises(CacheError, match=text) as caught:
            bound.save(value)
        assert caught.value.fix
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"mmap_mode": "r+"}, {"mmap_mode": "w+"}, {"mmap_mode": "r", "compressed": True}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        NumpyCacher(**options)


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "a_arrays").mkdir()
    (tmp_path / "x.npy").rename(tmp_path / "a_arrays" / "x.npy")
    form = {"form": "array", "keys": ["array"], "kinds": ["array"], "members": ["x.npy"]}
    (tmp_path / "a_arrays" / "form.json").write_text(json.dumps(form))
    with pytest.raises(ValueError, match="allow_pickle"):
        NumpyCacher(tmp_path / "a").load()


# --- notebooks -------------------------------------------------------------------------------------------------------
METADATA = st.fixed_dictionaries({}, optional={"tags": st.just(["a"]), "x": st.integers(), "y": st.just({"a": [None]})})
SOURCES = st.text(st.characters(codec="utf-8"), max_size=20) | st.lists(st.text(max_size=3), max_size=3)
LINES = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=4)
CELL = (
    st.text(max_size=20)
    | LINES
    | st.fixed_dictionaries(
        {"cell_type": st.sampled_from(["code", "markdown", "raw"]), "source": SOURCES}, optional={"metadata": METADATA}
    )
)


@given(cells=st.lists(CELL, max_size=5))
@settings(deadline=None)
def test_cells_come_back_and_the_notebook_is_valid(folder: Path, cells: list[Any]) -> None:
    path = folder / "cells.ipynb"
    RawJupyterNotebookCacher(path).save(cells)
    assert RawJupyterNotebookCacher(path).load() == cells
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [c.source for c in notebook.cells] == [source_of(cell) for cell in cells]


def source_of(cell: Any) -> str:
    match cell:
        case str():
            return cell
        case list():
            return "\n".join(cell)
        case _:
            return "".join(cell["source"])


def test_lists_of_lines_come_back_after_jupyter_has_saved_them(tmp_path: Path) -> None:
    cells = [["import os", "", "print(1)"], ["x = 2"], [], "text\nof two"]
    path = tmp_path / "a.ipynb"
    RawJupyterNotebookCacher(path).save(cells)
    nbformat.write(nbformat.read(path, as_version=4), path)
    assert RawJupyterNotebookCacher(path).load() == cells


def test_a_notebook_of_jupyter_is_read(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# T\ntext"), nbformat.v4.new_code_cell("1 +\\\n2", execution_count=3)]
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    assert RawJupyterNotebookCacher(tmp_path / "a.ipynb").load() == [
        {"cell_type": "markdown", "source": "# T\ntext"},
        "1 +\\\n2",
    ]


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ("x = 1", "is a str, not a list"),
        (["x", 3], "Cell 1 of the notebook is a int"),
        ([["x", 3]], "Cell 0 of the notebook has as line 1 a int"),
        ([{"cell_type": "heading", "source": ""}], "'heading'"),
        ([{"cell_type": [], "source": ""}], "cell_type"),
        ([{"cell_type": "code"}], "no source"),
        ([{"cell_type": "code", "source": [1]}], "no source"),
        ([{"cell_type": "raw", "source": "", "outputs": []}], "'outputs', which such a cell cannot have"),
        ([{"cell_type": "raw", "source": "", "id": "a b"}], "has the id 'a b'"),
        (["x", {"cell_type": "raw", "source": "", "id": "cell-0"}], "of cell 0"),
        ([{"cell_type": "raw", "source": "", "metadata": 3}], "metadata"),
        ([{"cell_type": "raw", "source": "", "metadata": {"curidask": 3}}], "metadata"),
    ],
)
def test_what_is_no_cell_is_named(tmp_path: Path, cells: Any, text: str) -> None:
    with pytest.raises(CacheError, match=text) as caught:
        RawJupyterNotebookCacher(tmp_path / "a.ipynb").save(cells)
    assert caught.value.fix
    assert not (tmp_path / "a.ipynb").exists()


def test_what_json_cannot_express_in_a_cell_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotJsonError, match=r"cells\[0\]\.metadata\.x"):
        RawJupyterNotebookCacher(tmp_path / "a.ipynb").save(
            [{"cell_type": "raw", "source": "", "metadata": {"x": {1}}}]
        )
    assert not (tmp_path / "a.ipynb").exists()
