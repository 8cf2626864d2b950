"""What places for objects say of the objects in them."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """An object in a listing.

    Attributes
    ----------
    modified : float
        When it was written, in seconds since 1970 by the clock of the place; 0 where the place does not say.
    tag : str
        Another one when the object was written anew; empty where the place does not say.
    """

    name: str
    size_bytes: int
    modified: float
    tag: str = ""


def plain_tag(tag: object) -> str:
    """A tag of a service without the quotes in which it comes."""
    return tag.strip('"').lower() if isinstance(tag, str) else ""


class Stored(NamedTuple):
    """What went into a place or came out of it: its size in bytes and its SHA-256 (64 hex digits)."""

    size_bytes: int
    sha256: str
