"""Which contents artifacts have and were made from, kept in a few objects, so that a plan need not ask each artifact.

The manifest of an artifact says it. A row of the index repeats that, together with how the manifest looked in a listing
of its place (its tag): while a listing shows the same tag, the row holds, whoever wrote what meanwhile. What has no row
that holds is read from its manifest, and gets one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curidask.errors import CacheError
from curidask.store.manifests import Manifest
from curidask.store.names import LINEAGE, safe_part
from curidask.store.objects import ObjectStore
from curidask.store.untrusted import LARGE_BYTES, is_text, parse_object

SHORT = 16
"""Digits of keys and digests that tell them apart."""

MOST_OBJECTS = 4
"""With so many objects a place's index is written anew as one."""


class Lineage(NamedTuple):
    """What an artifact holds and what it was made from, in the first digits.

    Attributes
    ----------
    content : str
        Digest of its content; empty where it is not known.
    made_from : mapping of str to str
        Key to content of what it was made from.
    """

    content: str
    made_from: Mapping[str, str]

    @classmethod
    def of(cls, content: str, made_from: Mapping[str, str]) -> Lineage:
        """Out of whole digests."""
        return cls(content[:SHORT], {key[:SHORT]: digest[:SHORT] for key, digest in made_from.items()})

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Lineage:
        """What a manifest says."""
        return cls.of(manifest.content, manifest.made_from)


UNKNOWN = Lineage("", {})

Row = tuple[str, Lineage]
"""The tag of a manifest, and what it says."""


@dataclass(slots=True)
class LineageIndex:
    """The index of a session's artifacts in one place.

    Parameters
    ----------
    objects : ObjectStore
    prefix : str
        How the names of the artifacts begin.
    """

    objects: ObjectStore
    prefix: str
    _rows: dict[str, Row] = field(default_factory=dict)
    _names: list[str] | None = None

    def rows(self) -> Mapping[str, Row]:
        """What is kept, by store name; read once."""
        if self._names is None:
            self._names = []
            with suppress(CacheError):  # then manifests tell
                self._names = sorted(self.objects.list(self._folder))
                found = self.objects.read_many(self._names)
                for name in self._names:
                    with suppress(ValueError):
                        self._rows.update(_decoded(found.get(name, b"")))
        return self._rows

    def add(self, rows: Mapping[str, Row], gone: Collection[str] = ()) -> None:
        """Keep more, and forget what is gone; one object more, or all as one where there were many.

        Race: two runs write all as one and remove what was there: both have it, and of what a third adds meanwhile they
        remove nothing, since they remove what they have read.
        """
        before = self.rows()
        new = {stem: row for stem, row in rows.items() if before.get(stem) != row}
        if not new:
            return
        old = self._names or []
        self._rows |= new
        whole = len(old) >= MOST_OBJECTS
        kept = {stem: row for stem, row in self._rows.items() if stem not in gone} if whole else new
        name = f"{self._folder}{time.time_ns():020d}-{os.urandom(4).hex()}.json"
        self.objects.write(name, _encoded(kept))
        if whole:
            self.objects.remove(old)
        self._names = [name] if whole else [*old, name]

    @property
    def _folder(self) -> str:
        return f"{LINEAGE}{safe_part(self.prefix)}/"


def _encoded(rows: Mapping[str, Row]) -> bytes:
    written = {stem: [tag, known.content, dict(known.made_from)] for stem, (tag, known) in rows.items()}
    return json.dumps({"version": 1, "rows": written}, separators=(",", ":")).encode()


def _decoded(data: bytes) -> dict[str, Row]:
    rows = parse_object(data, LARGE_BYTES).get("rows")
    if not isinstance(rows, dict) or not all(map(_is_row, rows.values())):
        raise ValueError("it has another form")
    return {stem: (tag, Lineage(content, made_from)) for stem, (tag, content, made_from) in rows.items()}


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and is_text(row[0])
        and is_text(row[1])
        and isinstance(row[2], dict)
        and all(map(is_text, row[2].values()))
    )
