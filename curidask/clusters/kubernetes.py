"""Workers as pods, through the dask operator of a Kubernetes cluster."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection, innermost
from curidask.clusters.kinds import ClusterKind
from curidask.clusters.managed import check_options, managed
from curidask.clusters.settings import ClusterSettings
from curidask.errors import ClusterError, ConfigurationError

FIX = "look at the pods with `kubectl get pods` and `kubectl describe pod`: the image, the quota, the operator"


@contextlib.contextmanager
def kubernetes(settings: ClusterSettings) -> Iterator[Connection]:
    """Create a ``DaskCluster`` for the run, and delete it afterwards.

    The driver reaches the scheduler through a port that the Kubernetes API forwards, or directly when it is a pod.

    Parameters
    ----------
    settings : ClusterSettings
        Its options go to `dask_kubernetes.operator.KubeCluster`; ``name`` is the cluster's by default.

    Raises
    ------
    ConfigurationError, ClusterError
        See `managed`; also when no Kubernetes cluster answers, or the scheduler's pod is not up within `wait_seconds`.
    """
    cluster_class = _bounded(_load_class(settings), settings)
    check_options(settings, cluster_class.__init__)
    options = {"name": f"{settings.name}-{{uuid}}", "quiet": True, **settings.options}
    options["n_workers"] = settings.at_least
    with managed(lambda: cluster_class(**options), settings, fix=FIX) as connection:
        yield connection


def _load_class(settings: ClusterSettings) -> Any:
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise ConfigurationError(
            "A cluster of kind 'kubernetes' needs the package dask-kubernetes.",
            where=settings.where,
            fix="pip install 'curidask[kubernetes]'",
        ) from error
    return KubeCluster


def _bounded(cluster_class: Any, settings: ClusterSettings) -> Any:
    """The class with an end to its waiting: it waits for pods and services as long as they take."""

    class Bounded(cluster_class):  # type: ignore[misc]  # dask-kubernetes has no types
        async def _start(self) -> None:
            try:
                await asyncio.wait_for(super()._start(), settings.wait_seconds)
            except BaseException as error:
                with contextlib.suppress(Exception):
                    await self._close()
                self._instances.discard(self)  # else it is closed once more when the process ends
                if not isinstance(error, Exception):
                    raise
                in_time = not isinstance(error, TimeoutError)
                why = f": {innermost(error)}" if in_time else f" within {settings.wait_seconds:g} s."
                what = f"The cluster {settings.name!r} did not come up{why}"
                raise ClusterError(what, where=settings.where, fix=FIX) from error

    return Bounded


class _Kubernetes(ClusterKind):
    replaces_workers = True

    def opener(self, settings: ClusterSettings, folder: Path) -> Callable[[], AbstractContextManager[Connection]]:
        return functools.partial(kubernetes, settings)


KIND = _Kubernetes()
