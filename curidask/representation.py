"""Pickles in caches name it here."""

from curidask.core.preview import ArtifactRepresentation as ArtifactRepresentation
