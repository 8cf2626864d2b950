"""Pickles in caches name it here."""

from curidask.execution.environment import ManagerFacts as ManagerFacts
