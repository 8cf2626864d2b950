"""Artifacts as displays show them: a short text about the value, and where it is stored."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curidask.core.graph import ArtifactRef
from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.preview import preview

if TYPE_CHECKING:
    from curidask.record import Record
    from curidask.store.manifest import Manifest

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
    def stored(cls, record: Any, name: str, manifest: Manifest) -> ArtifactRepresentation:
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


def represent(record: Record, name: str) -> ArtifactRepresentation:
    """Represent what a record's state holds under a name, without computing or loading anything that is stored."""
    held = record.state.raw(name)
    if not isinstance(held, ArtifactRef):
        return ArtifactRepresentation(record, name, held)
    manager = record.manager
    stem = manager.graph[held.task].stems[held.index]
    manifest = manager.store.manifest(stem) if stem is not None else None
    if manifest is not None:
        return ArtifactRepresentation.stored(record, name, manifest)
    if manager.reader.is_available(held) and (manager.live or record.state.is_loaded(name)):
        return ArtifactRepresentation(record, name, record.state[name])
    return ArtifactRepresentation(record, name, None, {"preview": NOT_THERE})
