"""Pickles in caches name it here."""

from curidask.caching.code_pickler import _made_view as _made_view
