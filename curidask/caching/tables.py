"""Cachers for pandas frames, by way of what pandas writes and reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from curidask.caching import labels
from curidask.caching._packages import load_package, require, type_name
from curidask.caching.base import Cacheable
from curidask.errors import CacheError, ConfigurationError
from curidask.keywords import keywords

__all__ = ["PandasCSVCacher", "PandasCacher", "PandasCsvCacher", "PandasJsonCacher"]


@dataclass(frozen=True, slots=True)
class _Format:
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
    """

    extension: str
    method: str
    package: str = ""
    to_args: Mapping[str, Any] = field(default_factory=dict)
    read_args: Mapping[str, Any] = field(default_factory=dict)
    hint: str = "use ParquetCacher or PandasCacher(format='pickle')"
    lock: AbstractContextManager[Any] = field(default_factory=nullcontext)


_NOT_EVERY = "call .reset_index() first when it is about the index, or use ParquetCacher"
FORMATS = {
    "csv": _Format(".csv", "csv", read_args={"keep_default_na": False}),
    "json": _Format(
        ".json",
        "json",
        to_args={"double_precision": 15, "date_unit": "ns"},
        read_args={"precise_float": True},
        hint="pass another `orient` in to_args, or use ParquetCacher",
    ),
    "parquet": _Format(".parquet", "parquet", "pyarrow", hint="use PandasCacher(format='pickle')"),
    "pickle": _Format(".pkl", "pickle"),
    "feather": _Format(".feather", "feather", "pyarrow", hint=_NOT_EVERY),
    "orc": _Format(".orc", "orc", "pyarrow", hint=_NOT_EVERY),
    "hdf5": _Format(
        ".h5",
        "hdf",
        "tables",
        to_args={"key": "df"},
        hint="pass to_args={'format': 'table'}, or use ParquetCacher",
        lock=Lock(),  # the package is not made for threads
    ),
    "excel": _Format(
        ".xlsx",
        "excel",
        "openpyxl",
        to_args={"engine": "openpyxl"},
        read_args={"engine": "openpyxl", "keep_default_na": False},
        hint="take the time zone off its times, give its columns labels of one level, or use ParquetCacher",
    ),
    "xml": _Format(".xml", "xml", "lxml", to_args={"index": False}),
}
DESCRIBED = ("csv", "excel", "xml")
"""The formats that do not say which texts and times a frame has: that is kept in `extra_metadata`, by format."""


class PandasCacher(Cacheable):
    """Stores a pandas frame in a format that pandas writes and reads.

    Parameters
    ----------
    path_override : str or Path, optional
    format : {"pickle", "parquet", "feather", "orc", "hdf5", "csv", "json", "excel", "xml"}
        ``pickle`` gives back any frame as it was, and Series too. ``parquet`` (see also `ParquetCacher`) and
        ``feather`` keep types and index and are read by other programs; ``orc`` too, but keeps no index. ``hdf5`` keeps
        types and index; what it cannot hold it pickles, so loading may execute code. ``csv``, ``json``, ``excel`` and
        ``xml`` are for people: see the notes. ``parquet``, ``feather`` and ``orc`` need pyarrow, ``hdf5`` needs
        tables, ``excel`` openpyxl and ``xml`` lxml.
    to_args, read_args : dict, optional
        Keyword arguments for ``DataFrame.to_...`` and ``pandas.read_...``, over the defaults: ``{"key": "df"}`` to
        write HDF5, ``{"index": False}`` to write XML.
    **options
        As for `Cacheable`.

    Notes
    -----
    What ``csv`` keeps: numbers as 64 bits, texts (``"007"`` and ``"NA"`` stay texts), times, and the levels of the
    index and of the columns. An empty text comes back as missing, labels of columns come back as texts, other types as
    what pandas makes of their text. ``excel`` keeps the same, times to the millisecond. ``xml`` keeps it too, but not
    the index, and texts such as ``"NA"`` come back as missing.

    A file that something else wrote is read as ``pandas.read_csv(path, index_col=0)`` does, and with `read_args` as
    ``pandas.read_csv(path, **read_args)`` does, but for texts such as ``"NA"``: they are missing among numbers and
    texts among texts.

    ``json`` is an array of dictionaries, one for each row, where reading that gives the frame back exactly. That is so
    for 64-bit numbers, booleans and texts, and rows that are not labelled. Other frames are written with their schema
    (``orient="table"``), which keeps texts, numbers as 64 bits with 15 digits of a float, categories, times to the
    microsecond, and the index; labels of columns come back as texts, infinities as missing. Other forms of JSON are
    read as ``pandas.read_json(path)`` does.
    """

    extension = ".pkl"
    format: str = "pickle"
    to_args: Mapping[str, Any] = {}
    read_args: Mapping[str, Any] = {}
    _asked_how_to_read: bool = False

    @keywords()
    def __init__(
        self,
        path_override: str | Path | None = None,
        format: str | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.format = format or type(self).format
        if self.format not in FORMATS:
            raise ConfigurationError(
                f"PandasCacher knows no format {self.format!r}.",
                fix=f"use one of {', '.join(FORMATS)}; for another, subclass Cacheable and call pandas in its "
                "save() and load()",
            )
        self.extension = FORMATS[self.format].extension
        super().__init__(path_override, **options)
        self.to_args = dict(to_args or {})
        self.read_args = dict(read_args or {})
        self._asked_how_to_read = read_args is not None

    def check_ready(self) -> None:
        """Raise a `CacheError` that says what to install, when a package is missing."""
        for package in filter(None, ("pandas", self._format.package)):
            require(package, self._label)

    def save(self, obj: Any) -> str:
        """Write the frame; the path.

        Raises
        ------
        CacheError
            For what is no frame, and for a frame that the format cannot hold.
        """
        self._check_type(obj)
        path = self.get_path()
        try:
            self._write(obj, path)
        except (OSError, CacheError):
            raise
        except Exception as error:
            raise CacheError(
                f"The frame cannot be written as {self.format}: {type(error).__name__}: {error}",
                where=self.name or "",
                fix=self._format.hint,
            ) from error
        return path

    def load(self) -> Any:
        """Read the frame."""
        facts = self.extra_metadata.get(self.format) if self.format in DESCRIBED else None
        frame = self._read(facts)
        if (
            self.format in ("csv", "excel")
            and facts is None
            and not {"keep_default_na", "na_values"} & set(self.read_args)
        ):
            frame = self._with_missing_numbers(frame)
        return frame if facts is None else _with_dates(frame, facts["dates"])

    # --- as pandas does it -------------------------------------------------------------------------------------------
    def _write(self, frame: Any, path: str) -> None:
        arguments = {**self._format.to_args, **self.to_args}
        if self.format in DESCRIBED:
            self.extra_metadata[self.format] = _describe(frame, arguments)
        if self.format == "json":
            self._write_json(frame, path, arguments)
        elif self.format == "excel":
            with open(path, "wb") as file:  # by a path, pandas refuses extensions that it does not know
                frame.to_excel(file, **arguments)
        else:
            frame = self._under_texts(frame)
            with self._format.lock:
                getattr(frame, f"to_{self._format.method}")(path, **arguments)

    def _read(self, facts: Mapping[str, Any] | None, **more: Any) -> Any:
        pandas = load_package("pandas", self._label)
        if self.format == "json":
            return self._read_json(pandas)
        arguments = dict(self._format.read_args)
        if self.format in ("csv", "excel"):
            arguments |= _cells_read_args(facts, self.to_args, index=not self._asked_how_to_read)
        elif facts is not None:
            arguments["dtype"] = dict.fromkeys([*facts["texts"], *facts["dates"]], str)
        if self.format == "csv" and "engine" not in self.read_args and _version(pandas) < (3, 1):
            arguments["float_precision"] = "round_trip"  # what newer versions do by themselves
        read = getattr(pandas, f"read_{self._format.method}")
        with self._format.lock:
            frame = read(self.get_path(), **{**arguments, **self.read_args, **more})
        return labels.with_own(frame) if self.format == "parquet" else frame

    def _under_texts(self, frame: Any) -> Any:
        if self.format == "parquet":
            return labels.with_texts(frame)
        if self.format in ("feather", "orc") and not labels.are_plain(frame.columns):
            raise CacheError(
                f"The frame cannot be written as {self.format}: the labels of its columns are no different texts or "
                "numbers, so others would come back.",
                where=self.name or "",
                fix="use ParquetCacher",
            )
        return frame

    def _with_missing_numbers(self, frame: Any) -> Any:
        """A frame that something else wrote, with "NA" and the like as missing in columns of numbers."""
        dtypes = getattr(frame, "dtypes", ())  # `read_args` may ask for a reader of parts
        texts = [place for place, dtype in enumerate(dtypes) if dtype.kind == "O"]
        if texts:
            other = self._read(None, keep_default_na=True)
            for place in texts:
                if other.dtypes.iloc[place].kind in "iufb" and other.iloc[:, place].notna().any():
                    frame.isetitem(place, other.iloc[:, place].array)
        return frame

    # --- JSON --------------------------------------------------------------------------------------------------------
    def _write_json(self, frame: Any, path: str, arguments: Mapping[str, Any]) -> None:
        records = None if self.to_args else _records(frame)
        if records is not None:
            Path(path).write_bytes(records)
            return
        orient = arguments.get("orient", "table")
        frame = self._fit_for_table(frame) if orient == "table" else frame
        frame.to_json(path, **{**arguments, "orient": orient})

    def _read_json(self, pandas: Any) -> Any:
        path = self.get_path()
        with open(path, "rb") as file:
            start = file.read(100).lstrip()
        if start.startswith(b"[") and not (self.to_args or self.read_args):
            # As it stands: pandas would guess that some texts are numbers or times.
            return pandas.DataFrame(json.loads(Path(path).read_bytes()))
        arguments = dict(self._format.read_args)
        if "orient" in self.to_args:
            arguments["orient"] = self.to_args["orient"]
        elif start.startswith(b'{"schema"') or start[:1] not in (b"{", b"["):  # it may be compressed
            arguments["orient"] = "table"
        return pandas.read_json(path, **{**arguments, **self.read_args})

    # --- what it takes -----------------------------------------------------------------------------------------------
    @property
    def _format(self) -> _Format:
        return FORMATS[self.format]

    @property
    def _label(self) -> str:
        kind = type(self).__name__
        return f"{kind}(format={self.format!r})" if kind == "PandasCacher" else kind

    def _check_type(self, obj: Any) -> None:
        pandas = load_package("pandas", self._label)
        if isinstance(obj, pandas.DataFrame) or (self.format == "pickle" and isinstance(obj, pandas.Series)):
            return
        is_series = isinstance(obj, pandas.Series)
        raise CacheError(
            f"The value is a {type_name(obj)}, not a pandas DataFrame.",
            where=self.name or "",
            fix="return series.to_frame(), or use format='pickle'" if is_series else "use a cacher for its type",
        )

    def _fit_for_table(self, frame: Any) -> Any:
        """The frame with texts as labels, since pandas loses the values under others."""
        if frame.columns.nlevels > 1:
            raise self._no_table("its columns have several levels")
        if any(dtype.kind == "m" for dtype in frame.dtypes):
            raise self._no_table("it has time differences, which pandas writes but cannot read")
        if any(_is_extreme(frame.iloc[:, place]) for place, dtype in enumerate(frame.dtypes) if dtype.kind == "f"):
            raise self._no_table(
                "it has numbers at the ends of the range of floats, which pandas writes but cannot read"
            )
        if all(isinstance(label, str) for label in frame.columns):
            return frame
        labels = frame.columns.map(str)
        if not labels.is_unique:
            raise self._no_table("two labels of its columns are the same as texts")
        return frame.set_axis(labels, axis="columns")

    def _no_table(self, reason: str) -> CacheError:
        what = f"The frame cannot be written as json: {reason}."
        return CacheError(what, where=self.name or "", fix=self._format.hint)


class PandasCsvCacher(PandasCacher):
    """Stores a pandas frame as CSV: ``PandasCacher(format="csv")``, see there for what is kept.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_csv`` and ``pandas.read_csv``. (`to_csv_args` and `read_csv_args` are synonyms.)
    **options
        As for `Cacheable`.
    """

    extension = ".csv"
    format = "csv"

    @keywords(to_csv_args="to_args", read_csv_args="read_args")
    def __init__(
        self,
        path_override: str | Path | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args, read_args, **options)


PandasCSVCacher = PandasCsvCacher


class PandasJsonCacher(PandasCacher):
    """Stores a pandas frame as JSON: ``PandasCacher(format="json")``, see there for what is kept.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_json`` and ``pandas.read_json``. (`to_json_args` and `read_json_args` are synonyms.)
    **options
        As for `Cacheable`.
    """

    extension = ".json"
    format = "json"

    @keywords(to_json_args="to_args", read_json_args="read_args")
    def __init__(
        self,
        path_override: str | Path | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args, read_args, **options)


def _version(pandas: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in pandas.__version__.split(".")[:2])


# --- JSON ------------------------------------------------------------------------------------------------------------
def _records(frame: Any) -> bytes | None:
    """The frame as an array of dictionaries, None when reading them would give another one."""
    import pandas

    if not _could_be_records(frame):
        return None
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    try:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
        data = ("[" + ",\n".join(lines) + "]\n").encode()
    except ValueError:  # infinities, halves of surrogate pairs
        return None
    return data if pandas.DataFrame(json.loads(data)).equals(frame) else None


def _could_be_records(frame: Any) -> bool:
    """Whether nothing but the values would have to be written down."""
    import pandas

    default = isinstance(frame.index, pandas.RangeIndex) and frame.index.equals(pandas.RangeIndex(len(frame)))
    unnamed = frame.index.name is None and frame.columns.name is None
    named = frame.columns.is_unique and all(isinstance(label, str) for label in frame.columns)
    return default and unnamed and named and all(map(_is_plain, (frame.iloc[:, i] for i in range(frame.shape[1]))))


def _is_plain(column: Any) -> bool:
    return str(column.dtype) in ("int64", "float64", "bool") or _is_text(column)


def _is_extreme(column: Any) -> bool:
    sizes = column.abs()
    return bool((((sizes > 1.79e308) & (sizes < float("inf"))) | ((sizes < 2.3e-308) & (sizes > 0))).any())


# --- CSV, Excel, XML -------------------------------------------------------------------------------------------------
def _describe(frame: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of texts does not say of a frame."""
    facts: dict[str, Any] = {
        "index_levels": frame.index.nlevels if arguments.get("index", True) else 0,
        "column_levels": frame.columns.nlevels,
        "texts": [],
        "dates": {},
    }
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        return facts
    for label, column in frame.items():
        if _is_text(column):
            facts["texts"].append(str(label))
        elif column.dtype.kind == "M":
            facts["dates"][str(label)] = str(getattr(column.dtype, "tz", None) or "")
    return facts


def _is_text(column: Any) -> bool:
    import pandas

    is_object = column.dtype.kind == "O"
    return is_object and pandas.api.types.infer_dtype(column, skipna=True) in ("string", "empty")


def _cells_read_args(facts: Mapping[str, Any] | None, to_args: Mapping[str, Any], *, index: bool) -> dict[str, Any]:
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


def _with_dates(frame: Any, dates: Mapping[str, str]) -> Any:
    """The frame with texts of times as times, by label of the column, in a time zone where it had one."""
    import pandas

    for label, zone in dates.items():
        if label in frame:  # `read_args` may leave out columns
            times = pandas.to_datetime(frame[label], format="ISO8601", utc=bool(zone))
            frame[label] = times.dt.tz_convert(zone) if zone else times
    return frame
