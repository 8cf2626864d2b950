"""Canonical, typed encoding of values, and digests over it.

Every value is written as a tag for its type, a length and its content, and containers nest such writings, so two
different values can never be written alike. Nothing that differs between processes is used: no ``repr``, no ``hash()``,
no pickle, no address. What has no identity but an address is refused by name.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import operator
import pathlib
import re
import struct
import sys
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from curidask import code_identity
from curidask.errors import UnstableHashError

MAX_DEPTH = 100
"""Containers within containers at most; deeper ones would end in Python's own recursion limit."""


def digest(value: object, *, where: str = "value") -> str:
    """The identity of a value: the same in every process and on every machine, different for different values.

    Parameters
    ----------
    value : object
        Plain data, containers, numpy and pandas objects, functions, classes, or any object with a state.
    where : str
        What the value is, for the error.

    Returns
    -------
    str
        64 hexadecimal digits (SHA-256 of the canonical encoding).

    Raises
    ------
    UnstableHashError
        When something in the value can only be told apart by its address.
    """
    return hashlib.sha256(encode(value, where=where)).hexdigest()


def encode(value: object, *, where: str = "value") -> bytes:
    """The canonical encoding of a value; see `digest`."""
    encoder = _Encoder(where)
    try:
        return encoder.encode(value)
    except RecursionError:  # the caller was deep in a recursion already
        encoder.path = [where]
        raise encoder.refused(value, "it is nested too deeply") from None


def get_parameter_hash_value(param_set: Any, name: str) -> str:
    """What enters the hash of a parameter set for one field, as a text.

    Parameters
    ----------
    param_set : ExperimentParameters
    name : str
        The field.

    Raises
    ------
    KeyError
        When the set has no such field, or it does not enter the hash.
    """
    text: str = param_set.params_hash(dry=True)[name]
    return text


def _written(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


class _Encoder:
    """One pass over a value; remembers where it is, for errors, and which containers it is in, for cycles."""

    def __init__(self, where: str) -> None:
        self.path = [where]
        self.open: set[int] = set()

    def encode(self, value: Any) -> bytes:
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            return simple(value)
        if id(value) in self.open:
            # A cycle: named by how far up the container stands is not needed, since values with cycles are refused.
            raise self.refused(value, "it contains itself")
        if len(self.open) > MAX_DEPTH:
            raise self.refused(value, f"it is nested more than {MAX_DEPTH} levels deep")
        self.open.add(id(value))
        try:
            container = _CONTAINERS.get(type(value))
            return container(self, value) if container is not None else self.other(value)
        finally:
            self.open.discard(id(value))

    def at(self, step: str, value: Any) -> bytes:
        """Encode a part, with its place in the path while that goes on."""
        self.path.append(step)
        written = self.encode(value)
        self.path.pop()
        return written

    def items(self, tag: bytes, values: Iterable[Any]) -> bytes:
        return _written(tag, b"".join([self.at(f"[{i}]", value) for i, value in enumerate(values)]))

    def mapping(self, tag: bytes, mapping: Any) -> bytes:
        pairs = [self.at("key", key) + self.at(f"[{key!r:.40}]", value) for key, value in mapping.items()]
        return _written(tag, b"".join(sorted(pairs)))

    def unordered(self, tag: bytes, values: Iterable[Any]) -> bytes:
        return _written(tag, b"".join(sorted([self.at("element", value) for value in values])))

    def named(self, tag: bytes, cls: type, *parts: bytes) -> bytes:
        """Something identified by its class and parts."""
        return _written(tag, self.encode(cls) + b"".join(parts))

    def refused(self, value: Any, why: str) -> UnstableHashError:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return UnstableHashError(
            f"A {kind} cannot be hashed: {why}.",
            where="".join(self.path),
            fix="use plain data instead, or give the field an entry in `hash_representations`: a function "
            "`(self, value) -> plain data`, or None to leave the field out of the hash",
        )

    # --- what is neither plain nor a built-in container ----------------------------------------------------------
    def other(self, value: Any) -> bytes:
        for matches, encoder in _FAMILIES:
            if matches(value):
                return encoder(self, value)
        return self.by_state(value)

    def builtin_subclass(self, value: Any) -> bytes:
        """An instance of a subclass of a built-in: its class, what the built-in holds, its attributes."""
        base = next(base for base in _BUILTIN_BASES if isinstance(value, base))
        plain = _PLAIN_VALUE[base](value)
        attributes = getattr(value, "__dict__", None) or {}
        return self.named(b"sub", type(value), self.encode(plain), self.mapping(b"dict", attributes))

    def by_state(self, value: Any) -> bytes:
        """An object by its class and what it would be pickled as."""
        cls = type(value)
        if cls.__module__ == "builtins" or cls.__module__.startswith("_"):
            raise self.refused(value, "its only identity is its address in this process")
        state = self._custom_state(value)
        if state is not None:
            return self.named(b"obj", cls, self.at(".__getstate__()", state[0]))
        attributes = _attributes(value)
        if attributes is not None:
            parts = [self.encode(name) + self.at(f".{name}", v) for name, v in sorted(attributes.items())]
            return self.named(b"obj", cls, *parts)
        return self._reduced(value)

    def _custom_state(self, value: Any) -> tuple[Any] | None:
        getter = getattr(type(value), "__getstate__", None)
        if getter is None or getter is getattr(object, "__getstate__", None):
            return None
        return (value.__getstate__(),)

    def _reduced(self, value: Any) -> bytes:
        try:
            reduced = value.__reduce_ex__(2)
        except Exception as error:
            raise self.refused(value, f"it has no state to go by ({error})") from None
        if isinstance(reduced, str):
            return self.named(b"red", type(value), self.encode(reduced))
        bare = reduced[0] is getattr(sys.modules.get("copyreg"), "__newobj__", None) and len(reduced[1]) == 1
        rest = [part for part in reduced[2:] if part is not None]
        if bare and not rest:
            raise self.refused(value, "its only identity is its address in this process")
        parts = [list(part) if hasattr(part, "__next__") else part for part in rest]
        return self.named(b"red", type(value), self.encode(reduced[0]), self.at("", reduced[1]), self.at("", parts))


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object in its ``__dict__`` and its slots; None when it has neither."""
    slots = [s for cls in type(value).__mro__ for s in _slots(cls) if hasattr(value, s)]
    own = getattr(value, "__dict__", None)
    if not slots and not own:
        return None
    return {**{name: getattr(value, name) for name in slots}, **(own or {})}


def _slots(cls: type) -> list[str]:
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    mangled = [f"_{cls.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n in names]
    return [name for name in mangled if name not in ("__dict__", "__weakref__")]


# --- plain values ----------------------------------------------------------------------------------------------------
def _float(value: float) -> bytes:
    # All NaNs are one value; -0.0 and 0.0 are two.
    return b"f8:" + (b"nan-----" if value != value else struct.pack("<d", value))


def _text(value: str) -> bytes:
    return _written(b"s", value.encode("utf-8", "surrogatepass"))


_SIMPLE: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N0:",
    bool: lambda value: b"b1:1" if value else b"b1:0",
    int: lambda value: _written(b"i", b"%x" % value if value >= 0 else b"-%x" % -value),
    float: _float,
    str: _text,
    bytes: lambda value: _written(b"y", value),
    bytearray: lambda value: _written(b"Y", bytes(value)),
    complex: lambda value: _written(b"c", _float(value.real) + _float(value.imag)),
    type(...): lambda value: b"E0:",
    type(NotImplemented): lambda value: b"I0:",
    decimal.Decimal: lambda value: _written(b"dec", str(value).encode()),
    uuid.UUID: lambda value: _written(b"uuid", value.bytes),
}


def _sequence(tag: bytes) -> Callable[[_Encoder, Any], bytes]:
    return lambda encoder, value: encoder.items(tag, value)


_CONTAINERS: dict[type, Callable[[_Encoder, Any], bytes]] = {
    tuple: _sequence(b"t"),
    list: _sequence(b"l"),
    dict: lambda encoder, value: encoder.mapping(b"d", value),
    set: lambda encoder, value: encoder.unordered(b"S", value),
    frozenset: lambda encoder, value: encoder.unordered(b"F", value),
    range: lambda encoder, value: encoder.items(b"r", (value.start, value.stop, value.step)),
    slice: lambda encoder, value: encoder.items(b"sl", (value.start, value.stop, value.step)),
    memoryview: lambda e, value: e.items(b"mv", (value.format, value.shape, value.tobytes())),
    types.MappingProxyType: lambda encoder, value: encoder.mapping(b"mp", value),
    fractions.Fraction: lambda e, value: e.items(b"frac", (value.numerator, value.denominator)),
    re.Pattern: lambda encoder, value: encoder.items(b"re", (value.pattern, value.flags)),
    datetime.date: lambda e, value: e.items(b"date", (value.isoformat(),)),
    datetime.timedelta: lambda e, value: e.items(b"td", (value.days, value.seconds, value.microseconds)),
    datetime.timezone: lambda e, value: e.items(b"tz", (value.utcoffset(None), value.tzname(None))),
    datetime.datetime: lambda e, value: e.items(b"dt", _moment(value)),
    datetime.time: lambda e, value: e.items(b"tm", _moment(value)),
}


def _moment(value: datetime.datetime | datetime.time) -> tuple[Any, ...]:
    zone = value.tzinfo
    name = getattr(zone, "key", None) or (None if zone is None else zone.tzname(None))
    return value.replace(tzinfo=None).isoformat(), value.fold, value.utcoffset(), name


_BUILTIN_BASES = (bool, int, float, complex, str, bytes, bytearray, dict, list, tuple, set, frozenset)
_PLAIN_VALUE: dict[type, Callable[[Any], Any]] = {
    bool: bool,
    int: lambda v: int.__int__(v),
    float: lambda v: float.__float__(v),
    complex: lambda v: complex(v.real, v.imag),
    str: lambda v: str.__str__(v),
    bytes: lambda v: bytes(memoryview(v)),
    bytearray: lambda v: bytearray(memoryview(v)),
    # An ordered mapping's class says whether order counts; OrderedDict compares with order.
    dict: lambda v: tuple(v.items()) if type(v).__name__ == "OrderedDict" else dict(v.items()),
    list: lambda v: list(list.__iter__(v)),
    tuple: lambda v: tuple(tuple.__iter__(v)),
    set: lambda v: set(set.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
}


# --- families --------------------------------------------------------------------------------------------------------
def _is_from(package: str) -> Callable[[Any], bool]:
    def matches(value: Any) -> bool:
        return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__[:-1])

    return matches


def _dataclass(encoder: _Encoder, value: Any) -> bytes:
    """A dataclass by class and fields; fields that are None are left out, so adding one keeps old hashes."""
    parts = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name, None)
        if held is not None:
            parts.append(encoder.encode(field.name) + encoder.at(f".{field.name}", held))
    names = {field.name for field in dataclasses.fields(value)}
    extra = {name: v for name, v in (getattr(value, "__dict__", None) or {}).items() if name not in names}
    cached = {n for n in extra if isinstance(getattr(type(value), n, None), functools.cached_property)}
    extra = {name: v for name, v in extra.items() if name not in cached}
    return encoder.named(b"dc", type(value), _written(b"fields", b"".join(parts)), encoder.mapping(b"d", extra))


def _numpy(encoder: _Encoder, value: Any) -> bytes:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.dtype):
        return encoder.items(b"npdt", (str(value), value.descr if value.fields else ()))
    if isinstance(value, numpy.ndarray):
        if value.dtype.hasobject:
            content = encoder.items(b"l", value.ravel().tolist())
        else:
            # Big-endian and little-endian arrays differ by dtype; the bytes are those of the array as it is.
            content = _written(b"y", numpy.ascontiguousarray(value).tobytes())
        mask = encoder.at(".mask", numpy.ma.getmaskarray(value)) if isinstance(value, numpy.ma.MaskedArray) else b""
        return encoder.named(
            b"np", type(value), encoder.at("", value.dtype), encoder.at("", value.shape), content, mask
        )
    if isinstance(value, numpy.generic):
        return _written(b"nps", encoder.at("", value.dtype) + encoder.at("", value.tobytes()))
    if isinstance(value, numpy.random.Generator):
        return encoder.named(b"npr", type(value), encoder.at("", value.bit_generator.state))
    if isinstance(value, numpy.random.RandomState):
        return encoder.named(b"npr", type(value), encoder.at("", value.get_state(legacy=False)))
    if isinstance(value, numpy.random.BitGenerator):
        return encoder.named(b"npr", type(value), encoder.at("", value.state))
    return encoder.by_state(value)


def _pandas(encoder: _Encoder, value: Any) -> bytes:
    """Tables and columns whole: labels, types, values."""
    pandas = sys.modules["pandas"]
    if value is pandas.NA or value is pandas.NaT:
        return _written(b"pdn", type(value).__name__.encode())
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


def _function(encoder: _Encoder, value: Any) -> bytes:
    """A function by module, name, code, defaults and what its closure holds."""
    parts = [_text(value.__module__ or ""), _text(value.__qualname__), _text(code_identity.of_function(value))]
    if not code_identity.is_installed(value):
        parts.append(encoder.at(".__defaults__", value.__defaults__))
        parts.append(encoder.at(".__kwdefaults__", value.__kwdefaults__))
        for name, held in code_identity.reached_values(value).items():
            if id(held) in encoder.open:
                parts.append(_written(b"rec", name.encode()))  # a function that calls itself
            else:
                parts.append(_text(name) + encoder.at(f".{name}", held))
    return _written(b"fn", b"".join(parts))


def _partial(encoder: _Encoder, value: Any) -> bytes:
    parts = (encoder.at(".func", value.func), encoder.at(".args", value.args), encoder.at(".keywords", value.keywords))
    return encoder.named(b"pa", type(value), *parts)


def _class(encoder: _Encoder, value: Any) -> bytes:
    parts = [_text(value.__module__), _text(value.__qualname__), _text(code_identity.of_class(value))]
    return _written(b"cl", b"".join(parts))


def _bound(encoder: _Encoder, value: Any) -> bytes:
    return _written(b"bm", encoder.at(".__self__", value.__self__) + encoder.at(".__func__", value.__func__))


def _builtin_function(encoder: _Encoder, value: Any) -> bytes:
    owner = getattr(value, "__self__", None)
    bound = b"" if owner is None or isinstance(owner, types.ModuleType) else encoder.at(".__self__", owner)
    return _written(b"bf", _text(getattr(value, "__module__", None) or "") + _text(value.__qualname__) + bound)


def _wrapped(encoder: _Encoder, value: Any) -> bytes:
    return _written(b"wr", _text(type(value).__qualname__) + encoder.at(".__wrapped__", value.__wrapped__))


def _enum(encoder: _Encoder, value: Any) -> bytes:
    return encoder.named(b"en", type(value), _text(value.name or ""), encoder.at(".value", value.value))


_REFUSED: tuple[type, ...] = (types.GeneratorType, types.CoroutineType, types.FrameType, types.TracebackType)

_FAMILIES: list[tuple[Callable[[Any], bool], Callable[[_Encoder, Any], bytes]]] = [
    (lambda v: isinstance(v, enum.Enum), _enum),
    (lambda v: isinstance(v, type), _class),
    (lambda v: isinstance(v, types.FunctionType), _function),
    (lambda v: isinstance(v, types.MethodType), _bound),
    (lambda v: isinstance(v, types.BuiltinFunctionType | types.MethodDescriptorType), _builtin_function),
    (lambda v: isinstance(v, functools.partial), _partial),
    (lambda v: isinstance(v, staticmethod | classmethod) or type(v).__name__ == "_lru_cache_wrapper", _wrapped),
    (lambda v: isinstance(v, operator.itemgetter | operator.attrgetter), lambda e, v: e.items(b"op", v.__reduce__())),
    (lambda v: isinstance(v, types.ModuleType), lambda e, v: _written(b"mod", _text(v.__name__))),
    (lambda v: isinstance(v, types.GenericAlias), lambda e, v: e.items(b"ga", (v.__origin__, v.__args__))),
    (lambda v: isinstance(v, pathlib.PurePath), lambda e, v: _written(b"path", v.as_posix().encode())),
    (_is_from("numpy"), _numpy),
    (_is_from("pandas"), _pandas),
    (dataclasses.is_dataclass, _dataclass),
    (lambda v: isinstance(v, _BUILTIN_BASES), lambda e, v: e.builtin_subclass(v)),
]
