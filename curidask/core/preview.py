"""Short texts about values, and parameter sets as plain values, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from curidask.core.hash_fields import field_values, has_fields
from curidask.core.redaction import hide_secrets

HIDDEN = ("hash", "hash_representations", "overwrite")
LONGEST = 200


def preview(value: Any, limit: int = 80) -> str:
    """A short text about a value: type, shape or length, and how it begins; its type alone where these raise."""
    try:
        return _preview(value, limit)
    except Exception:
        return type(value).__name__


def _preview(value: Any, limit: int) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} of shape {shape}"
    if isinstance(value, bool | int | float | complex | type(None)):
        return repr(value)
    if isinstance(value, str | bytes):
        value = hide_secrets(value) if isinstance(value, str) else value
        return repr(value if len(value) <= limit else value[:limit]) + ("" if len(value) <= limit else "…")
    return f"{kind} of length {len(value)}"


def describe_params(params: Any, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The fields of a parameter set as plain JSON values, for people to read.

    Parameters
    ----------
    params : ExperimentParameters or None
    names : sequence of str, optional
        Only those, with dots for parts of fields.
    """
    if params is None:
        return {}
    if names is not None:
        return {name: _plain(reduce(_part, name.split("."), params)) for name in names}
    return {name: _plain(value) for name, value in field_values(params).items() if name not in HIDDEN}


def _part(value: Any, name: str) -> Any:
    return getattr(value, name, None)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list | tuple):
        return _plain_list(value)
    if has_fields(type(value)):
        return _fields_text(value)
    return getattr(value, "__qualname__", None) or preview(value)


def _fields_text(value: Any, depth: int = 3) -> str:
    """A dataclass as its ``repr`` would be, shortened."""
    inner = (
        f"{name}={_fields_text(held, depth - 1) if depth and has_fields(type(held)) else _plain(held)}"
        for name, held in field_values(value).items()
        if name not in HIDDEN
    )
    text = f"{type(value).__qualname__}({', '.join(inner)})" if depth else type(value).__qualname__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _plain_list(value: Sequence[Any]) -> Any:
    return [_plain(item) for item in value] if len(value) <= 20 else preview(value)
