"""Artifacts of a record's state as displays show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curidask.executors.represented import ArtifactRepresentation
from curidask.graph import ArtifactRef

__all__ = ["ArtifactRepresentation", "represent"]

if TYPE_CHECKING:
    from curidask.record import Record

NOT_THERE = "not computed yet"


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
