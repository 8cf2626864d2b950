"""Pickles in caches name it here."""

from curidask.core.representation import ArtifactRepresentation as ArtifactRepresentation
