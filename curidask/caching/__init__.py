"""Cachers: how values are written to files and read back."""

from __future__ import annotations

from curidask.caching.base import Cacheable, Lazy
from curidask.caching.files import JsonCacher, PickleCacher

__all__ = ["Cacheable", "JsonCacher", "Lazy", "PickleCacher"]
