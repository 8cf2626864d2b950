"""How values are encoded that are identified in a way of their own: code, arrays, tables, dataclasses."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

from curidask import code_identity
from curidask.encoding import BUILTIN_BASES, Encoder, Family, text, written
from curidask.hash_fields import hashed_fields


def _is_from(package: str) -> Callable[[Any], bool]:
    def matches(value: Any) -> bool:
        return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__[:-1])

    return matches


def _dataclass(encoder: Encoder, value: Any) -> bytes:
    """A dataclass by class and fields; fields that are None are left out, so adding one keeps old hashes."""
    parts = [
        encoder.encode(field.name) + encoder.at(f".{field.name}", field.value)
        for field in hashed_fields(value)
        if field.value is not None
    ]
    return encoder.named(b"dc", type(value), written(b"fields", b"".join(parts)))


def _numpy(encoder: Encoder, value: Any) -> bytes:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.dtype):
        return encoder.items(b"npdt", (str(value), value.descr if value.fields else ()))
    if isinstance(value, numpy.ndarray):
        if value.dtype.hasobject:
            content = encoder.items(b"l", value.ravel().tolist())
        else:
            # Big-endian and little-endian arrays differ by dtype; the bytes are those of the array as it is.
            content = written(b"y", numpy.ascontiguousarray(value).tobytes())
        mask = encoder.at(".mask", numpy.ma.getmaskarray(value)) if isinstance(value, numpy.ma.MaskedArray) else b""
        return encoder.named(
            b"np", type(value), encoder.at("", value.dtype), encoder.at("", value.shape), content, mask
        )
    if isinstance(value, numpy.generic):
        return written(b"nps", encoder.at("", value.dtype) + encoder.at("", value.tobytes()))
    if isinstance(value, numpy.random.Generator):
        return encoder.named(b"npr", type(value), encoder.at("", value.bit_generator.state))
    if isinstance(value, numpy.random.RandomState):
        return encoder.named(b"npr", type(value), encoder.at("", value.get_state(legacy=False)))
    if isinstance(value, numpy.random.BitGenerator):
        return encoder.named(b"npr", type(value), encoder.at("", value.state))
    return encoder.by_state(value)


def _pandas(encoder: Encoder, value: Any) -> bytes:
    """Tables and columns whole: labels, types, values."""
    pandas = sys.modules["pandas"]
    if value is pandas.NA or value is pandas.NaT:
        return written(b"pdn", type(value).__name__.encode())
    parts = _pandas_parts(pandas, value)
    if parts is None:
        return encoder.by_state(value)
    return encoder.named(b"pd", type(value), *[encoder.at(f".{name}", part) for name, part in parts.items()])


def _pandas_parts(pandas: Any, value: Any) -> dict[str, Any] | None:
    if isinstance(value, pandas.DataFrame):
        columns = [value.iloc[:, i].array for i in range(value.shape[1])]
        return {"columns": value.columns, "index": value.index, "values": columns}
    if isinstance(value, pandas.Series):
        return {"name": value.name, "index": value.index, "array": value.array}
    if isinstance(value, pandas.Index):
        return {"names": list(value.names), "dtype": str(value.dtype), "values": value.tolist()}
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _extension_array_parts(value)
    if isinstance(value, pandas.Timestamp | pandas.Timedelta):
        return {"value": value.value, "unit": value.unit, "zone": str(getattr(value, "tz", None))}
    return None


def _extension_array_parts(value: Any) -> dict[str, Any]:
    categories = getattr(value, "categories", None)
    content = value.tolist() if categories is not None else value.to_numpy()
    known = () if categories is None else (list(categories), bool(getattr(value, "ordered", False)))
    return {"dtype": str(value.dtype), "categories": known, "values": content}


def _function(encoder: Encoder, value: Any) -> bytes:
    """A function by module, name, code, defaults and what its closure holds."""
    parts = [text(value.__module__ or ""), text(value.__qualname__), text(code_identity.of_function(value))]
    if not code_identity.is_installed(value):
        parts.append(encoder.at(".__defaults__", value.__defaults__))
        parts.append(encoder.at(".__kwdefaults__", value.__kwdefaults__))
        for name, held in code_identity.reached_values(value).items():
            if id(held) in encoder.open:
                parts.append(written(b"rec", name.encode()))  # a function that calls itself
            else:
                parts.append(text(name) + encoder.at(f".{name}", held))
    return written(b"fn", b"".join(parts))


def _partial(encoder: Encoder, value: Any) -> bytes:
    parts = (encoder.at(".func", value.func), encoder.at(".args", value.args), encoder.at(".keywords", value.keywords))
    return encoder.named(b"pa", type(value), *parts)


def _class(encoder: Encoder, value: Any) -> bytes:
    parts = [text(value.__module__), text(value.__qualname__), text(code_identity.of_class(value))]
    return written(b"cl", b"".join(parts))


def _bound(encoder: Encoder, value: Any) -> bytes:
    return written(b"bm", encoder.at(".__self__", value.__self__) + encoder.at(".__func__", value.__func__))


def _builtin_function(encoder: Encoder, value: Any) -> bytes:
    owner = getattr(value, "__self__", None)
    bound = b"" if owner is None or isinstance(owner, types.ModuleType) else encoder.at(".__self__", owner)
    return written(b"bf", text(getattr(value, "__module__", None) or "") + text(value.__qualname__) + bound)


def _wrapped(encoder: Encoder, value: Any) -> bytes:
    return written(b"wr", text(type(value).__qualname__) + encoder.at(".__wrapped__", value.__wrapped__))


def _enum(encoder: Encoder, value: Any) -> bytes:
    return encoder.named(b"en", type(value), text(value.name or ""), encoder.at(".value", value.value))


FAMILIES: list[Family] = [
    (lambda v: isinstance(v, enum.Enum), _enum),
    (lambda v: isinstance(v, type), _class),
    (lambda v: isinstance(v, types.FunctionType), _function),
    (lambda v: isinstance(v, types.MethodType), _bound),
    (lambda v: isinstance(v, types.BuiltinFunctionType | types.MethodDescriptorType), _builtin_function),
    (lambda v: isinstance(v, functools.partial), _partial),
    (lambda v: isinstance(v, staticmethod | classmethod) or type(v).__name__ == "_lru_cache_wrapper", _wrapped),
    (lambda v: isinstance(v, operator.itemgetter | operator.attrgetter), lambda e, v: e.items(b"op", v.__reduce__())),
    (lambda v: isinstance(v, types.ModuleType), lambda e, v: written(b"mod", text(v.__name__))),
    (lambda v: isinstance(v, types.GenericAlias), lambda e, v: e.items(b"ga", (v.__origin__, v.__args__))),
    (lambda v: isinstance(v, pathlib.PurePath), lambda e, v: written(b"path", v.as_posix().encode())),
    (_is_from("numpy"), _numpy),
    (_is_from("pandas"), _pandas),
    (dataclasses.is_dataclass, _dataclass),
    (lambda v: isinstance(v, BUILTIN_BASES), lambda e, v: e.builtin_subclass(v)),
]
