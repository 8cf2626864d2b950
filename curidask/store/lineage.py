"""Which contents artifacts have and were made from, kept in one object, so that a plan need not ask each artifact.

The manifest of an artifact says it. A row of the index repeats that, together with how the manifest looked in a listing
of its place (its tag): while a listing shows the same tag, the row holds, whoever wrote what meanwhile. What has no row
that holds is read from its manifest, and gets one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from curidask.core.artifact_names import LINEAGE, safe_part
from curidask.errors import CacheError
from curidask.store.backends.base import ObjectStore
from curidask.store.manifest import LARGE_BYTES, Manifest, is_text, parse_object

SHORT = 16
"""Digits of keys and digests that tell them apart."""


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
    """The index of a session's artifacts in one place: one object, so that a plan asks for it once.

    Parameters
    ----------
    prefix : str
        How the names of the artifacts begin.
    """

    objects: ObjectStore
    prefix: str
    _rows: dict[str, Row] | None = None

    def rows(self) -> Mapping[str, Row]:
        """What is kept, by store name; read once."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def add(self, rows: Mapping[str, Row], gone: Collection[str] = ()) -> None:
        """Keep more, and forget what is gone.

        Race: another run adds to the index between the reading and the writing here. What it has added is lost then;
        the next plan reads those manifests, and adds them again.
        """
        before = self._read()
        if all(before.get(stem) == row for stem, row in rows.items()):
            return
        self._rows = {stem: row for stem, row in {**before, **rows}.items() if stem not in gone}
        self.objects.write(self._name, _encoded(self._rows))

    def _read(self) -> dict[str, Row]:
        with suppress(CacheError, ValueError, zlib.error):  # then manifests tell
            return _decoded(self.objects.read(self._name))
        return {}

    @property
    def _name(self) -> str:
        return f"{LINEAGE}{safe_part(self.prefix)}"


def _encoded(rows: Mapping[str, Row]) -> bytes:
    written = {stem: [tag, known.content, dict(known.made_from)] for stem, (tag, known) in rows.items()}
    return zlib.compress(json.dumps({"version": 1, "rows": written}, separators=(",", ":")).encode(), 1)


def _decoded(data: bytes) -> dict[str, Row]:
    text = zlib.decompressobj().decompress(data, LARGE_BYTES + 1)
    rows = parse_object(text, LARGE_BYTES).get("rows")
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
