"""How values are encoded that are identified in a way of their own: code, paths, enums, and what has fields."""

from __future__ import annotations

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

from curidask.core.canonical import BUILTIN_BASES, Encoder, Encoding, text, written
from curidask.core.canonical_packages import of_package
from curidask.core.code import code_identity
from curidask.core.code.class_identity import is_local_class, of_class
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
    parts = [text(code_identity.public_name(value)), text(code_identity.of_function(value))]
    if hasattr(value, "registry") and hasattr(value, "dispatch") and code_identity.is_wrapper(value):
        parts.append(encoder.mapping(b"d", value.registry))  # of functools.singledispatch, whose closure is its cache
    elif not code_identity.is_installed(value):
        parts.append(encoder.at(".__defaults__", value.__defaults__))
        parts.append(encoder.at(".__kwdefaults__", value.__kwdefaults__))
        reached = code_identity.reached_values(value).items()
        attributes = ((f"attribute {name}", held) for name, held in sorted(code_identity.attributes_of(value).items()))
        parts += [text(name) + encoder.inner(f".{name}", held) for name, held in (*reached, *attributes)]
    return written(b"fn", b"".join(parts))


def _class(encoder: Encoder, value: Any) -> bytes:
    held = encoder.held_by(value) if is_local_class(value) else b""
    return written(b"cl", text(code_identity.public_name(value)) + text(of_class(value)) + held)


def _bound(encoder: Encoder, value: Any) -> bytes:
    return written(b"bm", encoder.inner(".__self__", value.__self__) + encoder.at(".__func__", value.__func__))


def _builtin_function(encoder: Encoder, value: Any) -> bytes:
    owner = getattr(value, "__self__", None)
    bound = b"" if owner is None or isinstance(owner, types.ModuleType) else encoder.inner(".__self__", owner)
    module = getattr(value, "__module__", None) or ""
    return written(b"bf", text(code_identity.public_module(module)) + text(value.__qualname__) + bound)


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
    if isinstance(name, str) and code_identity.is_installed(value):
        found: Any = sys.modules.get(value.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is value:
            return written(b"bf", text(code_identity.public_name(value)))
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
