"""Digests over canonical encodings: the identity of parameter sets, arguments and code."""

from __future__ import annotations

import hashlib
from typing import Any

from curidask.encoding import Encoder
from curidask.encoding_families import FAMILIES


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
    encoder = Encoder(where, FAMILIES)
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
