"""Kinds of clusters: what is told of each, and where it is. Other packages add theirs by an entry point.

A kind is an object of a subclass of `ClusterKind`, in one module that also opens such clusters. It is ours by `OURS`,
or another package's by an entry point of the group `curidask.clusters`, such as ``mine = "package.module:KIND"``.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from curidask.errors import ConfigurationError

OURS = {
    "local": "curidask.clusters.local:KIND",
    "address": "curidask.clusters.existing:KIND",
    "slurm": "curidask.clusters.jobqueue:SLURM",
    "pbs": "curidask.clusters.jobqueue:PBS",
    "sge": "curidask.clusters.jobqueue:SGE",
    "lsf": "curidask.clusters.jobqueue:LSF",
    "kubernetes": "curidask.clusters.kubernetes:KIND",
}
CUSTOM = "module:Class"
"""How any class of dask's is named that makes a cluster."""

CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
ENTRY_POINTS = "curidask.clusters"


class ClusterKind:
    """A kind of cluster; a subclass says in attributes how it differs from one that others queue for.

    Attributes
    ----------
    wait_seconds : float
        How long to wait for workers unless it is set. Where others use the same machines, a job may stand in a queue.
    has_address : bool
        Whether it runs already: it takes an address, and neither numbers of workers nor options.
    has_driver : bool
        Whether ``--detach`` submits the run itself as a job there, which a table `driver` describes.
    replaces_workers : bool
        Whether it starts workers again by itself that are gone, where their number is fixed.
    """

    wait_seconds: ClassVar[float] = 600.0
    has_address: ClassVar[bool] = False
    has_driver: bool = False
    replaces_workers: ClassVar[bool] = False

    def opener(self, settings: Any, folder: Path) -> Callable[[], AbstractContextManager[Any]]:
        """What opens such a cluster, anew each time it is called.

        Parameters
        ----------
        settings : ClusterSettings
        folder : Path
            Where it may write logs.
        """
        raise NotImplementedError


@functools.cache
def _of_others() -> Mapping[str, Any]:
    from importlib import metadata

    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def kind_names() -> list[str]:
    """The kinds that there are."""
    return [*OURS, *(name for name in _of_others() if name not in OURS)]


def kind_of(name: str) -> ClusterKind | None:
    """A kind by its name; None for one that is not there.

    Raises
    ------
    ConfigurationError
        For one of another package that cannot be used.
    """
    if name in OURS:
        return _loaded(OURS[name])
    if CLASS.fullmatch(name):
        return _loaded("curidask.clusters.managed:KIND")
    point = _of_others().get(name)
    if point is None:
        return None
    try:
        found = point.load()
    except Exception as error:
        why = f"cannot be loaded: {type(error).__name__}: {error}"
    else:
        if isinstance(found, ClusterKind):
            return found
        why = "is no object of a subclass of curidask.clusters.kinds.ClusterKind"
    raise ConfigurationError(
        f"The kind {name!r} of cluster, {point.value}, {why}.",
        where=f"the entry points {ENTRY_POINTS!r} of installed packages",
        fix="install a version of that package that fits, or use another kind",
    )


def _loaded(place: str) -> ClusterKind:
    module, _, name = place.partition(":")
    kind: ClusterKind = getattr(importlib.import_module(module), name)
    return kind
