"""Pickles in caches name it here."""

from curidask.execution.stage_context import _found_again as _found_again
