"""How pandas is asked to read a file of cells (CSV, Excel, XML) of another program, or as the user's arguments say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curidask.caching.json_tables import is_text


def described(frame: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Which columns of a frame are texts and times, and how many levels it has."""
    facts: dict[str, Any] = {
        "index_levels": frame.index.nlevels if arguments.get("index", True) else 0,
        "column_levels": frame.columns.nlevels,
        "texts": [],
        "dates": {},
    }
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        return facts
    for label, column in frame.items():
        if is_text(column):
            facts["texts"].append(str(label))
        elif column.dtype.kind == "M":
            facts["dates"][str(label)] = str(getattr(column.dtype, "tz", None) or "")
    return facts


def read_arguments(facts: Mapping[str, Any] | None, to_args: Mapping[str, Any], *, index: bool) -> dict[str, Any]:
    """How to read a file of cells; of one without facts, whether the first column is the index."""
    arguments: dict[str, Any] = {"na_values": [to_args.get("na_rep", "")]}
    for name in ("sep", "encoding", "quotechar", "escapechar", "decimal", "compression"):
        if name in to_args:
            arguments[name] = to_args[name]
    levels = facts["index_levels"] if facts is not None else int(index and to_args.get("index", True))
    if levels:
        arguments["index_col"] = list(range(levels)) if levels > 1 else 0
    if facts is None:
        return arguments
    if facts["column_levels"] > 1:
        arguments["header"] = list(range(facts["column_levels"]))
    return arguments | {"dtype": dict.fromkeys([*facts["texts"], *facts["dates"]], str)}


def with_dates(frame: Any, dates: Mapping[str, str]) -> Any:
    """The frame with texts of times as times, by label of the column, in a time zone where it had one."""
    import pandas

    for label, zone in dates.items():
        if label in frame:  # `read_args` may leave out columns
            times = pandas.to_datetime(frame[label], format="ISO8601", utc=bool(zone))
            frame[label] = times.dt.tz_convert(zone) if zone else times
    return frame
