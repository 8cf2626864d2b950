"""CSV, Excel and XML files of which the cells are described: how they are written and read column by column."""

from __future__ import annotations

import csv
import importlib
import itertools
import re
from collections.abc import Mapping
from typing import Any

from curidask.caching import cells, labels

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


def write(format: str, frame: Any, path: str, facts: cells.Facts | None, arguments: Mapping[str, Any]) -> None:
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


def _prepared(format: str, frame: Any, facts: cells.Facts, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The frame as it is written, and more arguments for that."""
    as_text = _is_text_in_excel if format == "excel" else lambda column: False
    frame = cells.written(frame, facts, blank_of(arguments), as_text)
    if format == "excel" and len(facts["levels"]) > 1 and not facts["merged"]:
        return frame, {"merge_cells": False}
    if format == "csv" and _has_returns(frame):  # which a reader takes for the end of a line, unless they are quoted
        return frame, {"quoting": csv.QUOTE_NONNUMERIC}
    if format != "xml":
        return frame, {}
    return _flat(frame, len(facts["levels"])), {}


def read(format: str, path: str, facts: cells.Facts, to_args: Mapping[str, Any]) -> Any:
    """The frame that was written."""
    if not (facts["levels"] or facts["columns"]):
        return cells.restored(facts, [])
    return cells.restored(facts, READERS[format](path, facts, to_args))


def _flat(frame: Any, n_levels: int) -> Any:
    """The frame with its index among its columns, under names that XML allows."""
    import pandas

    default = ["index"] if n_levels == 1 else [f"level_{level}" for level in range(n_levels)]
    names = [other if name is None else name for name, other in zip(frame.index.names, default, strict=False)]
    valid = [NOT_IN_NAMES.sub("_", str(label)) for label in [*names, *frame.columns]]
    columns = [*cells.levels_of(frame.index)[:n_levels], *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    flat = pandas.DataFrame({place: column.array for place, column in enumerate(columns)})
    return flat.set_axis(labels.texts_of(name if STARTS_NAMES.match(name) else f"_{name}" for name in valid), axis=1)


def blank_of(to_args: Mapping[str, Any]) -> str:
    """The text that stands for what is missing."""
    return str(to_args.get("na_rep", ""))


def may_be_merged(frame: Any) -> bool:
    """Whether equal labels of an index may share a cell of Excel, since no label is empty itself."""
    levels = cells.levels_of(frame.index)
    return len(levels) > 1 and not any((level.isna() | (level == "")).any() for level in levels)


def _has_returns(frame: Any) -> bool:
    columns = [*cells.levels_of(frame.index), *(frame.iloc[:, place] for place in range(frame.shape[1]))]
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
def _of_csv(path: str, facts: cells.Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    columns = cells.columns_of(facts)
    markers = cells.markers_of(facts, blank_of(to_args))
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


def _header_rows(facts: cells.Facts) -> int:
    """How many rows the labels of the columns take; below several levels stand the names of the index."""
    n_levels = len(facts["labels"]["names"])
    names = facts["index"]["names"] if "index" in facts else facts["names"]
    named = bool(facts["levels"]) and any(name not in (None, "") for name in names)
    return n_levels + int(n_levels > 1 and named)


def _type_in_csv(column: cells.Facts) -> str:
    is_number = column.get("kind") == "numbers"
    if is_number and column["dtype"] in ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in WIDTHS)):
        return str(column["dtype"])
    return "float64" if is_number and column["dtype"] in ("float32", "float64") else "object"


def _of_excel(path: str, facts: cells.Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    frame = pandas.read_excel(path, header=None, dtype=object, na_filter=False, engine="openpyxl")
    columns, n_levels = cells.columns_of(facts), len(facts["levels"])
    n_levels_above = len(facts["labels"]["names"])
    frame = frame.iloc[n_levels_above + int(n_levels_above > 1) :].reset_index(drop=True)
    frame = frame.reindex(index=range(facts["rows"]), columns=range(len(columns)), fill_value="")
    found = []
    for place, marker in enumerate(cells.markers_of(facts, blank_of(to_args))):
        column = frame.iloc[:, place]
        if facts["merged"] and place < n_levels - 1:  # a label above several rows stands in the first one
            column = pandas.Series(list(itertools.accumulate(column, _label_or_above)), dtype=object)
        found.append(column if marker is None else column.where(column != marker, None))
    return found


def _label_or_above(above: Any, label: Any) -> Any:
    return above if label == "" else label


def _of_xml(path: str, facts: cells.Facts, to_args: Mapping[str, Any]) -> list[Any]:
    import pandas

    etree = importlib.import_module("lxml.etree")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    rows = [[cell.text or "" for cell in row] for row in etree.parse(path, parser).getroot()]
    return [
        pandas.Series([None if row[place] == marker else row[place] for row in rows], dtype=object)
        for place, marker in enumerate(cells.markers_of(facts, ""))
    ]


READERS = {"csv": _of_csv, "excel": _of_excel, "xml": _of_xml}
