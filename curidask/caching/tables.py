"""Cachers for pandas frames, by way of what pandas writes and reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.caching._packages import load_package, require, type_name
from curidask.caching.base import Cacheable
from curidask.errors import CacheError, ConfigurationError

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
    """

    extension: str
    method: str
    package: str = ""
    to_args: Mapping[str, Any] = field(default_factory=dict)
    read_args: Mapping[str, Any] = field(default_factory=dict)
    hint: str = "use ParquetCacher or PandasCacher(format='pickle')"


_NOT_EVERY = "call .reset_index() first when it is about the index, or use ParquetCacher"
FORMATS = {
    "csv": _Format(".csv", "csv", read_args={"keep_default_na": False}),
    "json": _Format(
        ".json",
        "json",
        to_args={"orient": "table", "double_precision": 15, "date_unit": "ns"},
        read_args={"precise_float": True},
        hint="pass another `orient` in to_args, or use ParquetCacher",
    ),
    "parquet": _Format(".parquet", "parquet", "pyarrow", hint="use PandasCacher(format='pickle')"),
    "pickle": _Format(".pkl", "pickle"),
    "feather": _Format(".feather", "feather", "pyarrow", hint=_NOT_EVERY),
    "orc": _Format(".orc", "orc", "pyarrow", hint=_NOT_EVERY),
}


class PandasCacher(Cacheable):
    """Stores a pandas frame in a format that pandas writes and reads.

    Parameters
    ----------
    path_override : str or Path, optional
    format : {"pickle", "parquet", "feather", "orc", "csv", "json"}
        ``pickle`` gives back any frame as it was, and Series too. ``parquet`` (see also `ParquetCacher`) and
        ``feather`` keep types and index and are read by other programs; ``orc`` too, but keeps no index. ``csv`` and
        ``json`` are for people: see the notes. ``parquet``, ``feather`` and ``orc`` need pyarrow.
    to_args, read_args : dict, optional
        Keyword arguments for ``DataFrame.to_...`` and ``pandas.read_...``, over the defaults.
    **options
        As for `Cacheable`.

    Notes
    -----
    What ``csv`` keeps: numbers as 64 bits, texts (``"007"`` and ``"NA"`` stay texts), times, and the levels of the
    index and of the columns. An empty text comes back as missing, labels of columns come back as texts, other types as
    what pandas makes of their text. A file that something else wrote is read as ``pandas.read_csv(path, index_col=0)``
    does, but for empty cells alone being missing.

    What ``json`` keeps (``orient="table"``): texts, numbers as 64 bits with 15 digits of a float, categories, times to
    the microsecond, and the index. Labels of columns come back as texts, infinities as missing.
    """

    extension = ".pkl"
    format: str = "pickle"
    to_args: Mapping[str, Any] = {}
    read_args: Mapping[str, Any] = {}

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

    def check_ready(self) -> None:
        """Raise a `CacheError` that says what to install, when a package is missing."""
        for package in filter(None, ("pandas", self._format.package)):
            require(package, self._label)

    def save(self, obj: Any) -> None:
        """Write the frame.

        Raises
        ------
        CacheError
            For what is no frame, and for a frame that the format cannot hold.
        """
        self._check_type(obj)
        arguments = {**self._format.to_args, **self.to_args}
        frame = obj
        if self.format == "csv":
            self.extra_metadata["csv"] = _describe_csv(frame, arguments)
        elif self.format == "json" and arguments["orient"] == "table":
            frame = self._fit_for_table(frame)
        try:
            getattr(frame, f"to_{self._format.method}")(self.get_path(), **arguments)
        except OSError:
            raise
        except Exception as error:
            raise CacheError(
                f"The frame cannot be written as {self.format}: {type(error).__name__}: {error}",
                where=self.name or "",
                fix=self._format.hint,
            ) from error

    def load(self) -> Any:
        """Read the frame."""
        pandas = load_package("pandas", self._label)
        arguments = dict(self._format.read_args)
        if self.format == "csv":
            arguments |= _csv_read_args(self.extra_metadata.get("csv"), self.to_args)
            if "engine" not in self.read_args and [int(part) for part in pandas.__version__.split(".")[:2]] < [3, 1]:
                arguments["float_precision"] = "round_trip"  # what newer versions do by themselves
        elif self.format == "json":
            arguments["orient"] = {**self._format.to_args, **self.to_args}["orient"]
        frame = getattr(pandas, f"read_{self._format.method}")(self.get_path(), **{**arguments, **self.read_args})
        return _with_dates(frame, self.extra_metadata["csv"]["dates"]) if "csv" in self.extra_metadata else frame

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
        For ``DataFrame.to_csv`` and ``pandas.read_csv``; also as `to_csv_args` and `read_csv_args`.
    **options
        As for `Cacheable`.
    """

    extension = ".csv"
    format = "csv"

    def __init__(
        self,
        path_override: str | Path | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        *,
        to_csv_args: Mapping[str, Any] | None = None,
        read_csv_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args or to_csv_args, read_args or read_csv_args, **options)


PandasCSVCacher = PandasCsvCacher


class PandasJsonCacher(PandasCacher):
    """Stores a pandas frame as JSON: ``PandasCacher(format="json")``, see there for what is kept.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_json`` and ``pandas.read_json``; also as `to_json_args` and `read_json_args`.
    **options
        As for `Cacheable`.
    """

    extension = ".json"
    format = "json"

    def __init__(
        self,
        path_override: str | Path | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        *,
        to_json_args: Mapping[str, Any] | None = None,
        read_json_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args or to_json_args, read_args or read_json_args, **options)


def _is_extreme(column: Any) -> bool:
    sizes = column.abs()
    return bool((((sizes > 1.79e308) & (sizes < float("inf"))) | ((sizes < 2.3e-308) & (sizes > 0))).any())


# --- CSV -------------------------------------------------------------------------------------------------------------
def _describe_csv(frame: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a CSV file does not say of a frame."""
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


def _csv_read_args(facts: Mapping[str, Any] | None, to_args: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"na_values": [to_args.get("na_rep", "")]}
    for name in ("sep", "encoding", "quotechar", "escapechar", "decimal", "compression"):
        if name in to_args:
            arguments[name] = to_args[name]
    levels = facts["index_levels"] if facts is not None else int(to_args.get("index", True))
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
