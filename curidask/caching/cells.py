"""What a file of cells (CSV, Excel, XML, JSON) does not say of a pandas frame: described as JSON, and made again of it.

Such a file holds texts and perhaps numbers. Which types, labels and index they stand for is kept beside them.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import importlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curidask.caching import labels

# --- CSV, Excel and XML files of which the cells are described -------------------------------------------------------
# How they are written and read column by column.

READ_AS_WRITTEN = ("sep", "encoding", "quotechar", "escapechar", "decimal", "compression")
"""Arguments for writing CSV that reading must be given too."""
WIDTHS = (8, 16, 32, 64)
LONGEST = 10**15
NOT_IN_NAMES, STARTS_NAMES = re.compile(r"[^\w.-]"), re.compile(r"[^\W\d]")
UNDERSTOOD = {
    "csv": frozenset({*READ_AS_WRITTEN, "index", "na_rep"}),
    "excel": frozenset({"engine", "index", "sheet_name", "na_rep"}),
    "xml": frozenset({"index"}),
}
"""Arguments for writing with which the file still has all that is described."""


def write(format: str, frame: Any, path: str, facts: Facts | None, arguments: Mapping[str, Any]) -> None:
    """Write a frame.

    Parameters
    ----------
    format : {"csv", "excel", "xml"}
    frame : pandas.DataFrame
    path : str
    facts : mapping or None
        Of its cells; None to do but what pandas does.
    arguments : mapping
        For pandas.
    """
    more: dict[str, Any] = {}
    if facts is not None:
        frame, more = _prepared(format, frame, facts, arguments)
    if format == "excel":
        with open(path, "wb") as file:  # by a path, pandas refuses extensions that it does not know
            frame.to_excel(file, **{**arguments, **more})
    else:
        getattr(frame, f"to_{format}")(path, **{**arguments, **more})


def _prepared(format: str, frame: Any, facts: Facts, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The frame as it is written, and more arguments for that."""
    as_text = _is_text_in_excel if format == "excel" else lambda column: False
    frame = written(frame, facts, blank_of(arguments), as_text)
    if format == "excel" and len(facts["levels"]) > 1 and not facts["merged"]:
        return frame, {"merge_cells": False}
    if format == "csv" and _has_returns(frame):  # which a reader takes for the end of a line, unless they are quoted
        return frame, {"quoting": csv.QUOTE_NONNUMERIC}
    if format != "xml":
        return frame, {}
    return _flat(frame, len(facts["levels"])), {}


def read(format: str, path: str, facts: Facts, to_args: Mapping[str, Any]) -> Any:
    """The frame that was written."""
    if not (facts["levels"] or facts["columns"]):
        return restored(facts, [])
    return restored(facts, READERS[format](path, facts, to_args))


def _flat(frame: Any, n_levels: int) -> Any:
    """The frame with its index among its columns, under names that XML allows."""
    import pandas

    default = ["index"] if n_levels == 1 else [f"level_{level}" for level in range(n_levels)]
    names = [other if name is None else name for name, other in zip(frame.index.names, default, strict=False)]
    valid = [NOT_IN_NAMES.sub("_", str(label)) for label in [*names, *frame.columns]]
    columns = [*levels_of(frame.index)[:n_levels], *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    flat = pandas.DataFrame({place: column.array for place, column in enumerate(columns)})
    return flat.set_axis(labels.texts_of(name if STARTS_NAMES.match(name) else f"_{name}" for name in valid), axis=1)


def blank_of(to_args: Mapping[str, Any]) -> str:
    """The text that stands for what is missing."""
    return str(to_args.get("na_rep", ""))


def may_be_merged(frame: Any) -> bool:
    """Whether equal labels of an index may share a cell of Excel, since no label is empty itself."""
    levels = levels_of(frame.index)
    return len(levels) > 1 and not any((level.isna() | (level == "")).any() for level in levels)


def _has_returns(frame: Any) -> bool:
    columns = [*levels_of(frame.index), *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    texts = [column for column in columns if column.dtype.kind not in "biufcmM"]
    return any("\r" in str(label) for label in [*frame.columns, *frame.index.names]) or any(
        "\r" in value for column in texts for value in column if isinstance(value, str)
    )


def _is_text_in_excel(column: Any) -> bool:
    """Whether a column has what Excel has no cell for: long integers, and some times."""
    if column.dtype.kind in "iu":
        return bool(((column > LONGEST) | (column < -LONGEST)).any())
    if column.dtype.kind != "M" or getattr(column.dtype, "tz", None) is not None:
        return column.dtype.kind in ("M", "m")
    times = column.dropna()
    return bool(((times.dt.year < 1901) | (times != times.dt.floor("ms"))).any())


# --- columns of a file -----------------------------------------------------------------------------------------------
def _of_csv(path: str, facts: Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    columns = columns_of(facts)
    markers = markers_of(facts, blank_of(to_args))
    frame = pandas.read_csv(
        path,
        header=_header_rows(facts) - 1,
        names=list(range(len(columns))),
        index_col=False,
        dtype={place: _type_in_csv(column) for place, column in enumerate(columns)},
        na_values={place: [marker] for place, marker in enumerate(markers) if marker is not None},
        keep_default_na=False,
        **exact_floats(),
        **{name: to_args[name] for name in READ_AS_WRITTEN if name in to_args},
    )
    return [frame[place] for place in range(len(columns))]


def exact_floats() -> dict[str, str]:
    """How CSV is read with all digits, which newer versions of pandas do by themselves."""
    import pandas

    version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def _header_rows(facts: Facts) -> int:
    """How many rows the labels of the columns take; below several levels stand the names of the index."""
    n_levels = len(facts["labels"]["names"])
    names = facts["index"]["names"] if "index" in facts else facts["names"]
    named = bool(facts["levels"]) and any(name not in (None, "") for name in names)
    return n_levels + int(n_levels > 1 and named)


def _type_in_csv(column: Facts) -> str:
    is_number = column.get("kind") == "numbers"
    if is_number and column["dtype"] in ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in WIDTHS)):
        return str(column["dtype"])
    return "float64" if is_number and column["dtype"] in ("float32", "float64") else "object"


def _of_excel(path: str, facts: Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    frame = pandas.read_excel(path, header=None, dtype=object, na_filter=False, engine="openpyxl")
    columns, n_levels = columns_of(facts), len(facts["levels"])
    n_levels_above = len(facts["labels"]["names"])
    frame = frame.iloc[n_levels_above + int(n_levels_above > 1) :].reset_index(drop=True)
    frame = frame.reindex(index=range(facts["rows"]), columns=range(len(columns)), fill_value="")
    found = []
    for place, marker in enumerate(markers_of(facts, blank_of(to_args))):
        column = frame.iloc[:, place]
        if facts["merged"] and place < n_levels - 1:  # a label above several rows stands in the first one
            column = pandas.Series(list(itertools.accumulate(column, _label_or_above)), dtype=object)
        found.append(column if marker is None else column.where(column != marker, None))
    return found


def _label_or_above(above: Any, label: Any) -> Any:
    return above if label == "" else label


def _of_xml(path: str, facts: Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    etree = importlib.import_module("lxml.etree")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    rows = [[cell.text or "" for cell in row] for row in etree.parse(path, parser).getroot()]
    return [
        pandas.Series([None if row[place] == marker else row[place] for row in rows], dtype=object)
        for place, marker in enumerate(markers_of(facts, ""))
    ]


READERS = {"csv": _of_csv, "excel": _of_excel, "xml": _of_xml}


# --- cells -----------------------------------------------------------------------------------------------------------
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
