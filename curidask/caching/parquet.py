"""A cacher for frames of pandas and polars."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curidask.caching import comparing, table_formats
from curidask.caching._optional import is_installed, load_package, require, type_name
from curidask.caching.base import Cacheable
from curidask.caching.table_formats import EXACT, PACKED, telling_of_typos
from curidask.core.keywords import keywords
from curidask.errors import CacheError, UnknownKeywordError

__all__ = ["ParquetCacher"]

POLARS_MARK = "curidask.frame=polars"


class ParquetCacher(Cacheable):
    """Stores a pandas or polars frame as Parquet, and gives back the kind that it was given.

    Types and the index of a pandas frame are kept. Other programs read the files. A Parquet file that something else
    wrote loads as a pandas frame.

    Parameters
    ----------
    path_override : str or Path, optional
    to_args, read_args : dict, optional
        For ``DataFrame.to_parquet`` and ``pandas.read_parquet`` of a pandas frame, for ``write_parquet`` and
        ``polars.read_parquet`` of a polars frame.
    check_saved : bool
        Whether a pandas frame is read back once, and compared, where it has types of which some values do not come
        back. Takes as long as loading it.
    **options
        As for `Cacheable`.

    Notes
    -----
    Pandas frames need pyarrow (``curidask[tables]``), polars frames polars alone (``curidask[polars]``). Of a pandas
    frame, the frequency of a time index is lost, and lists inside of a column come back as arrays. What would come back
    as another value is an error of `save`.
    """

    extension = ".parquet"
    to_args: Mapping[str, Any] = {}
    read_args: Mapping[str, Any] = {}
    check_saved: bool = True

    @keywords()
    def __init__(
        self,
        path_override: str | Path | None = None,
        to_args: Mapping[str, Any] | None = None,
        read_args: Mapping[str, Any] | None = None,
        check_saved: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(path_override, **options)
        self.to_args = dict(to_args or {})
        self.read_args = dict(read_args or {})
        self.check_saved = check_saved

    def check_ready(self) -> None:
        """Raise a `CacheError` that says what to install, when neither kind of frame could be stored."""
        if not is_installed("polars"):
            require("pyarrow", "ParquetCacher")

    def save(self, obj: Any) -> str:
        """Write the frame; the path.

        Raises
        ------
        CacheError
            For what is no frame, and for a frame that Parquet cannot hold.
        """
        kind = _frame_kind(obj)
        if kind is None:
            raise CacheError(
                f"The value is a {type_name(obj)}, not a frame of pandas or polars.",
                where=self.name or "",
                fix="call .collect() on a lazy frame, .to_frame() on a series; use another cacher for other types",
            )
        path = self.get_path()
        try:
            with telling_of_typos("to_args", "ParquetCacher"):
                self._write(obj, path, kind)
        except (OSError, UnknownKeywordError):
            raise
        except Exception as error:
            raise CacheError(
                f"The frame cannot be written as Parquet: {type(error).__name__}: {error}",
                where=self.name or "",
                fix=f"make each column of one type, or use {EXACT}",
            ) from error
        if kind == "pandas":
            self._check_read_back(obj)
        return path

    def _write(self, frame: Any, path: str, kind: str) -> None:
        if kind == "polars":
            frame.write_parquet(path, **{"metadata": {POLARS_MARK: ""}, **self.to_args})
        else:
            require("pyarrow", "ParquetCacher")
            table_formats.with_attribute(frame).to_parquet(path, **self.to_args)

    def _check_read_back(self, frame: Any) -> None:
        whole = not (set(self.to_args) | set(self.read_args)) - PACKED
        if self.check_saved and not (whole and comparing.is_sure(frame, comparing.ARROW_TYPES)):
            comparing.check_read_back(
                frame,
                lambda: ParquetCacher.load(self),
                "Parquet",
                compare=whole,
                where=self.name or "",
                fix=lambda what: f"use {EXACT}; check_saved=False where it does not matter",
            )

    def load(self) -> Any:
        """Read the frame."""
        path = self.get_path()
        with telling_of_typos("read_args", "ParquetCacher"):
            if _is_from_polars(path):
                polars = load_package("polars", "A frame of polars in a ParquetCacher")
                return polars.read_parquet(path, **self.read_args)
            require("pyarrow", "ParquetCacher")
            return table_formats.without_attribute(
                load_package("pandas", "ParquetCacher").read_parquet(path, **self.read_args)
            )


def _frame_kind(obj: Any) -> str | None:
    for kind in type(obj).__mro__:
        package = kind.__module__.partition(".")[0]
        if kind.__name__ == "DataFrame" and package in ("pandas", "polars"):
            return package
    return None


def _is_from_polars(path: str) -> bool:
    """Whether the file's footer has our mark.

    Looked for in its bytes: pyarrow refuses to open a file with some types of polars, and may not be installed.
    """
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(size - 8, 0))
        footer_bytes = int.from_bytes(file.read(4), "little")
        file.seek(max(size - 8 - footer_bytes, 0))
        return POLARS_MARK.encode() in file.read(footer_bytes)
