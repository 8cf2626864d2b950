"""A canonical, typed encoding: what is plain, what holds other values, and objects by their state.

Every value is written as a tag for its type, a length and its content, and containers nest such writings, so two
different values can never be written alike. Nothing that differs between processes or versions of Python is used: no
``repr``, no ``hash()``, no pickle, no address. What has no identity but an address is refused by name.
"""

from __future__ import annotations

import collections
import copyreg
import datetime
import decimal
import fractions
import re
import struct
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from curidask.core.code.classes import held_by, is_local_class
from curidask.core.code.identity import is_installed, public_name
from curidask.core.hash_fields import is_memo
from curidask.errors import UnstableHashError

MAX_DEPTH = 100
"""Containers within containers at most; deeper ones would end in Python's own recursion limit."""


def written(tag: bytes, content: bytes) -> bytes:
    """A content with its type and its length."""
    return b"%b%d:%b" % (tag, len(content), content)


Encoding = Callable[["Encoder", Any], bytes]
"""How the values of a class are encoded."""


class Encoder:
    """One pass over a value; remembers where it is, for errors, and which containers it is in, for cycles.

    Parameters
    ----------
    where : str
        What the value is, for errors.
    find : callable
        Gives the encoding of a class that is neither plain nor a built-in container.

    Attributes
    ----------
    path : list of str
        The way to the part that is being encoded.
    open : dict of int to int
        Address and depth of each container that it is in.
    classes : list of type
        The classes whose own contents it is in.
    """

    def __init__(self, where: str, find: Callable[[type], Encoding]) -> None:
        self.path = [where]
        self.find = find
        self.open: dict[int, int] = {}
        self.classes: list[type] = []

    def encode(self, value: Any) -> bytes:
        """The encoding of a value, or of a part of it."""
        cls = type(value)
        simple = _SIMPLE.get(cls)
        if simple is not None:
            return simple(value)
        if id(value) in self.open:
            raise self.refused(value, "it contains itself")
        if len(self.open) > MAX_DEPTH:
            raise self.refused(value, f"it is nested more than {MAX_DEPTH} levels deep")
        self.open[id(value)] = len(self.open)
        try:
            return (_CONTAINERS.get(cls) or self.find(cls))(self, value)
        finally:
            del self.open[id(value)]

    def at(self, step: str, value: Any) -> bytes:
        """Encode a part, with its place in the path while that goes on."""
        self.path.append(step)
        written = self.encode(value)
        self.path.pop()
        return written

    def inner(self, step: str, value: Any) -> bytes:
        """Encode a part of code: where it leads back to what it is in, by how far up that stands."""
        depth = self.open.get(id(value))
        return self.at(step, value) if depth is None else written(b"up", b"%d" % (len(self.open) - depth))

    def items(self, tag: bytes, values: Iterable[Any]) -> bytes:
        """Encode parts that have an order."""
        parts = []
        for index, value in enumerate(values):
            simple = _SIMPLE.get(type(value))
            parts.append(self.at(f"[{index}]", value) if simple is None else simple(value))
        return written(tag, b"".join(parts))

    def mapping(self, tag: bytes, mapping: Mapping[Any, Any]) -> bytes:
        """Encode what has keys, whatever their order."""
        pairs = []
        for key, value in mapping.items():
            simple = _SIMPLE.get(type(value))
            known = self.at(f"[{key!r:.40}]", value) if simple is None else simple(value)
            pairs.append(self.at("key", key) + known)
        return written(tag, b"".join(sorted(pairs)))

    def unordered(self, tag: bytes, values: Iterable[Any]) -> bytes:
        """Encode parts whose order does not count."""
        return written(tag, b"".join(sorted([self.at("element", value) for value in values])))

    def named(self, tag: bytes, cls: type, *parts: bytes) -> bytes:
        """Something identified by its class and parts."""
        name = class_name(cls)
        held = self.held_by(cls) if is_local_class(cls) else b""
        return written(tag, text(name) + held + b"".join(parts))

    def held_by(self, cls: type) -> bytes:
        """What a class that is not found by its name holds; nothing while that is what is being encoded."""
        if cls in self.classes:
            return b""
        self.classes.append(cls)
        held = {name: self.inner(f" (its class: {name})", value) for name, value in held_by(cls).items()}
        self.classes.pop()
        return b"".join(text(name) + known for name, known in held.items())

    def parts(self, named: Mapping[str, Any], dot: str = ".") -> bytes:
        """Encode attributes; those that are None are left out, so that adding one keeps old digests."""
        known = [text(name) + self.at(dot + name, named[name]) for name in sorted(named) if named[name] is not None]
        return written(b"parts", b"".join(known))

    def refused(self, value: Any, why: str, fix: str = "") -> UnstableHashError:
        """The error for a value without an identity."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return UnstableHashError(
            f"A {kind} cannot be hashed: {why}.",
            where="".join(self.path),
            fix=fix
            or "use plain data instead, or say what identifies it: in `hash_representations` for its field (a function "
            "`(self, value) -> plain data`, or None to leave the field out of the hash), in a method "
            "`__curidask_hash__` of its class, or with `hashing.register_hash_representation` for a class of others",
        )

    # --- what is neither plain nor a built-in container ----------------------------------------------------------
    def builtin_subclass(self, value: Any) -> bytes:
        """An instance of a subclass of a built-in: its class, what the built-in holds, its attributes."""
        base = next(base for base in BUILTIN_BASES if isinstance(value, base))
        attributes = own_attributes(value)
        if isinstance(value, collections.defaultdict):
            attributes["default_factory"] = value.default_factory
        return self.named(b"sub", type(value), self.encode(_PLAIN_VALUE[base](value)), self.parts(attributes))

    def by_state(self, value: Any, without: Iterable[str] = ()) -> bytes:
        """An object by its class and what it would be pickled as.

        Parameters
        ----------
        without : iterable of str
            Attributes that do not count.
        """
        make, args, *rest = self._reduced(value)
        if make is _NEW and len(args) == 1:
            args = ()
        state, *items = [*rest, None, None, None][:3]
        named = _named_state(state)
        known = self.at(".__getstate__()", state) if named is None else self.parts(counted(value, named, without))
        made = b"" if make is _NEW and not args else text(_maker(make)) + self._arguments(value, args)
        held = b"".join(self.items(b"l", list(part)) for part in items if part is not None)
        return self.named(b"obj", type(value), known, made, held)

    def _arguments(self, value: Any, args: tuple[Any, ...]) -> bytes:
        """What it is made with; its class there counts by name, as it does everywhere."""
        return self.items(b"t", [text(class_name(arg)) if arg is type(value) else arg for arg in args])

    def _reduced(self, value: Any) -> tuple[Any, ...]:
        cls = type(value)
        if cls is object:
            raise self.refused(value, "its only identity is its address in this process")
        if hasattr(cls, "__next__") and is_installed(cls):
            raise self.refused(value, "it can be read only once")
        # tblib, once it is loaded, has exceptions pickled with their tracebacks.
        reduce = None if issubclass(cls, BaseException) else copyreg.dispatch_table.get(cls)
        try:
            reduced = value.__reduce_ex__(2) if reduce is None else reduce(value)
        except Exception as error:
            raise self.refused(value, f"it has no state to go by ({error})") from None
        return (reduced, ()) if isinstance(reduced, str) else reduced


def _named_state(state: Any) -> dict[str, Any] | None:
    """The attributes in a state, those in slots too; None when the state is something else."""
    match state:
        case (dict() | None as attributes, dict() as slots):
            state = {**(attributes or {}), **slots}
    if state is None or (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
        return state or {}
    return None


_NEW = object().__reduce_ex__(2)[0]  # what an object is made with that has nothing but its class and state


def _maker(make: Any) -> str:
    return make if isinstance(make, str) else public_name(make)


_class_names: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def class_name(cls: type) -> str:
    """How a class counts for its instances: one of an installed package by module and name, one of a project by name.

    So a project's file can be moved and its classes get methods, without new digests for what is made of them.
    """
    name = _class_names.get(cls)
    if name is None:
        name = _class_names[cls] = public_name(cls)
    return name


def own_attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object in its ``__dict__`` and its slots that count."""
    slots = [s for cls in type(value).__mro__ for s in _slots(cls) if hasattr(value, s)]
    attributes = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}
    return counted(value, attributes)


def counted(value: Any, attributes: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """The attributes that count: not those that an attribute of the class fills in when it is first read."""
    cls = type(value)
    return {name: held for name, held in attributes.items() if name not in without and not is_memo(cls, name)}


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
    # OrderedDict compares with order.
    dict: lambda v: tuple(v.items()) if isinstance(v, collections.OrderedDict) else dict(v.items()),
    list: lambda v: list(list.__iter__(v)),
    tuple: lambda v: tuple(tuple.__iter__(v)),
    set: lambda v: set(set.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
}
