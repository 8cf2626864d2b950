"""Cachers for pandas frames, by way of what pandas writes and reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curidask.caching import cells, comparing, json_tables, labels, table_formats
from curidask.caching._optional import load_package, require, type_name
from curidask.caching.base import Cacheable
from curidask.caching.table_formats import DESCRIBED, FORMATS, LABELLED, TableFormat, check_arguments, telling_of_typos
from curidask.core.keywords import keywords
from curidask.errors import CacheError, ConfigurationError, UnknownKeywordError

__all__ = ["PandasCSVCacher", "PandasCacher", "PandasCsvCacher", "PandasJsonCacher"]


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
    check_saved : bool
        Whether what was written is read back once and compared, unless the frame has nothing but types that the format
        keeps in any case. Takes as long as loading it.
    **options
        As for `Cacheable`.

    Notes
    -----
    On a stage, a frame comes back as it was: what ``csv``, ``excel``, ``xml``, ``feather`` and ``orc`` do not say of
    its labels, index and types is kept in `extra_metadata`, and ``json`` and ``parquet`` files have it inside. What
    would come back as another value, or cannot be loaded, is an error of `save`. Excel keeps 16 digits of a float.

    A file that something else wrote is read as ``pandas.read_csv(path, index_col=0)`` does, and with `read_args` as
    ``pandas.read_csv(path, **read_args)`` does, but for texts such as ``"NA"``: they are missing among numbers and
    texts among texts.

    ``json`` is an array of dictionaries, one for each row, where reading that gives the frame back exactly. That is so
    for 64-bit numbers, booleans and texts, and rows that are not labelled. Other frames are written with their schema
    (``orient="table"``). Other forms of JSON are read as ``pandas.read_json(path)`` does.
    """

    extension = ".pkl"
    format: str = "pickle"
    to_args: Mapping[str, Any] = {}
    read_args: Mapping[str, Any] = {}
    check_saved: bool = True
    _asked_how_to_read: bool = False

    @keywords()
    def __init__(
        self,
        path_override: str | Path | None = None,
        format: str | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        check_saved: bool = True,
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
        self.check_saved = check_saved
        self._asked_how_to_read = read_args is not None
        check_arguments(self.to_args, self.read_args, self._format.method, self._label)

    def check_ready(self) -> None:
        """Raise a `CacheError` that says what to install, when a package is missing."""
        for package in filter(None, ("pandas", self._format.package)):
            require(package, self._label)

    def save(self, obj: Any) -> str:
        """Write the frame; the path.

        Raises
        ------
        CacheError
            For what is no frame, and for a frame that would not come back from the format as it is.
        """
        self._check_type(obj)
        path = self.get_path()
        try:
            with telling_of_typos("to_args", self._label):
                exact = self._write(obj, path) or comparing.is_sure(obj, self._sure_types)
        except (OSError, CacheError, UnknownKeywordError):
            raise
        except Exception as error:
            what = comparing.one_line(f"The frame cannot be written as {self.format}: {type(error).__name__}: {error}")
            raise CacheError(what, where=self.name or "", fix=self._fix(what)) from error
        if self.check_saved and not exact:
            comparing.check_read_back(
                self._expected(obj),
                lambda: PandasCacher.load(self),
                self.format,
                compare=self._is_whole,
                rtol=self._format.rtol,
                where=self.name or "",
                fix=lambda what: f"{self._fix(what)}; check_saved=False where it does not matter",
            )
        return path

    def load(self) -> Any:
        """Read the frame."""
        facts = self.extra_metadata.get(self.format) if self.format in DESCRIBED else None
        if facts is not None and "cells" in facts and not self.read_args:
            require(self._format.package or "pandas", self._label)
            return cells.read(self.format, self.get_path(), facts["cells"], self.to_args)
        with telling_of_typos("read_args", self._label):
            frame = self._read(facts)
        if (
            self.format in ("csv", "excel")
            and facts is None
            and not {"keep_default_na", "na_values"} & set(self.read_args)
        ):
            frame = self._with_missing_numbers(frame)
        return frame if facts is None else table_formats.with_dates(frame, facts["dates"])

    # --- what comes back ---------------------------------------------------------------------------------------------
    @property
    def _is_whole(self) -> bool:
        """Whether all of a frame is written and read, and not what the user's arguments choose."""
        return not (set(self.read_args) | set(self.to_args)) - self._format.harmless

    def _fix(self, what: str) -> str:
        """What to do about what is wrong with a frame."""
        is_about_index = self.format in LABELLED and re.search(r"\bindex\b", what, re.IGNORECASE)
        return f"call .reset_index() first, or {self._format.hint}" if is_about_index else self._format.hint

    @property
    def _sure_types(self) -> frozenset[str]:
        return self._format.sure if self._is_whole else frozenset()

    def _expected(self, frame: Any) -> Any:
        """What should come back: without the index where that was left out."""
        left_out = self.format in DESCRIBED and not self.to_args.get("index", True)
        return frame.reset_index(drop=True) if left_out else frame

    # --- as pandas does it -------------------------------------------------------------------------------------------
    def _write(self, frame: Any, path: str) -> bool:
        """Write a frame; whether it is certain that it comes back."""
        if self.format == "json":
            return self._write_json(frame, path)
        if self.format in DESCRIBED:
            self._write_cells(frame, path)
        else:
            frame = self._for_arrow(frame)
            with self._format.lock:
                getattr(frame, f"to_{self._format.method}")(path, **{**self._format.to_args, **self.to_args})
        return self.format == "pickle"

    def _write_cells(self, frame: Any, path: str) -> None:
        arguments = {**self._format.to_args, **self.to_args}
        facts = self.extra_metadata[self.format] = table_formats.described(frame, arguments)
        if self._is_whole:
            index = bool(arguments.get("index", True))
            blank = cells.blank_of(self.to_args)
            facts["cells"] = cells.described(self._expected(frame), index=index, blank=blank)
            if self.format == "excel":
                facts["cells"]["merged"] = index and cells.may_be_merged(frame)
        cells.write(self.format, frame, path, facts.get("cells"), arguments)

    def _read(self, facts: Mapping[str, Any] | None, **more: Any) -> Any:
        pandas = load_package("pandas", self._label)
        if self.format == "json":
            return self._read_json(pandas)
        arguments = dict(self._format.read_args)
        if self.format in ("csv", "excel"):
            arguments |= table_formats.read_arguments(facts, self.to_args, index=not self._asked_how_to_read)
        elif facts is not None:
            arguments["dtype"] = dict.fromkeys([*facts["texts"], *facts["dates"]], str)
        if self.format == "csv" and "engine" not in self.read_args:
            arguments |= cells.exact_floats()
        read = getattr(pandas, f"read_{self._format.method}")
        with self._format.lock:
            frame = read(self.get_path(), **{**arguments, **self.read_args, **more})
        return self._from_arrow(frame)

    def _for_arrow(self, frame: Any) -> Any:
        """The frame as the format can have it; what is lost with that is kept."""
        if self.format == "parquet":
            return table_formats.with_attribute(frame)
        if self.format in LABELLED:
            frame, self.extra_metadata[self.format] = table_formats.written(frame, texts_only=self.format == "orc")
        return frame

    def _from_arrow(self, frame: Any) -> Any:
        if self.format == "parquet":
            return table_formats.without_attribute(frame)
        if self.format in LABELLED:
            return table_formats.restored(frame, self.extra_metadata.get(self.format))
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
    def _write_json(self, frame: Any, path: str) -> bool:
        if not self.to_args:
            return json_tables.write(frame, path)
        arguments = {**self._format.to_args, "orient": "table", **self.to_args}
        dates = table_formats.described(frame, {})["dates"]
        if dates and arguments["orient"] != "table" and arguments.setdefault("date_format", "iso") == "iso":
            self.extra_metadata["json"] = {"dates": dates}  # of which the file says that they are texts
        if arguments["orient"] == "table" and frame.columns.nlevels == 1:
            frame = frame.set_axis(labels.texts_of(frame.columns), axis="columns")  # pandas loses values under others
        frame.to_json(path, **arguments)
        return False

    def _read_json(self, pandas: Any) -> Any:
        path = self.get_path()
        if not (self.to_args or self.read_args):
            frame = json_tables.read(path)
            if frame is not None:
                return frame
        with open(path, "rb") as file:
            start = file.read(100).lstrip()
        arguments = dict(self._format.read_args)
        if "orient" in self.to_args:
            arguments["orient"] = self.to_args["orient"]
        elif start.startswith(b'{"schema"') or start[:1] not in (b"{", b"["):  # it may be compressed
            arguments["orient"] = "table"
        frame = pandas.read_json(path, **{**arguments, **self.read_args})
        facts = self.extra_metadata.get("json")
        if facts is None or "convert_dates" in self.read_args or not isinstance(frame, pandas.DataFrame):
            return frame
        dates = facts["dates"]
        return table_formats.with_dates(frame, {label: dates[str(label)] for label in frame if str(label) in dates})

    # --- what it takes -----------------------------------------------------------------------------------------------
    @property
    def _format(self) -> TableFormat:
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


class PandasCsvCacher(PandasCacher):
    """Stores a pandas frame as CSV: ``PandasCacher(format="csv")``, see there for what is kept.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_csv`` and ``pandas.read_csv``. (`to_csv_args` and `read_csv_args` are synonyms.)
    check_saved : bool
        As for `PandasCacher`.
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
        check_saved: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args, read_args, check_saved, **options)


PandasCSVCacher = PandasCsvCacher


class PandasJsonCacher(PandasCacher):
    """Stores a pandas frame as JSON: ``PandasCacher(format="json")``, see there for what is kept.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_json`` and ``pandas.read_json``. (`to_json_args` and `read_json_args` are synonyms.)
    check_saved : bool
        As for `PandasCacher`.
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
        check_saved: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(path_override, None, to_args, read_args, check_saved, **options)
