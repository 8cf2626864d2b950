"""What a file of cells (CSV, Excel, XML, JSON) does not say of a pandas frame: described as JSON, and made again of it.

Such a file holds texts and perhaps numbers. Which types, labels and index they stand for is kept beside them.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curidask.caching import labels

Facts = Mapping[str, Any]
MARKERS = ("NA", "NaN", "nan", "null", "NULL", "N/A", "n/a", "None", "<NA>")
"""What stands for a missing text where the empty text is one: pandas reads all of them as missing by itself."""
INTERVAL = re.compile(r"[\[(](.*), (.*)[\])]", re.DOTALL)


# --- a frame ---------------------------------------------------------------------------------------------------------
def described(frame: Any, *, index: bool, blank: str | None) -> dict[str, Any]:
    """What the cells of a frame do not say.

    Parameters
    ----------
    frame : pandas.DataFrame
    index : bool
        Whether the file has the index even where that only counts.
    blank : str or None
        The text that stands for what is missing; None for a format with a value of its own for it.

    Raises
    ------
    labels.LabelError
        When a label cannot be written down.
    """
    import pandas

    facts: dict[str, Any] = {"labels": labels.described(frame.columns), "rows": len(frame)}
    if isinstance(frame.index, pandas.RangeIndex):
        facts["index"] = labels.described(frame.index)
        facts["levels"] = [{}] if index else []
    else:
        facts["names"] = labels.described_names(frame.index)
        facts["levels"] = [described_column(level, blank) for level in levels_of(frame.index)]
    columns = (described_column(frame.iloc[:, place], blank) for place in range(frame.shape[1]))
    facts["columns"] = [[facts_of, len(list(alike))] for facts_of, alike in itertools.groupby(columns)]
    if frame.attrs:
        with contextlib.suppress(TypeError, ValueError):
            facts["attrs"] = json.loads(json.dumps(frame.attrs))
    return facts


def columns_of(facts: Facts) -> list[Facts]:
    """The facts of all columns of the file, those of the index first."""
    return [*facts["levels"], *(column for column, times in facts["columns"] for _ in range(times))]


def markers_of(facts: Facts, blank: str) -> list[str | None]:
    """What stands for what is missing, of each column of the file; None where nothing is."""
    return [column.get("missing", blank) for column in columns_of(facts)]


def written(frame: Any, facts: Facts, blank: str, as_text: Callable[[Any], bool] = lambda column: False) -> Any:
    """The frame as it goes into the file.

    Parameters
    ----------
    frame : pandas.DataFrame
    facts : mapping
    blank : str
    as_text : callable
        Whether a column must be texts, since the format's own type would change it.
    """
    import pandas

    columns, n_levels = columns_of(facts), len(facts["levels"])
    frame = frame.copy(deep=False)
    for place, column in enumerate(columns[n_levels:]):
        frame.isetitem(place, _filled(frame.iloc[:, place], column, blank, as_text))
    if n_levels and "index" not in facts:
        names = frame.index.names
        filled = [
            pandas.Index(_filled(level, column, blank, as_text))
            for level, column in zip(levels_of(frame.index), columns, strict=False)
        ]
        frame.index = filled[0] if n_levels == 1 else pandas.MultiIndex.from_arrays(filled)
        frame.index.names = names
    return frame


def restored(facts: Facts, cells: Sequence[Any]) -> Any:
    """The frame that was described.

    Parameters
    ----------
    facts : mapping
    cells : sequence of pandas.Series
        The columns of the file, those of the index first; numbers may be texts.
    """
    import pandas

    columns = columns_of(facts)
    n_levels = len(facts["levels"])
    if "index" in facts:
        index = labels.made(facts["index"])
    else:
        found = [pandas.Index(made_column(column, raw)) for column, raw in zip(columns[:n_levels], cells, strict=False)]
        index = found[0] if n_levels == 1 else pandas.MultiIndex.from_arrays(found)
        index.names = labels.made_names(facts["names"])
    arrays = [made_column(column, raw) for column, raw in zip(columns[n_levels:], cells[n_levels:], strict=True)]
    frame = pandas.DataFrame(dict(enumerate(arrays)), index=index)
    frame.columns = labels.made(facts["labels"])
    frame.attrs.update(facts.get("attrs", {}))
    return frame


def levels_of(index: Any) -> list[Any]:
    """The levels of an index as columns."""
    return [level.to_series(name=0).reset_index(drop=True) for level in labels.levels_of(index)]


# --- a column --------------------------------------------------------------------------------------------------------
def described_column(column: Any, blank: str | None) -> dict[str, Any]:
    """What the cells of a column do not say; see `described`."""
    import pandas

    dtype = column.dtype
    match dtype:
        case pandas.CategoricalDtype():
            return _categories(column, blank)
        case pandas.IntervalDtype():
            return {
                "kind": "intervals",
                "sides": described_column(column.array.left.to_series(), blank),
                "closed": dtype.closed,
            }
        case pandas.PeriodDtype():
            return {"kind": "periods", "dtype": str(dtype)}
        case pandas.StringDtype():
            name = f"string[{dtype.storage}]" if getattr(dtype, "na_value", pandas.NA) is pandas.NA else "str"
            return {"kind": "texts", "dtype": name} | _missing(column, blank)
    if dtype.kind in "mM":
        zone = getattr(dtype, "tz", None)
        return {
            "kind": "times" if dtype.kind == "M" else "differences",
            "unit": unit_of(dtype),
            "zone": str(zone or ""),
        }
    if dtype.kind == "O" and dtype.name == "object":
        return _objects(column, blank)
    return {"kind": "texts" if dtype.kind in "OUS" else "numbers", "dtype": str(dtype)}


def _categories(column: Any, blank: str | None) -> dict[str, Any]:
    categories = column.cat.categories
    facts = {"kind": "categories", "ordered": bool(column.cat.ordered), **_missing(column, blank)}
    facts["values"] = described_column(categories.to_series(), blank)
    used = column.cat.remove_unused_categories().cat.categories
    if not (len(used) == len(categories) and categories.is_monotonic_increasing):  # else they are found in the cells
        facts["categories"] = labels.described(categories)
    return facts


def _objects(column: Any, blank: str | None) -> dict[str, Any]:
    import pandas

    found = pandas.api.types.infer_dtype(column, skipna=True)
    missing = column[column.isna()]
    nothing = next((name for name, value in _nothings().items() if len(missing) and missing.iloc[0] is value), "nan")
    if found in ("string", "empty"):
        return {"kind": "texts", "dtype": "object", "nothing": nothing} | _missing(column, blank)
    return {"kind": "objects", "dtype": found, "nothing": nothing}


def _nothings() -> dict[str, Any]:
    import pandas

    return {"None": None, "NA": pandas.NA, "NaT": pandas.NaT}


def _missing(column: Any, blank: str | None) -> dict[str, Any]:
    """What stands for a missing text, where that cannot be the format's own."""
    if blank is None:
        return {}
    if not column.isna().any():
        return {"missing": None}
    texts = set(column.dropna().unique())
    return {"missing": next((marker for marker in (blank, *MARKERS) if marker not in texts), blank)}


def _filled(column: Any, facts: Facts, blank: str, as_text: Callable[[Any], bool]) -> Any:
    if as_text(column):
        return column.astype(object).map(str, na_action="ignore")
    marker = facts.get("missing")
    if marker is None or marker == blank:
        return column
    return column.astype(object).where(column.notna(), marker)


def unit_of(dtype: Any) -> str:
    """The unit in which times are counted."""
    return getattr(dtype, "unit", None) or str(dtype).partition("[")[2].removesuffix("]")


# --- made again ------------------------------------------------------------------------------------------------------
def made_column(facts: Facts, raw: Any) -> Any:
    """The values of a column, out of its cells."""
    import pandas

    match facts["kind"]:
        case "texts":
            return _as_texts(facts, raw)
        case "objects":
            return _as_objects(facts, raw)
        case "categories":
            values = pandas.Index(made_column(facts["values"], raw[raw.notna()]))
            own = values.unique().sort_values().rename(None)
            own = labels.made(facts["categories"]) if "categories" in facts else own
            codes = pandas.Series(-1, index=raw.index)
            codes[raw.notna()] = own.get_indexer(values)
            return pandas.Categorical.from_codes(codes, dtype=pandas.CategoricalDtype(own, ordered=facts["ordered"]))
        case "intervals":
            return _as_intervals(facts, raw)
        case "periods":
            return pandas.PeriodIndex(raw, dtype=facts["dtype"]).array
        case "times":
            zone = facts["zone"]
            times = pandas.to_datetime(raw, format="ISO8601", utc=bool(zone))
            return (times.dt.tz_convert(zone) if zone else times).dt.as_unit(facts["unit"]).array
        case "differences":
            return pandas.to_timedelta(raw).dt.as_unit(facts["unit"]).array
    return _as_numbers(pandas.api.types.pandas_dtype(facts["dtype"]), raw)


def _as_texts(facts: Facts, raw: Any) -> Any:
    import pandas

    if facts["dtype"] != "object":
        return pandas.array(raw, dtype=facts["dtype"])
    nothing = _nothings().get(facts["nothing"], float("nan"))
    return raw.astype(object).where(raw.notna(), nothing).array


def _as_objects(facts: Facts, raw: Any) -> Any:
    import pandas

    parse = OBJECTS.get(facts["dtype"], lambda value: value)
    nothing = _nothings().get(facts["nothing"], float("nan"))
    values = [parse(value) if there else nothing for value, there in zip(raw, raw.notna(), strict=True)]
    return pandas.Series(values, dtype=object).array


def _as_intervals(facts: Facts, raw: Any) -> Any:
    import pandas

    found = [INTERVAL.fullmatch(str(value)) if there else None for value, there in zip(raw, raw.notna(), strict=True)]
    sides = [
        made_column(facts["sides"], pandas.Series([match[side] if match else None for match in found], dtype=object))
        for side in (1, 2)
    ]
    return pandas.arrays.IntervalArray.from_arrays(*sides, closed=facts["closed"])


def _as_numbers(dtype: Any, raw: Any) -> Any:
    import numpy
    import pandas

    if raw.dtype == dtype:
        return raw.array
    if isinstance(dtype, numpy.dtype) and raw.dtype.kind in "biuf":
        return raw.astype(dtype).array
    there = raw.notna()
    if dtype.kind not in PARSERS:
        return dtype.construct_array_type()._from_sequence_of_strings(raw.where(there, None), dtype=dtype)
    parse = PARSERS[dtype.kind]
    values = [parse(value) if known else None for value, known in zip(raw, there, strict=True)]
    if not isinstance(dtype, numpy.dtype):
        return pandas.array(values, dtype=dtype)
    return numpy.array([float("nan") if value is None else value for value in values], dtype=dtype)


def _truth(value: Any) -> bool:
    return {"True": True, "False": False}[str(value)]


def _number(value: Any) -> int | float:
    return int(value) if str(value).lstrip("-").isdecimal() else float(value)


def _date(value: Any) -> datetime.date:
    return value.date() if isinstance(value, datetime.datetime) else datetime.date.fromisoformat(value)


PARSERS: dict[str, Callable[[Any], Any]] = {"b": _truth, "i": int, "u": int, "f": float, "c": complex}
OBJECTS: dict[str, Callable[[Any], Any]] = {
    "boolean": _truth,
    "integer": int,
    "floating": float,
    "mixed-integer-float": _number,
    "date": _date,
    "decimal": decimal.Decimal,
}
