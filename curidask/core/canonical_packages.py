"""How values of other people's packages are encoded: arrays, tables, distributions, models, configurations.

By content, not by what a version of the package happens to keep: the modules behind public names, caches and notes on
versions do not count. None of the packages is imported here; each is there when a value of it is.
"""

from __future__ import annotations

import array
import sys
from typing import Any

from curidask.core.canonical import Encoder, Encoding, class_name, own_attributes, text, written


def of_package(cls: type) -> Encoding | None:
    """How values of a class are encoded that comes from one of the packages known here or extends one of theirs."""
    for base in cls.__mro__:
        found = _PACKAGES.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    return None


# --- numpy -----------------------------------------------------------------------------------------------------------
def _numpy(encoder: Encoder, value: Any) -> bytes:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.ndarray):
        return _array(encoder, value)
    if isinstance(value, numpy.generic):
        return written(b"nps", _content(encoder, numpy.asarray(value)))
    if isinstance(value, numpy.dtype):
        return _dtype(encoder, value)
    if isinstance(value, numpy.ufunc):
        return _ufunc(encoder, value)
    return _other_numpy(encoder, value)


def _other_numpy(encoder: Encoder, value: Any) -> bytes:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.random.Generator):
        return encoder.named(b"npr", type(value), encoder.at("", value.bit_generator.state))
    if isinstance(value, numpy.random.RandomState):
        # The process's own has no state of its own that a value could be said to hold.
        state = "global" if value is numpy.random.mtrand._rand else value.get_state(legacy=False)
        return encoder.named(b"npr", type(value), encoder.at("", state))
    if isinstance(value, numpy.random.BitGenerator):
        return encoder.named(b"npr", type(value), encoder.at("", value.state))
    if isinstance(value, numpy.vectorize):
        known = {name: getattr(value, name) for name in ("pyfunc", "otypes", "signature", "excluded")}
        return encoder.named(b"npv", type(value), encoder.parts(known))
    return encoder.by_state(value)


def _array(encoder: Encoder, value: Any) -> bytes:
    """An array by its elements; one of a subclass by its class and what that adds (units, masks) too."""
    numpy = sys.modules["numpy"]
    content = _content(encoder, numpy.asarray(value))
    if type(value) in (numpy.ndarray, numpy.memmap):
        return written(b"np", content)
    attributes = {name: held for name, held in own_attributes(value).items() if name not in _OF_MASKS}
    if isinstance(value, numpy.ma.MaskedArray):
        attributes |= {"mask": numpy.ma.getmaskarray(value), "fill_value": value.fill_value}
    return encoder.named(b"nps", type(value), content, encoder.parts(attributes))


_OF_MASKS = {
    "_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield", "_baseclass", "_optinfo", "_basedict",
}  # fmt: skip


def _content(encoder: Encoder, plain: Any) -> bytes:
    return _dtype(encoder, plain.dtype) + encoder.items(b"t", plain.shape) + _elements(encoder, plain)


def _dtype(encoder: Encoder, dtype: Any) -> bytes:
    if dtype.fields:
        return encoder.items(b"npst", [part for name in dtype.names for part in (name, dtype.fields[name][0])])
    if dtype.subdtype:
        return encoder.items(b"npsub", dtype.subdtype)
    # The short form is the same in all versions, but does not tell types that a package defines from raw bytes.
    return written(b"npdt", (repr(dtype) if dtype.kind in "TV" else dtype.str).encode())


def _elements(encoder: Encoder, plain: Any) -> bytes:
    if plain.dtype.fields:  # one by one: what lies between the fields is anything
        return b"".join([_elements(encoder, plain[name]) for name in plain.dtype.names])
    if plain.dtype.hasobject:
        return encoder.items(b"l", plain.ravel().tolist())
    # Big-endian and little-endian arrays differ by dtype; the bytes are those of the array as it is.
    return written(b"y", plain.tobytes())


def _ufunc(encoder: Encoder, value: Any) -> bytes:
    name: str = value.__name__
    for module in ("numpy", "scipy.special"):
        if getattr(sys.modules.get(module), name, None) is value:
            return written(b"npu", text(f"{module}:{name}"))
    raise encoder.refused(value, f"{name!r} is made of a function that it does not show")


# --- pandas ----------------------------------------------------------------------------------------------------------
def _pandas(encoder: Encoder, value: Any) -> bytes:
    """Tables and columns whole: labels, types, values, and what is attached to them."""
    pandas = sys.modules["pandas"]
    if value is pandas.NA or value is pandas.NaT:
        return written(b"pdn", type(value).__name__.encode())
    parts = _pandas_parts(pandas, value)
    return encoder.by_state(value) if parts is None else encoder.named(b"pd", type(value), encoder.parts(parts))


def _pandas_parts(pandas: Any, value: Any) -> dict[str, Any] | None:
    if isinstance(value, pandas.DataFrame):
        columns = [value.iloc[:, i].array for i in range(value.shape[1])]
        return {"columns": value.columns, "index": value.index, "values": columns, **_attached(value)}
    if isinstance(value, pandas.Series):
        return {"name": value.name, "index": value.index, "array": value.array, **_attached(value)}
    if isinstance(value, pandas.Index):
        return _index_parts(pandas, value)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _extension_array_parts(value)
    if isinstance(value, pandas.Timestamp | pandas.Timedelta):
        return {"value": value.value, "unit": value.unit, "zone": str(getattr(value, "tz", None))}
    return None


def _attached(value: Any) -> dict[str, Any]:
    # None is what a copy has of what was never set.
    own = own_attributes(value).items()
    attributes = {name: held for name, held in own if name not in _OF_TABLES and held is not None}
    return {"attrs": value.attrs or None, "attributes": attributes or None}


_OF_TABLES = {
    *("_mgr", "_attrs", "_flags", "_name", "_item_cache", "_cacher", "_is_copy", "_index", "_cache"),
    *("_typ", "_metadata"),  # which unpickling sets on the object, beside its class
}


def _index_parts(pandas: Any, value: Any) -> dict[str, Any]:
    names = {"names": list(value.names)}
    if isinstance(value, pandas.RangeIndex):
        return {**names, "range": (value.start, value.stop, value.step)}
    if isinstance(value, pandas.MultiIndex):
        return {**names, "levels": [value.get_level_values(level) for level in range(value.nlevels)]}
    if str(value.dtype) in ("object", "str") and all(type(label) is str for label in value):
        return {**names, "texts": value.tolist()}  # their type depends on the version alone
    return {**names, "array": value.array, "frequency": getattr(value, "freqstr", None)}


def _extension_array_parts(value: Any) -> dict[str, Any]:
    dtype = str(value.dtype)
    if dtype == "category":
        known = {"categories": value.categories, "ordered": bool(value.ordered)}
        return {"dtype": dtype, **known, "values": value.codes.astype("<i8")}
    if hasattr(value, "asi8"):  # moments and spans of time
        return {"dtype": dtype, "values": value.asi8}
    plain = getattr(value.dtype, "numpy_dtype", None)
    if plain is None or plain.kind not in "iufbc":
        return {"dtype": dtype, "values": value.tolist()}
    missing = value.isna()
    kept = {"missing": missing if missing.any() else None}
    return {"dtype": dtype, **kept, "values": value.to_numpy(dtype=plain, na_value=0)}


# --- polars ----------------------------------------------------------------------------------------------------------
def _polars(encoder: Encoder, value: Any) -> bytes:
    polars = sys.modules["polars"]
    if isinstance(value, polars.DataFrame):
        return encoder.named(b"pl", type(value), encoder.parts({"columns": value.get_columns(), **_beside(value)}))
    if isinstance(value, polars.Series):
        known = {"name": value.name, "dtype": str(value.dtype), "values": _values(value), **_beside(value)}
        return encoder.named(b"pl", type(value), encoder.parts(known))
    if isinstance(value, polars.LazyFrame | polars.Expr):
        raise encoder.refused(
            value,
            "it is a plan, whose content is not known",
            "give the data itself, as with `.collect()`, or the plan as a text or a function that makes it",
        )
    return encoder.by_state(value)


def _beside(value: Any) -> dict[str, Any]:
    attributes = {name: held for name, held in own_attributes(value).items() if name not in ("_df", "_s", "_accessors")}
    return {"attributes": attributes or None}


_CODES = {
    "Int8": "b", "Int16": "h", "Int32": "i", "Int64": "q", "UInt8": "B", "UInt16": "H", "UInt32": "I", "UInt64": "Q",
    "Float32": "f", "Float64": "d",
}  # fmt: skip


def _values(series: Any) -> list[Any] | bytes:
    """The values; as their bytes where that is much faster."""
    values: list[Any] = series.to_list()
    code = _CODES.get(str(series.dtype))
    return values if code is None or series.null_count() else array.array(code, values).tobytes()


# --- models, distributions, configurations ---------------------------------------------------------------------------
def _sklearn(encoder: Encoder, value: Any) -> bytes:
    return encoder.by_state(value, without=_OF_SKLEARN)


_OF_SKLEARN = ("_sklearn_version", "_stop_words_id")  # the second is an address


def _scipy(encoder: Encoder, value: Any) -> bytes:
    cls, held = class_name(type(value)), getattr(value, "__dict__", {})
    if hasattr(value, "rvs") and hasattr(value, "dist"):
        return encoder.by_state(value, without=("a", "b"))  # which follow from what it is a frozen form of
    if "_original_parameters" in held:
        return encoder.by_state(value, without=[name for name in held if _follows(name, held[name])])
    return encoder.by_state(value, without=_OF_SPARSE if cls.startswith("scipy.sparse:") else _OF_DISTRIBUTIONS)


def _follows(name: str, held: Any) -> bool:
    """Whether an attribute of a distribution follows from its parameters or is filled in on use."""
    return name.endswith("_cache") or name in _OF_NEW_DISTRIBUTIONS or type(held) is object


_OF_SPARSE = ("_has_canonical_format", "_has_sorted_indices", "has_canonical_format", "maxprint")
_OF_DISTRIBUTIONS = (
    "_ctor_param", "_parse_arg_template", "_stats_has_moments", "numargs", "__doc__", "vecentropy", "extradoc",
    "moment_type", "longname", "_pinv",
)  # fmt: skip
_OF_NEW_DISTRIBUTIONS = (
    "_invalid", "_any_invalid", "_shape", "_ndim", "_size", "_dtype", "_parameters", "_parameterization",
    "_moment_methods", "_not_implemented",
)  # fmt: skip


def _omegaconf(encoder: Encoder, value: Any) -> bytes:
    """A configuration by its values, references in it resolved."""
    config = sys.modules["omegaconf"].OmegaConf
    if not config.is_config(value):
        return encoder.by_state(value)
    try:
        plain = config.to_container(value, resolve=True)
    except Exception as error:
        raise encoder.refused(value, f"it cannot be resolved ({error})") from None
    return encoder.named(b"omega", type(value), encoder.at("", plain))


_PACKAGES: dict[str, Encoding] = {
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "sklearn": _sklearn,
    "scipy": _scipy,
    "omegaconf": _omegaconf,
}
