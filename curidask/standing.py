"""Pickles in caches name it here."""

from curidask.core.code.code_locations import _held as _held
