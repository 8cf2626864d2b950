"""Keeps in the cache what the artifacts of a run were made from, so that the next plan sees it from listings."""

from __future__ import annotations

from collections.abc import Mapping

from curidask.core.graph import Task
from curidask.execution.base import Outcome
from curidask.execution.listener import Listener
from curidask.store.base import Store
from curidask.store.lineage import Lineage


class LineageKeeper(Listener):
    """Takes in what tasks made, and keeps it when the run ends; it listens to the runner.

    A run that is killed keeps nothing: then the next plan reads the manifests.

    Parameters
    ----------
    prefix : str
        How the names of the session's artifacts begin.
    """

    told_as = "the keeping of lineage"

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._made: dict[str, tuple[Lineage, Mapping[str, str]]] = {}

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Remember what was stored."""
        for info in outcome.artifacts:
            if info.tags:
                self._made[info.stem] = (Lineage.of(info.content, info.made_from), info.tags)

    def finish(self) -> None:
        """Keep it: one object for all."""
        made, self._made = self._made, {}
        self._store.keep_lineage(made, self._prefix)
