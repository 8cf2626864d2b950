"""Keywords that cachers hand on to pandas and polars: a typo is an error, where possible when the cacher is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from curidask.caching import PandasCacher, PandasCsvCacher, PandasJsonCacher, ParquetCacher
from curidask.errors import UnknownKeywordError


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PandasCsvCacher(to_csv_args={"indx": False}),
         r"pandas.DataFrame.to_csv\(\), for which `to_args` of PandasCsvCacher is, has .* 'indx'(?s:.*)'index'"),
        (lambda: PandasCsvCacher(read_csv_args={"sepp": ","}), r"pandas.read_csv\(\), .* 'sepp'(?s:.*)'sep'"),
        (lambda: PandasCsvCacher(to_args={"path_or_buf": "x"}), "has no keyword 'path_or_buf'"),
        (lambda: PandasJsonCacher(to_json_args={"orientt": "table"}), "'orientt'(?s:.*)'orient'"),
        (lambda: PandasJsonCacher(read_json_args={"dtypes": "table"}), "'dtypes'(?s:.*)'dtype'"),
        (lambda: PandasCacher(format="excel", to_args={"sheet": "x"}),
         r"PandasCacher\(format='excel'\)(?s:.*)'sheet_name'"),
        (lambda: PandasCacher(format="hdf5", to_args={"kye": "x"}), "'kye'(?s:.*)'key'"),
        (lambda: PandasCacher(to_args={"compresion": None}), "'compresion'(?s:.*)'compression'"),
    ],
)  # fmt: skip
def test_a_typo_is_told_when_the_cacher_is_made(make: Any, said: str) -> None:
    with pytest.raises(UnknownKeywordError, match=said):
        make()


@pytest.mark.parametrize("frame", [pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]})], ids=["pandas", "polars"])
def test_what_takes_any_keyword_tells_it_when_it_is_used(frame: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(UnknownKeywordError, match=r"'compresion'(?s:.*)`to_args` of ParquetCacher"):
        ParquetCacher(path, to_args={"compresion": None}).save(frame)
    ParquetCacher(path).save(frame)
    with pytest.raises(UnknownKeywordError, match=r"'colums'(?s:.*)`read_args` of ParquetCacher"):
        ParquetCacher(path, read_args={"colums": ["a"]}).load()


def test_of_formats_of_pandas_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1]})
    path = tmp_path / "a.feather"
    with pytest.raises(UnknownKeywordError, match=r"`to_args` of PandasCacher\(format='feather'\)"):
        PandasCacher(path, format="feather", to_args={"compresion": None}).save(frame)
    PandasCacher(path, format="parquet", to_args={"compression": "gzip"}).save(frame)
