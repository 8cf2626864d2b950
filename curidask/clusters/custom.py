"""Any class of dask's that makes a cluster, named as ``module:Class``."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from curidask.clusters.base import Connection
from curidask.clusters.managed import managed
from curidask.clusters.settings import ClusterSettings
from curidask.errors import ConfigurationError


@contextlib.contextmanager
def custom(settings: ClusterSettings) -> Iterator[Connection]:
    """Make a cluster of the class that `kind` names, with the options as its arguments.

    Raises
    ------
    ConfigurationError, ClusterError
        See `curidask.clusters.managed.managed`.
    """
    make = load_class(settings)
    with managed(lambda: _made(make, settings), settings) as connection:
        yield connection


def load_class(settings: ClusterSettings) -> Callable[..., Any]:
    """Import the class, or the function that makes one.

    Raises
    ------
    ConfigurationError
        When the module or the class is not there.
    """
    module_name, _, class_name = settings.kind.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"The module {module_name!r} of the cluster's kind cannot be imported: {error}.",
            where=settings.where,
            fix="install its package, or correct the name",
        ) from error
    found = getattr(module, class_name, None)
    if not callable(found):
        raise ConfigurationError(
            f"The module {module_name!r} has no class {class_name!r}.",
            where=settings.where,
            fix="name a class of dask clusters, as in 'distributed:LocalCluster'",
        )
    made: Callable[..., Any] = found
    return made


def _made(make: Callable[..., Any], settings: ClusterSettings) -> Any:
    from distributed.deploy import Cluster

    options = dict(settings.options)
    with contextlib.suppress(ValueError):  # of what is written in C
        if "n_workers" in inspect.signature(make).parameters:
            options["n_workers"] = settings.at_least  # else some classes start as many as there are cores
    cluster = make(**options)
    if not isinstance(cluster, Cluster):
        raise ConfigurationError(
            f"{settings.kind!r} makes a {type(cluster).__name__}, which is no dask cluster.",
            where=settings.where,
            fix="name a class of dask clusters, as in 'distributed:LocalCluster'",
        )
    return cluster
