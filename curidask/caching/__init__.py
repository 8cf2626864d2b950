"""Cachers: how a value becomes files and back."""

from curidask.caching.base import Cacheable, Lazy
from curidask.caching.files import JsonCacher, PickleCacher

__all__ = ["Cacheable", "JsonCacher", "Lazy", "PickleCacher"]
