"""The forms in which a pandas frame is written as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curidask.caching import cells, labels

FACTS = "curidask"
"""Where, in the schema, stands what it does not say."""


def write(frame: Any, path: str) -> bool:
    """Write a frame as an array of dictionaries, or as a table with its schema; whether the first, which is exact."""
    data = _rows(frame)
    Path(path).write_bytes(_table(frame) if data is None else data)
    return data is not None


def read(path: str) -> Any:
    """The frame that `write` wrote; None for JSON of another form."""
    import pandas

    with open(path, "rb") as file:
        start = file.read(100).lstrip()
    if not start.startswith((b"[", b'{"schema"')):
        return None
    value = json.loads(Path(path).read_bytes())
    if isinstance(value, list):
        return pandas.DataFrame(value)  # as it stands: pandas would guess that some texts are numbers or times
    facts = value["schema"].get(FACTS)
    if facts is None:
        return None
    names = [field["name"] for field in value["schema"]["fields"]]
    columns = [pandas.Series([row[name] for row in value["data"]], dtype=object) for name in names]
    return cells.restored(facts, columns)


def _rows(frame: Any) -> bytes | None:
    """The frame as an array of dictionaries, None when reading them would give another one."""
    import pandas

    if not _could_be_rows(frame):
        return None
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    try:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
        data = ("[" + ",\n".join(lines) + "]\n").encode()
    except ValueError:  # infinities, halves of surrogate pairs
        return None
    return data if pandas.DataFrame(json.loads(data)).equals(frame) else None


def _could_be_rows(frame: Any) -> bool:
    """Whether nothing but the values would have to be written down."""
    import pandas

    counted = isinstance(frame.index, pandas.RangeIndex) and frame.index.equals(pandas.RangeIndex(len(frame)))
    unnamed = frame.index.name is None and frame.columns.name is None and not frame.attrs
    named = labels.are_plain(frame.columns) and all(isinstance(label, str) for label in frame.columns)
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    return bool(columns) and counted and unnamed and named and all(map(_is_plain, columns))


def _is_plain(column: Any) -> bool:
    return str(column.dtype) in ("int64", "float64", "bool") or is_text(column)


def is_text(column: Any) -> bool:
    """Whether a column holds texts."""
    import pandas

    is_object = column.dtype.kind == "O"
    return is_object and pandas.api.types.infer_dtype(column, skipna=True) in ("string", "empty")


def _table(frame: Any) -> bytes:
    from pandas.io.json import build_table_schema

    facts = cells.described(frame, index=True, blank=None)
    default = ["index"] if frame.index.nlevels == 1 else [f"level_{level}" for level in range(frame.index.nlevels)]
    levels = [other if name is None else name for name, other in zip(frame.index.names, default, strict=True)]
    names = labels.texts_of([*levels, *frame.columns])
    named = frame.set_axis(names[len(levels) :], axis="columns")
    named.index = named.index.set_names([None] * len(levels))  # pandas warns of some names
    schema = build_table_schema(named)
    for field, name in zip(schema["fields"], names, strict=True):
        field["name"] = name
    schema["primaryKey"] = names[: len(levels)]
    columns = [*cells.levels_of(frame.index), *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*map(_values, columns), strict=True)]
    return json.dumps({"schema": schema | {FACTS: facts}, "data": rows}, default=str).encode()


def _values(column: Any) -> list[Any]:
    """The values of a column as JSON has them; texts for those that it does not have."""
    there = column.notna()
    if column.dtype.kind in "iub" or (column.dtype.kind == "f" and column.dtype.itemsize <= 8):
        plain = column.astype(object)
    elif column.dtype.kind in "mM":
        plain = column.astype(object).map(lambda time: time.isoformat(), na_action="ignore")
    else:
        plain = column.astype(object).map(_plain, na_action="ignore")
    return [_finite(value) if known else None for value, known in zip(plain, there, strict=True)]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | Mapping) else str(value)


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and math.isinf(value) else value
