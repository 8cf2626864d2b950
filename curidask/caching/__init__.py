"""Cachers: how values are written to files and read back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curidask.caching.base import Cacheable, Lazy
from curidask.caching.files import JsonCacher, PickleCacher
from curidask.core.keywords import no_attribute

if TYPE_CHECKING:
    from curidask.caching.arrays import NumpyCacher
    from curidask.caching.notebooks import RawJupyterNotebookCacher
    from curidask.caching.parquet import ParquetCacher
    from curidask.caching.path_refs import FileReferenceCacher, PathRef
    from curidask.caching.tables import PandasCacher, PandasCSVCacher, PandasCsvCacher, PandasJsonCacher

_HOMES = {
    "FileReferenceCacher": "path_refs",
    "NumpyCacher": "arrays",
    "PandasCSVCacher": "tables",
    "PandasCacher": "tables",
    "PandasCsvCacher": "tables",
    "PandasJsonCacher": "tables",
    "ParquetCacher": "parquet",
    "PathRef": "path_refs",
    "RawJupyterNotebookCacher": "notebooks",
}

__all__ = [
    "Cacheable",
    "FileReferenceCacher",
    "JsonCacher",
    "Lazy",
    "NumpyCacher",
    "PandasCSVCacher",
    "PandasCacher",
    "PandasCsvCacher",
    "PandasJsonCacher",
    "ParquetCacher",
    "PathRef",
    "PickleCacher",
    "RawJupyterNotebookCacher",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise no_attribute(f"module {__name__!r}", name, __all__)
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
