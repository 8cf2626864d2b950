"""A short text about an artifact, for displays and for stages that ask what their record holds."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from curidask.executors.describe import preview
from curidask.store.manifests import Manifest


class ArtifactRepresentation:
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
        What the cache says of it; its ``preview`` is used instead of the value's own.

    Attributes
    ----------
    record, name, metadata
        As given.
    text : str
        About the value.
    cacher, file : str
        Class that wrote it and its store name, both empty for one that is not stored.
    """

    def __init__(self, record: Any, name: str, artifact: Any, metadata: Mapping[str, Any] | None = None) -> None:
        self.record = record
        self.name = name
        self.metadata = dict(metadata or {})
        self.text = str(self.metadata.get("preview") or preview(artifact))
        self.cacher = str(self.metadata.get("cacher", ""))
        self.file = str(self.metadata.get("stem", ""))

    @classmethod
    def stored(cls, record: Any, name: str, manifest: Manifest) -> ArtifactRepresentation:
        """That of a stored artifact, by its manifest."""
        facts = {"preview": manifest.preview, "cacher": manifest.cacher, "stem": manifest.stem, "run": manifest.run}
        return cls(record, name, None, facts)

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"

    def __repr__(self) -> str:
        return f"<{self.record.get_reference_name()} {self}>"

    def html_safe(self) -> str:
        """The text with all that means something in HTML escaped."""
        return html.escape(str(self))
