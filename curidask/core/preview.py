"""Short texts about values, and parameter sets as plain values, for people to read."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from curidask.core.hash_fields import field_values, has_fields
from curidask.core.keywords import CheckedCalls, keywords
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


# --- artifacts as displays show them: a short text about the value, and where it is stored ---------------------------
NOT_THERE = "not computed yet"


class ArtifactRepresentation(CheckedCalls):
    """A short text about an artifact in a record's state, with what is known of where it is stored.

    Parameters
    ----------
    record : Record
        The record that holds it, as the session or as a stage knows it.
    name : str
        Its name in the state.
    artifact : object
        The value; the text tells its type and shape or length, or the value itself where it is short.
    metadata : mapping, optional
        What the cache says of it; its ``preview`` is used where there is no value.
    cacher : Cacheable or str, optional
        What stores it; by default what the metadata name.

    Attributes
    ----------
    record, init_record, name, metadata
        As given.
    string, text : str
        About the value.
    cacher : object
        As given, or the name of the class; empty for an artifact that is not stored.
    file : str
        Its name in the store, empty for one that is not stored.
    """

    @keywords()
    def __init__(
        self, record: Any, name: str, artifact: Any, metadata: Mapping[str, Any] | None = None, cacher: Any = None
    ) -> None:
        self.record = self.init_record = record
        self.name = name
        self.metadata = dict(metadata or {})
        known = self.metadata.get("preview") if artifact is None else None
        self.string = self.text = str(known or preview(artifact))
        self.cacher = str(self.metadata.get("cacher", "")) if cacher is None else cacher
        self.file = str(self.metadata.get("stem", ""))

    @classmethod
    def stored(cls, record: Any, name: str, manifest: Any) -> ArtifactRepresentation:
        """That of a stored artifact, by its manifest."""
        facts = {"preview": manifest.preview, "cacher": manifest.cacher, "stem": manifest.stem, "run": manifest.run}
        return cls(record, name, None, facts)

    def __str__(self) -> str:
        return f"{self.name}: {self.string}"

    def __repr__(self) -> str:
        return f"<{self.record.get_reference_name()} {self}>"

    def html_safe(self) -> str:
        """The text with all that means something in HTML escaped."""
        return html.escape(str(self))
