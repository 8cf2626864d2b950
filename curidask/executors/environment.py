"""Pickles in caches name it here."""

from curidask.execution.base import ManagerFacts as ManagerFacts
