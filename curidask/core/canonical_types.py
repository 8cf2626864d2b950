"""How values are encoded that are identified in a way of their own: code, paths, enums, and what has fields."""

from __future__ import annotations

import array
import enum
import functools
import operator
import pathlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from curidask.core.canonical import BUILTIN_BASES, Encoder, Encoding, class_name, own_attributes, text, written
from curidask.core.code import identity
from curidask.core.code.classes import is_local_class, of_class
from curidask.core.hash_fields import has_fields, hashed_fields
from curidask.errors import ParameterError

HOOK = "__curidask_hash__"
"""A method that returns plain data which stands for an object."""

_chosen: WeakKeyDictionary[type, Encoding] = WeakKeyDictionary()
_registered: WeakKeyDictionary[type, Callable[[Any], Any]] = WeakKeyDictionary()


def encoding_of(cls: type) -> Encoding:
    """How the values of a class are encoded."""
    found = _chosen.get(cls)
    if found is None:
        found = _chosen[cls] = _choose(cls)
    return found


def register(cls: type, representation: Callable[[Any], Any]) -> None:
    """Let what a function returns stand for the values of a class and of its subclasses."""
    _registered[cls] = representation
    _chosen.clear()


def _choose(cls: type) -> Encoding:
    told = representation_of(cls)
    if told is not None:
        return functools.partial(_told, told)
    own = next((encoding for matches, encoding in _FAMILIES if matches(cls)), None)
    return own or of_package(cls) or _last(cls)


def _last(cls: type) -> Encoding:
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _named_tuple
    if has_fields(cls):
        return _with_fields
    return Encoder.builtin_subclass if issubclass(cls, BUILTIN_BASES) else _object


# --- what says itself what identifies it -----------------------------------------------------------------------------
def representation_of(cls: type) -> Callable[[Any], Any] | None:
    """What says for the objects of a class what stands for them in hashes; None for most."""
    known = (_registered.get(kind) or vars(kind).get(HOOK) for kind in cls.__mro__)
    return next((function for function in known if function is not None), None)


def _told(representation: Callable[[Any], Any], encoder: Encoder, value: Any) -> bytes:
    try:
        told = representation(value)
    except Exception as error:
        raise ParameterError(
            f"What stands for a {type(value).__qualname__} in a hash raised {type(error).__name__}: {error}",
            where="".join(encoder.path),
            fix=f"let `{HOOK}` (or the registered function) return plain data for every value of the class",
        ) from error
    return encoder.named(b"own", type(value), encoder.at(f".{HOOK}()", told))


# --- what has fields -------------------------------------------------------------------------------------------------
def _with_fields(encoder: Encoder, value: Any) -> bytes:
    """Class and fields; fields that are None are left out, so adding one keeps old hashes."""
    return encoder.named(b"dc", type(value), encoder.parts({field.name: field.value for field in hashed_fields(value)}))


def _named_tuple(encoder: Encoder, value: Any) -> bytes:
    return encoder.named(b"nt", type(value), encoder.parts(dict(zip(value._fields, value, strict=True))))


def _enum(encoder: Encoder, value: Any) -> bytes:
    return encoder.named(b"en", type(value), text(value.name or ""), encoder.at(".value", value.value))


# --- code ------------------------------------------------------------------------------------------------------------
def _function(encoder: Encoder, value: Any) -> bytes:
    """A function by name, code, defaults and what its closure holds."""
    parts = [text(identity.public_name(value)), text(identity.of_function(value))]
    if hasattr(value, "registry") and hasattr(value, "dispatch") and identity.is_wrapper(value):
        parts.append(encoder.mapping(b"d", value.registry))  # of functools.singledispatch, whose closure is its cache
    elif not identity.is_installed(value):
        parts.append(encoder.at(".__defaults__", value.__defaults__))
        parts.append(encoder.at(".__kwdefaults__", value.__kwdefaults__))
        reached = identity.reached_values(value).items()
        attributes = ((f"attribute {name}", held) for name, held in sorted(identity.attributes_of(value).items()))
        parts += [text(name) + encoder.inner(f".{name}", held) for name, held in (*reached, *attributes)]
    return written(b"fn", b"".join(parts))


def _class(encoder: Encoder, value: Any) -> bytes:
    held = encoder.held_by(value) if is_local_class(value) else b""
    return written(b"cl", text(identity.public_name(value)) + text(of_class(value)) + held)


def _bound(encoder: Encoder, value: Any) -> bytes:
    return written(b"bm", encoder.inner(".__self__", value.__self__) + encoder.at(".__func__", value.__func__))


def _builtin_function(encoder: Encoder, value: Any) -> bytes:
    owner = getattr(value, "__self__", None)
    bound = b"" if owner is None or isinstance(owner, types.ModuleType) else encoder.inner(".__self__", owner)
    module = getattr(value, "__module__", None) or ""
    return written(b"bf", text(identity.public_module(module)) + text(value.__qualname__) + bound)


def _attributes(*names: str) -> Encoding:
    """An object by some of its attributes, which are code or lead to it."""
    return lambda encoder, value: encoder.named(
        b"by", type(value), *(encoder.inner(f".{name}", getattr(value, name, None)) for name in names)
    )


def _generic(encoder: Encoder, value: Any) -> bytes:
    origin, args = typing.get_origin(value), typing.get_args(value)
    if origin in (types.UnionType, typing.Union):
        return encoder.unordered(b"un", args)
    return encoder.items(b"ga", (origin, args))


def _is_generic(cls: type) -> bool:
    return issubclass(cls, types.GenericAlias | types.UnionType) or (
        cls.__module__ == "typing" and "GenericAlias" in cls.__name__
    )


def _object(encoder: Encoder, value: Any) -> bytes:
    """What can be imported from an installed package by its name is that name; other objects count by their state."""
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str) and identity.is_installed(value):
        found: Any = sys.modules.get(value.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is value:
            return written(b"bf", text(identity.public_name(value)))
    return encoder.by_state(value)


def _of(*classes: type) -> Callable[[type], bool]:
    return lambda cls: issubclass(cls, classes)


_FAMILIES: list[tuple[Callable[[type], bool], Encoding]] = [
    (_of(enum.Enum), _enum),
    (_of(type), _class),
    (_of(types.FunctionType), _function),
    (_of(types.MethodType), _bound),
    (
        _of(
            types.BuiltinFunctionType,
            types.MethodWrapperType,
            types.MethodDescriptorType,
            types.WrapperDescriptorType,
            types.ClassMethodDescriptorType,
            types.GetSetDescriptorType,
            types.MemberDescriptorType,
        ),
        _builtin_function,
    ),
    (_of(functools.partial, functools.partialmethod), _attributes("func", "args", "keywords")),
    (_of(functools.cached_property), _attributes("func")),
    (_of(functools.singledispatchmethod), _attributes("dispatcher", "func")),
    (_of(property), _attributes("fget", "fset", "fdel")),
    (_of(staticmethod, classmethod, type(functools.cache(len))), _attributes("__wrapped__")),
    (_of(operator.itemgetter, operator.attrgetter), lambda e, v: e.items(b"op", v.__reduce__())),
    (_of(types.ModuleType), lambda e, v: written(b"mod", text(v.__name__))),
    (_is_generic, _generic),
    (_of(pathlib.PurePath), lambda e, v: written(b"path", v.as_posix().encode())),
]


# --- how values of other people's packages are encoded ---------------------------------------------------------------
# Arrays, tables, distributions, models, configurations.
#
# By content, not by what a version of the package happens to keep: the modules behind public names, caches and notes
# on versions do not count. None of the packages is imported here; each is there when a value of it is.


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
