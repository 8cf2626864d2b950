"""Whether a frame of pandas that was read back is the one that was written."""

from __future__ import annotations

import itertools
import math
import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from curidask.caching import cells, labels
from curidask.core.preview import describe_params
from curidask.errors import CacheError
from curidask.store.manifest import Manifest

# --- what is said of a stored value, out of its record while it is being stored, and out of its manifest later -------
_REFERENCE = re.compile(r"(?P<experiment_name>.+)_(?P<run_number>\d+)_(?P<timestamp>\d{4}-.+)")


def info_of(record: Any) -> Any:
    """What is known of a cacher's record in each of its forms: in a session, in a stage, with a task."""
    return record.info() if hasattr(record, "info") else getattr(record, "_info", record)


def hash_of(record: Any) -> str:
    """The hash of a record's parameter set."""
    info = info_of(record)
    found: str = info.get_hash() if hasattr(info, "get_hash") else getattr(info, "used_hash", "")
    return found


def of_record(record: Any, stage: str | None) -> dict[str, Any]:
    """The metadata of a value that a record's stage makes now."""
    info = info_of(record)
    stages = list(getattr(record, "stages", ()))
    facts = {
        "artifact_generated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "params_hash": hash_of(record),
        "params_name": getattr(info.params, "name", None),
        "record_name": getattr(info, "label", None),
        "stage": stage or (stages[-1] if stages else None),
        "params": describe_params(info.params, getattr(info, "used_names", None)) or None,
        "manager_run_info": _run_info(getattr(info, "run", ""), socket.gethostname()),
    }
    if hasattr(record, "stages"):
        facts["record_prior_stages"] = stages[: stages.index(facts["stage"])] if facts["stage"] in stages else stages
    if hasattr(record, "input_records"):
        facts["prior_records"] = [other.get_reference_name() for other in record.input_records]
    return facts


def of_manifest(manifest: Manifest) -> dict[str, Any]:
    """What a manifest knows better than the record that its artifact is loaded for."""
    return {
        "artifact_generated": manifest.created,
        "params_hash": manifest.params_hash,
        "params_name": manifest.set_name if manifest.params else None,
        "stage": manifest.stage,
        "params": manifest.params or None,
        "preview": manifest.preview,
        "manager_run_info": _run_info(manifest.run, manifest.host),
    }


def _run_info(reference: str, host: str) -> dict[str, Any]:
    """A run by its reference, which says the experiment, the number and the time."""
    said = _REFERENCE.fullmatch(reference)
    facts = {"reference": reference, "hostname": host} | (said.groupdict() if said else {})
    return facts | ({"run_number": int(said["run_number"])} if said else {})


# --- comparing -------------------------------------------------------------------------------------------------------
ATOMS = (str, int, float, bool, bytes)
NUMBERS = frozenset(
    {"bool", "float32", "float64", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
)
ARROW_TYPES = NUMBERS | {"str", "datetime64[ns]", "datetime64[us]"}
"""Types that Arrow has too, of which columns come back from its formats whatever they hold."""


def check_read_back(
    frame: Any,
    load: Callable[[], Any],
    format: str,
    *,
    compare: bool = True,
    rtol: float = 0,
    where: str,
    fix: Callable[[str], str],
) -> None:
    """Look once at what was written.

    Parameters
    ----------
    frame : pandas.DataFrame
        What was to be written.
    load : callable
        Reads what was written.
    format : str
        For messages.
    compare : bool
        Whether it must be the same, and not only be there to load.
    rtol : float
        How far floats may be apart, relative to their size.
    where : str
        For messages.
    fix : callable
        Says what to do, given what is wrong.

    Raises
    ------
    CacheError
        When it cannot be loaded, or differs.
    """
    try:
        other = load()
    except Exception as error:
        what = one_line(f"The frame was written as {format} and cannot be loaded: {type(error).__name__}: {error}")
        raise CacheError(what, where=where, fix=fix(what)) from error
    try:
        found = difference(frame, other, rtol) if compare else ""
    except Exception as error:  # of what is in the cells, which may say anything of itself
        found = f"its values cannot be compared with those that would come back ({type(error).__name__}: {error})"
    if found:
        what = one_line(f"The frame would come back from {format} as another one: {found}.")
        raise CacheError(what, where=where, fix=fix(what))


def one_line(text: str) -> str:
    """A text without its line breaks, which what is shown of values may have."""
    return " ".join(text.split())


def is_sure(frame: Any, types: frozenset[str]) -> bool:
    """Whether a frame has nothing but columns of certain types, under plain labels, in rows that are counted."""
    import pandas

    return (
        bool(types)
        and frame.shape[1] > 0
        and isinstance(frame.index, pandas.RangeIndex)
        and all(name is None or isinstance(name, str) for name in (*frame.index.names, *frame.columns.names))
        and labels.are_plain(frame.columns)
        and all(str(dtype) in types for dtype in frame.dtypes)
    )


def difference(frame: Any, other: Any, rtol: float = 0) -> str:
    """What differs first, for people; empty when nothing does.

    Not told apart are the types of pandas that hold texts, and what stands for a missing value among Python objects;
    a list, a tuple and an array of the same items inside a column; the frequency of a time index; and an index that
    counts from one that holds the same numbers. pandas takes them for the same, or may choose another one itself.
    """
    if getattr(other, "ndim", 0) != 2 or frame.shape != other.shape:
        return f"it would have {_shape(other)}, not {_shape(frame)}"
    return (
        _index_difference(frame.columns, other.columns, "the labels of its columns", rtol)
        or _index_difference(frame.index, other.index, "its index", rtol)
        or next(filter(None, (_column_difference(frame, other, place, rtol) for place in range(frame.shape[1]))), "")
    )


def _shape(frame: Any) -> str:
    return f"{len(frame)} rows and {frame.shape[1]} columns" if getattr(frame, "ndim", 0) == 2 else "no rows"


def _column_difference(frame: Any, other: Any, place: int, rtol: float) -> str:
    found = _values_difference(frame.iloc[:, place], other.iloc[:, place], rtol)
    return found and f"its column {frame.columns[place]!r} would have {found}"


def _index_difference(index: Any, other: Any, what: str, rtol: float) -> str:
    if index.nlevels != other.nlevels:
        return f"{what} would have {other.nlevels} levels, not {index.nlevels}"
    for level, other_level in zip(cells.levels_of(index), cells.levels_of(other), strict=True):
        found = _values_difference(level, other_level, rtol)
        if found:
            return f"{what} would have {found}"
    names = [list(each.names) for each in (index, other)]
    if not all(itertools.starmap(_is_same, zip(*names, strict=True))):
        return f"{what} would have {_named(names[1])}, not {_named(names[0])}"
    return ""


def _named(names: list[Any]) -> str:
    return f"the name {names[0]!r}" if len(names) == 1 else f"the names {names!r}"


def _values_difference(values: Any, others: Any, rtol: float) -> str:
    """What two columns of the same length differ in."""
    textual = _is_objects(values) and _is_objects(others)
    if values.dtype != others.dtype and not textual:
        return f"{others.dtype}, not {values.dtype}"
    if rtol and values.dtype.kind == "f" and _are_close(values, others, rtol):
        return ""
    if not textual:
        return "" if values.array.equals(others.array) else _first(values, others)
    return "" if all(map(_is_same, values, others)) else _first(values, others)


def _are_close(values: Any, others: Any, rtol: float) -> bool:
    import numpy

    one, two = (side.to_numpy("float64", na_value=float("nan")) for side in (values, others))
    return bool(numpy.allclose(one, two, rtol=rtol, atol=0, equal_nan=True))


def _first(values: Any, others: Any) -> str:
    for value, other in zip(values, others, strict=True):
        if not _is_same(value, other):
            return f"{_shown(other)}, not {_shown(value)}"
    return "other values"


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except Exception:
        return f"a {type(value).__name__}"


def _is_objects(values: Any) -> bool:
    """Whether a column holds texts of any type, or Python objects."""
    return values.dtype.name == "object" or str(values.dtype).startswith("str")


def _is_same(value: Any, other: Any) -> bool:
    if value is other or (type(value) is type(other) and type(value) in ATOMS and value == other):
        return True
    if _is_frame(value) and _is_frame(other):
        return not difference(value, other)
    if _is_sequence(value) and _is_sequence(other):
        return len(value) == len(other) and all(map(_is_same, value, other))
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(_is_same(value[key], other[key]) for key in value)
    if _is_missing(value) or _is_missing(other):
        return _is_missing(value) and _is_missing(other)
    return _plain_type(value) is _plain_type(other) and _are_equal(value, other)


def _is_frame(value: Any) -> bool:
    import pandas

    return isinstance(value, pandas.DataFrame)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0


def _is_missing(value: Any) -> bool:
    import pandas

    return (
        value is None or value is pandas.NA or value is pandas.NaT or (isinstance(value, float) and math.isnan(value))
    )


def _plain_type(value: Any) -> type:
    """The type of a value; of a number of numpy, or an array that is one, the type that Python has for it."""
    import numpy

    is_number = isinstance(value, numpy.generic) or (isinstance(value, numpy.ndarray) and value.ndim == 0)
    return type(value.item()) if is_number else type(value)


def _are_equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except Exception:
        return False
