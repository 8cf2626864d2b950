"""The formats in which `PandasCacher` writes frames."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from curidask.caching.cell_files import UNDERSTOOD
from curidask.caching.comparing import ARROW_TYPES, NUMBERS

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
