"""A canonical, typed encoding: what is plain, what holds other values, and objects by their state.

Every value is written as a tag for its type, a length and its content, and containers nest such writings, so two
different values can never be written alike. Nothing that differs between processes is used: no ``repr``, no ``hash()``,
no pickle, no address. What has no identity but an address is refused by name.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
import struct
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from curidask.errors import UnstableHashError

MAX_DEPTH = 100
"""Containers within containers at most; deeper ones would end in Python's own recursion limit."""


def written(tag: bytes, content: bytes) -> bytes:
    """A content with its type and its length."""
    return b"%b%d:%b" % (tag, len(content), content)


Family = tuple[Callable[[Any], bool], Callable[["Encoder", Any], bytes]]
"""Which values it is about, and how they are encoded."""


class Encoder:
    """One pass over a value; remembers where it is, for errors, and which containers it is in, for cycles.

    Parameters
    ----------
    where : str
        What the value is, for errors.
    families : sequence of Family
        What is encoded in a way of its own beside plain values and built-in containers; the first that matches counts.

    Attributes
    ----------
    path : list of str
        The way to the part that is being encoded.
    open : set of int
        Addresses of what it is in.
    """

    def __init__(self, where: str, families: Sequence[Family]) -> None:
        self.path = [where]
        self.families = families
        self.open: set[int] = set()

    def encode(self, value: Any) -> bytes:
        """The encoding of a value, or of a part of it."""
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
        """Encode parts that have an order."""
        return written(tag, b"".join([self.at(f"[{i}]", value) for i, value in enumerate(values)]))

    def mapping(self, tag: bytes, mapping: Any) -> bytes:
        """Encode what has keys, whatever their order."""
        pairs = [self.at("key", key) + self.at(f"[{key!r:.40}]", value) for key, value in mapping.items()]
        return written(tag, b"".join(sorted(pairs)))

    def unordered(self, tag: bytes, values: Iterable[Any]) -> bytes:
        """Encode parts whose order does not count."""
        return written(tag, b"".join(sorted([self.at("element", value) for value in values])))

    def named(self, tag: bytes, cls: type, *parts: bytes) -> bytes:
        """Something identified by its class and parts."""
        return written(tag, self.encode(cls) + b"".join(parts))

    def refused(self, value: Any, why: str) -> UnstableHashError:
        """The error for a value without an identity."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return UnstableHashError(
            f"A {kind} cannot be hashed: {why}.",
            where="".join(self.path),
            fix="use plain data instead, or give the field an entry in `hash_representations`: a function "
            "`(self, value) -> plain data`, or None to leave the field out of the hash",
        )

    # --- what is neither plain nor a built-in container ----------------------------------------------------------
    def other(self, value: Any) -> bytes:
        """Encode what is neither plain nor a built-in container."""
        for matches, encoder in self.families:
            if matches(value):
                return encoder(self, value)
        return self.by_state(value)

    def builtin_subclass(self, value: Any) -> bytes:
        """An instance of a subclass of a built-in: its class, what the built-in holds, its attributes."""
        base = next(base for base in BUILTIN_BASES if isinstance(value, base))
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


def text(value: str) -> bytes:
    """The encoding of a text."""
    return written(b"s", value.encode("utf-8", "surrogatepass"))


_SIMPLE: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N0:",
    bool: lambda value: b"b1:1" if value else b"b1:0",
    int: lambda value: written(b"i", b"%x" % value if value >= 0 else b"-%x" % -value),
    float: _float,
    str: text,
    bytes: lambda value: written(b"y", value),
    bytearray: lambda value: written(b"Y", bytes(value)),
    complex: lambda value: written(b"c", _float(value.real) + _float(value.imag)),
    type(...): lambda value: b"E0:",
    type(NotImplemented): lambda value: b"I0:",
    decimal.Decimal: lambda value: written(b"dec", str(value).encode()),
    uuid.UUID: lambda value: written(b"uuid", value.bytes),
}


def _sequence(tag: bytes) -> Callable[[Encoder, Any], bytes]:
    return lambda encoder, value: encoder.items(tag, value)


_CONTAINERS: dict[type, Callable[[Encoder, Any], bytes]] = {
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


BUILTIN_BASES = (bool, int, float, complex, str, bytes, bytearray, dict, list, tuple, set, frozenset)
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
