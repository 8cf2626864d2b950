"""Labels of a frame's rows and columns as JSON, for files that have texts as labels only."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Any

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


def levels_of(index: Any) -> list[Any]:
    """The labels of each level."""
    nameless = index.set_names([None] * index.nlevels)  # a number would be taken for a name first
    return [nameless.get_level_values(level) for level in range(index.nlevels)]


def texts_of(columns: Iterable[Any]) -> list[str]:
    """Different texts that tell the labels to people."""
    found: dict[str, None] = {}
    for label in columns:
        text, number = str(label), 1
        while text in found:
            text, number = f"{label}.{number}", number + 1
        found[text] = None
    return list(found)


# --- an index as JSON ------------------------------------------------------------------------------------------------
def described(index: Any) -> dict[str, Any]:
    """An index as values that JSON has.

    Raises
    ------
    LabelError
    """
    return {"names": described_names(index), **_described_values(index)}


def described_names(index: Any) -> list[Any]:
    """The names of an index's levels as values that JSON has."""
    return [_plain(name) for name in index.names]


def made_names(names: list[Any]) -> list[Any]:
    """The names that were described."""
    return list(map(_own, names))


def _described_values(index: Any) -> dict[str, Any]:
    import pandas

    match index:
        case pandas.RangeIndex():
            return {"kind": "range", "values": [index.start, index.stop, index.step]}
        case pandas.MultiIndex():
            levels = list(map(described, levels_of(index)))
            return {"kind": "levels", "levels": levels}
        case pandas.CategoricalIndex():
            codes, ordered = index.codes.tolist(), bool(index.ordered)
            return {
                "kind": "categories",
                "categories": described(index.categories),
                "codes": codes,
                "ordered": ordered,
            }
        case pandas.IntervalIndex():
            sides = {"left": described(index.left), "right": described(index.right)}
            return {"kind": "intervals", "closed": index.closed, **sides}
        case pandas.PeriodIndex():
            return {"kind": "periods", "dtype": str(index.dtype), "values": index.asi8.tolist()}
        case pandas.TimedeltaIndex() | pandas.DatetimeIndex():
            return {"kind": "times", "dtype": str(index.dtype), "values": index.asi8.tolist()}
    return {"kind": "values", "dtype": str(index.dtype), "values": list(map(_plain, index))}


def _plain(value: Any) -> Any:
    """A label as JSON; what JSON does not have is an object that names its kind."""
    import numpy
    import pandas

    if isinstance(value, numpy.generic):
        value = value.item()
    kind = type(value)
    if value is pandas.NA or value is pandas.NaT:
        return {"missing": str(value)}
    if kind is float and not math.isfinite(value):
        return {"float": str(value)}
    if kind is tuple:
        return {"tuple": list(map(_plain, value))}
    if kind is datetime.date:
        return {"date": value.isoformat()}
    if kind not in PLAIN_VALUES:
        raise LabelError(f"a label is {value!r:.60}, a {kind.__name__}")
    return value


def _own(plain: Any) -> Any:
    """The label that became JSON."""
    import pandas

    match plain:
        case {"missing": name}:
            return pandas.NA if name == str(pandas.NA) else pandas.NaT
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(map(_own, items))
        case {"date": text}:
            return datetime.date.fromisoformat(text)
    return plain


def made(facts: Mapping[str, Any]) -> Any:
    """The index that was described."""
    import pandas

    names = made_names(facts["names"])
    match facts["kind"]:
        case "levels":
            return pandas.MultiIndex.from_arrays(list(map(made, facts["levels"])), names=names)
        case "range":
            return pandas.RangeIndex(*facts["values"], name=names[0])
        case "categories":
            kind = pandas.CategoricalDtype(made(facts["categories"]), ordered=facts["ordered"])
            found = pandas.CategoricalIndex(pandas.Categorical.from_codes(facts["codes"], dtype=kind))
        case "intervals":
            sides = made(facts["left"]), made(facts["right"])
            found = pandas.IntervalIndex.from_arrays(*sides, closed=facts["closed"])
        case "periods":
            freq = facts["dtype"].removeprefix("period[").removesuffix("]")
            found = pandas.PeriodIndex.from_ordinals(facts["values"], freq=freq)
        case "times":
            numbers = pandas.Index(facts["values"], dtype="int64").to_numpy()
            unit, _, zone = facts["dtype"].partition("[")[2].removesuffix("]").partition(", ")
            found = pandas.Index(numbers.view(f"{'M' if 'datetime' in facts['dtype'] else 'm'}8[{unit}]"))
            found = found.tz_localize("UTC").tz_convert(zone) if zone else found
        case _:
            found = pandas.Index(list(map(_own, facts["values"])), dtype=facts["dtype"], tupleize_cols=False)
    found.names = names
    return found
