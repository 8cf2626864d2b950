"""The formats in which `PandasCacher` writes frames."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any

from curidask.caching import cells, labels
from curidask.caching._optional import is_installed, load_package
from curidask.caching.cells import UNDERSTOOD
from curidask.caching.comparing import ARROW_TYPES, NUMBERS
from curidask.caching.json_tables import is_text
from curidask.core.keywords import check_keywords
from curidask.errors import UnknownKeywordError

# --- what Parquet, Feather and ORC do not say of a pandas frame ------------------------------------------------------
# Described as JSON, and made again of it.
#
# Arrow says of labels what type they had, and pandas makes others of the texts for some: of ``"False"`` the boolean
# True, of an interval an error. So the columns are written under texts, and what their labels are is kept beside them.
# The same holds for types that Arrow has no word for.

ATTRIBUTE = "curidask_columns"


def written(frame: Any, *, texts_only: bool = False) -> tuple[Any, dict[str, Any] | None]:
    """The frame as its file can have it, and what is lost with that; itself and None for nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
    texts_only : bool
        Whether numbers are no labels either.

    Raises
    ------
    labels.LabelError
        When a label cannot be written down.
    """
    plain = labels.are_plain(frame.columns) and all(_is_text(name) for name in frame.index.names)
    if texts_only:
        plain = plain and all(isinstance(label, str) for label in frame.columns)
    lost = [place for place in range(frame.shape[1]) if _is_lost(frame.dtypes.iloc[place])]
    if plain and not lost:
        return frame, None
    texts = labels.texts_of(frame.columns)
    facts = {
        **labels.described(frame.columns),
        "index_names": labels.described_names(frame.index),
        "texts": texts,
        "types": {texts[place]: cells.described_column(frame.iloc[:, place], None) for place in lost},
    }
    frame = frame.set_axis(texts, axis="columns")
    frame.index = frame.index.set_names([name if _is_text(name) else str(name) for name in frame.index.names])
    for place in lost:
        categories = getattr(frame.dtypes.iloc[place], "categories", None)
        if categories is not None and hasattr(categories, "closed"):  # intervals, for which Arrow has no dictionary
            frame.isetitem(place, frame.iloc[:, place].astype(categories.dtype))
    return frame, facts


def restored(frame: Any, facts: Mapping[str, Any] | None) -> Any:
    """The frame that was described; some of its columns may have been left out."""
    if facts is None:
        return frame
    for place, text in enumerate(frame.columns):
        if text in facts["types"]:
            frame.isetitem(place, cells.made_column(facts["types"][text], frame.iloc[:, place]))
    places = {text: place for place, text in enumerate(facts["texts"])}
    frame.columns = labels.made(facts).take([places[text] for text in frame.columns])
    if len(facts["index_names"]) == frame.index.nlevels:
        frame.index = frame.index.set_names(labels.made_names(facts["index_names"]))
    return frame


def with_attribute(frame: Any) -> Any:
    """The frame as Parquet can have it, with what is lost among the attributes, which pandas keeps in the file."""
    prepared, facts = written(frame)
    if facts is not None:
        prepared.attrs = {**frame.attrs, ATTRIBUTE: facts}
    return prepared


def without_attribute(frame: Any) -> Any:
    """The frame that `with_attribute` described."""
    return restored(frame, frame.attrs.pop(ATTRIBUTE, None))


def _is_text(name: Any) -> bool:
    return name is None or isinstance(name, str)


def _is_lost(dtype: Any) -> bool:
    """Whether columns of a type come back as another one: categories that are no texts, and times in seconds."""
    if dtype.name == "category":
        return not all(isinstance(category, str) for category in dtype.categories)
    return dtype.kind in "mM" and cells.unit_of(dtype) == "s"


# --- keyword arguments that cachers hand on to what pandas and polars write and read with ----------------------------
# A typo is an error.


def check_arguments(to_args: Collection[str], read_args: Collection[str], method: str, label: str) -> None:
    """Refuse what pandas does not take, where its functions name all that they take.

    Parameters
    ----------
    to_args, read_args : collection of str
        The names.
    method : str
        What follows ``to_`` and ``read_`` in the names of its functions.
    label : str
        The cacher, for the message.

    Raises
    ------
    UnknownKeywordError
        Naming the near one.
    """
    for given, names, function in (
        (to_args, "to_args", f"DataFrame.to_{method}"),
        (read_args, "read_args", f"read_{method}"),
    ):
        if given and is_installed("pandas"):  # else whoever uses the cacher is told so
            taken = _taken(function)
            if taken is not None:
                check_keywords(given, taken, f"pandas.{function}(), for which `{names}` of {label} is,")


@cache
def _taken(name: str) -> frozenset[str] | None:
    """The keywords of a function of pandas beside the path; None when it takes any."""
    function: Any = load_package("pandas", "")
    for part in name.split("."):
        function = getattr(function, part)
    _, *parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters[1 if "." in name else 0 :])


@contextmanager
def telling_of_typos(names: str, label: str) -> Iterator[None]:
    """Say of a keyword that nobody takes where it comes from.

    Parameters
    ----------
    names : str
        The argument of the cacher that holds what is handed on.
    label : str
        The cacher.

    Raises
    ------
    UnknownKeywordError
    """
    try:
        yield
    except TypeError as error:
        if "keyword" not in str(error):
            raise
        fix = f"correct `{names}`, which is handed on as it is"
        raise UnknownKeywordError(str(error), where=f"`{names}` of {label}", fix=fix) from error


# --- how pandas is asked to read a file of cells ----------------------------------------------------------------------
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


# --- table formats ---------------------------------------------------------------------------------------------------
EXACT = "PandasCacher(format='pickle') or PickleCacher"
"""What keeps any frame."""
PACKED = frozenset({"compression", "compression_level", "engine", "row_group_size"})


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How pandas writes and reads a format.

    Attributes
    ----------
    extension : str
    method : str
        What follows ``to_`` and ``read_`` in the names of its functions.
    package : str
        Needed beside pandas; empty for none.
    to_args, read_args : mapping
        Defaults.
    hint : str
        What to do when it cannot hold a frame.
    lock : context manager
        Held while it is written and read.
    sure : set of str
        The types of which columns come back whatever they hold.
    harmless : set of str
        Arguments that change neither what is kept nor what is read.
    rtol : float
        What floats may lose, relative to their size.
    """

    extension: str
    method: str
    package: str = ""
    to_args: Mapping[str, Any] = field(default_factory=dict)
    read_args: Mapping[str, Any] = field(default_factory=dict)
    hint: str = f"use ParquetCacher or {EXACT}"
    lock: AbstractContextManager[Any] = field(default_factory=nullcontext)
    sure: frozenset[str] = frozenset()
    harmless: frozenset[str] = PACKED
    rtol: float = 0


FORMATS = {
    "csv": TableFormat(".csv", "csv", read_args={"keep_default_na": False}, sure=NUMBERS, harmless=UNDERSTOOD["csv"]),
    "json": TableFormat(
        ".json",
        "json",
        to_args={"double_precision": 15, "date_unit": "ns"},
        read_args={"precise_float": True},
        hint=f"pass another `orient` in to_args, or use ParquetCacher or {EXACT}",
        harmless=frozenset(),
    ),
    "parquet": TableFormat(".parquet", "parquet", "pyarrow", hint=f"use {EXACT}", sure=ARROW_TYPES),
    "pickle": TableFormat(".pkl", "pickle"),
    "feather": TableFormat(".feather", "feather", "pyarrow", sure=ARROW_TYPES),
    "orc": TableFormat(".orc", "orc", "pyarrow"),
    "hdf5": TableFormat(
        ".h5",
        "hdf",
        "tables",
        to_args={"key": "df"},
        hint=f"pass to_args={{'format': 'table'}}, or use ParquetCacher or {EXACT}",
        lock=Lock(),  # the package is not made for threads
        harmless=frozenset({"key", "format", "complib", "complevel"}),
    ),
    "excel": TableFormat(
        ".xlsx",
        "excel",
        "openpyxl",
        to_args={"engine": "openpyxl"},
        read_args={"engine": "openpyxl", "keep_default_na": False},
        hint=f"give its columns labels of one level, or use ParquetCacher or {EXACT}",
        harmless=UNDERSTOOD["excel"],
        rtol=1e-15,  # openpyxl writes 16 digits, and Excel keeps no more
    ),
    "xml": TableFormat(".xml", "xml", "lxml", to_args={"index": False}, harmless=UNDERSTOOD["xml"]),
}
DESCRIBED = ("csv", "excel", "xml")
"""The formats that do not say what the cells of a frame stand for: that is kept in `extra_metadata`, by format."""
LABELLED = ("feather", "orc")
"""The formats of Arrow that keep no attributes: what they do not say of a frame is kept in `extra_metadata`."""
