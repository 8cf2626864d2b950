"""Labels of a frame's columns, for files that have texts as labels only.

Arrow says of labels what type they had, and pandas makes others of the texts for some: of ``"False"`` the boolean True,
of an interval an error. So the columns are written under texts, and what their labels are stands beside them as JSON,
in the attributes of the frame, which pandas keeps in Parquet files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ATTRIBUTE = "curidask_columns"
PLAIN_VALUES = (str, bool, int, float, type(None))


class LabelError(ValueError):
    """Labels that cannot be written down."""


def are_plain(columns: Any) -> bool:
    """Whether labels come back from their texts as they were: different texts or 64-bit numbers."""
    import pandas

    if isinstance(columns, pandas.MultiIndex):
        return all(map(are_plain, columns.levels)) and columns.is_unique
    if not columns.is_unique or isinstance(columns, pandas.CategoricalIndex):
        return False
    if str(columns.dtype) in ("int64", "float64"):
        return True
    return all(isinstance(label, str) for label in columns)


def with_texts(frame: Any) -> Any:
    """The frame under labels that any file can have, with its own among its attributes; itself if it has such.

    Raises
    ------
    LabelError
    """
    if are_plain(frame.columns):
        return frame
    described = _described(frame.columns)
    written = frame.set_axis(_texts(frame.columns), axis="columns")
    written.attrs = {**frame.attrs, ATTRIBUTE: {**described, "texts": list(written.columns)}}
    return written


def with_own(frame: Any) -> Any:
    """The frame under the labels that `with_texts` wrote down; some of its columns may have been left out."""
    described = frame.attrs.get(ATTRIBUTE)
    if described is None:
        return frame
    places = {text: place for place, text in enumerate(described["texts"])}
    own = frame.set_axis(_made(described).take([places[text] for text in frame.columns]), axis="columns")
    own.attrs = {name: value for name, value in frame.attrs.items() if name != ATTRIBUTE}
    return own


def _texts(columns: Any) -> list[str]:
    found: dict[str, None] = {}
    for label in columns:
        text, number = str(label), 1
        while text in found:
            text, number = f"{label}.{number}", number + 1
        found[text] = None
    return list(found)


def _described(columns: Any) -> dict[str, Any]:
    """An index as values that JSON has."""
    import pandas

    names = {"names": [_plain(name) for name in columns.names]}
    dtype = str(columns.dtype)
    match columns:
        case pandas.MultiIndex():
            levels = [_described(columns.get_level_values(level)) for level in range(columns.nlevels)]
            return names | {"kind": "levels", "levels": levels}
        case pandas.CategoricalIndex():
            codes, ordered = columns.codes.tolist(), bool(columns.ordered)
            categories = _described(columns.categories)
            return names | {"kind": "categories", "categories": categories, "codes": codes, "ordered": ordered}
        case pandas.IntervalIndex():
            sides = {"left": _described(columns.left), "right": _described(columns.right)}
            return names | {"kind": "intervals", "closed": columns.closed, **sides}
        case pandas.PeriodIndex():
            return names | {"kind": "periods", "dtype": dtype, "values": columns.asi8.tolist()}
        case pandas.TimedeltaIndex() | pandas.DatetimeIndex():
            return names | {"kind": "times", "dtype": dtype, "values": columns.asi8.tolist()}
    values = [_plain(value.item() if hasattr(value, "item") else value) for value in columns]
    return names | {"kind": "values", "dtype": dtype, "values": values}


def _plain(value: Any) -> Any:
    if type(value) not in PLAIN_VALUES:
        raise LabelError(f"a label of its columns is {value!r:.60}, a {type(value).__name__}")
    return value


def _made(described: Mapping[str, Any]) -> Any:
    """The index that was described."""
    import pandas

    match described["kind"]:
        case "levels":
            return pandas.MultiIndex.from_arrays(list(map(_made, described["levels"])), names=described["names"])
        case "categories":
            categories = _made(described["categories"])
            kind = pandas.CategoricalDtype(categories, ordered=described["ordered"])
            found = pandas.CategoricalIndex(pandas.Categorical.from_codes(described["codes"], dtype=kind))
        case "intervals":
            sides = _made(described["left"]), _made(described["right"])
            found = pandas.IntervalIndex.from_arrays(*sides, closed=described["closed"])
        case "periods":
            freq = described["dtype"].removeprefix("period[").removesuffix("]")
            found = pandas.PeriodIndex.from_ordinals(described["values"], freq=freq)
        case "times":
            numbers = pandas.Index(described["values"], dtype="int64").to_numpy()
            unit, _, zone = described["dtype"].partition("[")[2].removesuffix("]").partition(", ")
            found = pandas.Index(numbers.view(f"{'M' if 'datetime' in described['dtype'] else 'm'}8[{unit}]"))
            found = found.tz_localize("UTC").tz_convert(zone) if zone else found
        case _:
            found = pandas.Index(described["values"], dtype=described["dtype"])
    found.names = described["names"]
    return found
