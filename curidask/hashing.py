"""Digests over canonical encodings: the identity of parameter sets, arguments and code."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Callable
from typing import Any

from curidask.core import canonical_types
from curidask.core.canonical import Encoder
from curidask.core.hash_fields import REPRESENTED, HashedField, has_fields, hashed_fields, is_parameter_set
from curidask.core.keywords import described, keywords
from curidask.errors import ParameterError


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
    encoder = Encoder(where, canonical_types.encoding_of)
    try:
        return encoder.encode(value)
    except RecursionError:  # the caller was deep in a recursion already
        encoder.path = [where]
        raise encoder.refused(value, "it is nested too deeply") from None


def hash_fields_of(value: Any, *, where: str) -> str:
    """The identity of the fields of a value, whatever its class: 32 hexadecimal digits.

    Raises
    ------
    UnstableHashError, ParameterError
    """
    encoder = Encoder(where, canonical_types.encoding_of)
    fields = {field.name: field.value for field in hashed_fields(value)}
    return hashlib.sha256(b"params" + encoder.parts(fields, dot="")).hexdigest()[:32]


@keywords()
def register_hash_representation(
    cls: type, representation: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]] | Callable[[Any], Any]:
    """Say what stands in hashes for the objects of a class that is not yours, and of its subclasses.

    Call it where the parameters are defined, before anything is hashed. A class of your own says it with a method
    ``__curidask_hash__(self)``.

    Parameters
    ----------
    cls : type
        The class.
    representation : callable, optional
        Takes an object and returns plain data that is equal exactly for equal objects. Without it, a decorator for
        such a function.

    Returns
    -------
    callable
        The function, or the decorator.

    Raises
    ------
    ParameterError
        For anything else than a class and a function.

    Examples
    --------
    >>> @register_hash_representation(torch.device)
    ... def _(device):
    ...     return str(device)
    """
    if representation is None:
        return functools.partial(register_hash_representation, cls)
    if not isinstance(cls, type) or not callable(representation):
        raise ParameterError(
            f"register_hash_representation() was given {cls!r} and {representation!r}.",
            fix="give a class, and a function that takes an object of it and returns plain data",
        )
    canonical_types.register(cls, representation)
    return representation


def set_hash_functions(*functions: dict[str, Callable[[Any, Any], Any] | None], **by_name: Any) -> Any:
    """Give a dataclass its ``hash_representations``: write it where the field is declared.

    Parameters
    ----------
    *functions : dict
        At most one: field name to a function ``(self, value) -> plain data``, or to None to leave the field out.
    **by_name : callable or None
        The same as keywords; they come on top.

    Returns
    -------
    dataclasses.Field

    Raises
    ------
    ParameterError
        For anything else than functions and None. Names are checked when a set is hashed.

    Examples
    --------
    >>> @dataclass
    ... class Params(ExperimentParameters):
    ...     model: Any = None
    ...     n_threads: int = 4
    ...     hash_representations: dict = set_hash_functions(model=lambda self, model: model.name, n_threads=None)
    """
    given = functions[0] if functions else {}
    if len(functions) > 1 or not isinstance(given, dict):
        raise ParameterError(
            "set_hash_functions() takes one dict at most, and keywords.",
            fix="write set_hash_functions({'field': function}) or set_hash_functions(field=function)",
        )
    representations = {**given, **by_name}
    wrong = next(
        (name for name, function in representations.items() if not (function is None or callable(function))), ""
    )
    if wrong:
        raise ParameterError(
            f"The hash function of {wrong!r} is {representations[wrong]!r}.",
            where="set_hash_functions()",
            fix="give a function `(self, value) -> plain data`, or None to leave the field out of the hash",
        )
    return dataclasses.field(default_factory=lambda: dict(representations), repr=False, compare=False, kw_only=True)


@keywords()
def hash_param_set(
    param_set: Any, store_in_registry: bool = False, registry_path: str | None = None, dry: bool = False
) -> Any:
    """The hash of a parameter set.

    Parameters
    ----------
    param_set : ExperimentParameters
    store_in_registry, registry_path
        Without effect unless both are given, and then refused: runs put their sets into the registry themselves.
    dry : bool
        Give what enters the hash instead; see `ExperimentParameters.params_hash`.

    Raises
    ------
    ParameterError
        When the set is to be put into a registry.
    """
    if store_in_registry and registry_path is not None and not dry:
        raise ParameterError(
            "A parameter set cannot be put into a registry by hand.",
            where="hash_param_set()",
            fix="leave `store_in_registry` out: the runs that use a set put it there, and "
            "`experiment NAME --print-params HASH` finds it",
        )
    if isinstance(param_set, type) or not is_parameter_set(param_set):
        raise _no_param_set(param_set, "hash_param_set()")
    return param_set.params_hash(dry)


def _no_param_set(value: object, call: str) -> ParameterError:
    return ParameterError(
        f"`param_set` of {call} is {described(value)}, not a parameter set.",
        where=call,
        fix="give an instance of a dataclass that inherits from ExperimentParameters",
    )


@keywords(param_name="name")
def get_parameter_hash_value(param_set: Any, name: str) -> tuple[str, Any]:
    """What enters the hash of a parameter set for one field.

    Parameters
    ----------
    param_set : ExperimentParameters or other dataclass
    name : str
        The field. (`param_name` is a synonym.)

    Returns
    -------
    tuple of str and object
        How it comes about, and what it is: what a function of ``hash_representations`` returned, the same of each field
        for a dataclass, the qualified name of a function or class, else the value as a text; None when nothing enters.

    Raises
    ------
    UnstableHashError
        When the value has no stable identity.
    ParameterError
        When there is no such field.
    """
    values = get_param_set_hash_values(param_set)
    if name not in values:
        near = difflib.get_close_matches(name, values, n=1)
        raise ParameterError(
            f"There is no field {name!r}.",
            where=type(param_set).__name__,
            fix=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(values) or 'none'}",
        )
    return values[name]


@keywords()
def get_param_set_hash_values(param_set: Any) -> dict[str, tuple[str, Any]]:
    """What enters the hash of a parameter set, for every field; see `get_parameter_hash_value`."""
    if isinstance(param_set, type) or not has_fields(type(param_set)):
        raise _no_param_set(param_set, "get_param_set_hash_values()")
    return {field.name: (field.mechanism, _representation(field)) for field in hashed_fields(param_set)}


def _representation(field: HashedField) -> Any:
    value = field.value
    if value is None:
        return None
    encode(value, where=field.name)
    if field.how == REPRESENTED:
        return value
    if has_fields(type(value)):
        return get_param_set_hash_values(value)
    return getattr(value, "__qualname__", None) or repr(value)
