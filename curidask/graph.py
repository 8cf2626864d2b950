"""Pickles in caches name it here."""

from curidask.core.graph import RecordInfo as RecordInfo
