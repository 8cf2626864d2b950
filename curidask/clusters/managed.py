"""Clusters that are started for a run and ended with it, whatever class of dask's starts them."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from curidask.clusters.base import (
    SETTINGS,
    Connection,
    NoWord,
    Trouble,
    client_of,
    counted,
    innermost,
    quiet_dask,
    wait_for_worker,
)
from curidask.clusters.kinds import ClusterKind
from curidask.clusters.settings import OWN, ClusterSettings
from curidask.clusters.tls import check_plain
from curidask.errors import ClusterError, ConfigurationError, CuridaskError

CLOSE_SECONDS = 20
RETRY_SECONDS = 0.5


@contextlib.contextmanager
def managed(
    make: Callable[[], Any], settings: ClusterSettings, *, trouble: Trouble | None = None, fix: str = ""
) -> Iterator[Connection]:
    """Start a cluster, wait for its first worker, and end it.

    Parameters
    ----------
    make : callable
        Gives the dask cluster.
    trouble : Trouble, optional
        What the cluster knows of workers that do not come.
    fix : str
        What to do when they do not come.

    Raises
    ------
    ConfigurationError
        When an option cannot be used, or the workers could be reached only in the clear.
    ClusterError
        When the cluster or its first worker does not come up.
    """
    import dask

    what = f"cluster {settings.name!r}"
    trouble = trouble or NoWord()
    fix = fix or f"look at what the cluster says itself, or wait longer (`wait_seconds`, now {settings.wait_seconds:g})"
    quiet_dask()
    with dask.config.set(SETTINGS):
        cluster = _made(make, settings)
        try:
            warnings = check_plain(cluster.scheduler_address, insecure=settings.insecure, where=settings.where)
            quiet_dask()  # a cluster class may have set its own levels
            scale(cluster, settings)
            with _client(cluster, settings) as client:
                demand = client.submit(int, pure=False) if not settings.at_least else None
                n_workers = wait_for_worker(client, settings.wait_seconds, what=what, trouble=trouble, fix=fix)
                del demand
                description = f"{what} ({settings.kind}, {_size(settings)})"
                yield Connection(
                    client,
                    n_workers,
                    description,
                    cluster,
                    wait_seconds=settings.wait_seconds,
                    trouble=trouble.words,
                    warnings=warnings,
                )
        finally:
            with contextlib.suppress(Exception):  # of a cluster that is gone, nothing is left to end
                cluster.close(timeout=CLOSE_SECONDS)


def scale(cluster: Any, settings: ClusterSettings) -> None:
    """Ask for the workers.

    A fixed number is asked for as an adaptive one, because only that replaces workers that are gone, but for kinds
    that do so by themselves.

    Raises
    ------
    ClusterError
        When the cluster refuses.
    """
    low, high = (settings.minimum or 0, settings.maximum) if settings.is_adaptive else (settings.at_least,) * 2
    if settings.facts.replaces_workers and not settings.is_adaptive:
        return
    try:
        cluster.adapt(minimum=low, maximum=high)
    except Exception as error:
        raise ClusterError(
            f"The cluster {settings.name!r} takes no number of workers: {innermost(error)}", where=settings.where
        ) from error


def _size(settings: ClusterSettings) -> str:
    if settings.is_adaptive:
        return f"{settings.minimum or 0} to {settings.maximum} workers"
    return counted(settings.at_least)


def _client(cluster: Any, settings: ClusterSettings) -> Any:
    """A client of a cluster that has just come up: the way to it may break once more, as one that is forwarded."""
    until = time.monotonic() + settings.wait_seconds
    while True:
        try:
            return client_of(cluster)
        except OSError as error:
            if time.monotonic() > until:
                raise ClusterError(
                    f"The scheduler was reached for no longer than a moment: {error}",
                    where=settings.where,
                    fix="look at what lies between this machine and the cluster; run the same command again",
                ) from error
            time.sleep(RETRY_SECONDS)


def _made(make: Callable[[], Any], settings: ClusterSettings) -> Any:
    try:
        return make()
    except CuridaskError:
        raise
    except (TypeError, ValueError) as error:
        what = f"The cluster {settings.name!r} cannot be made of its options: {error}"
        raise ConfigurationError(what, where=settings.where, fix="correct the options") from error
    except Exception as error:
        raise ClusterError(
            f"The cluster {settings.name!r} did not come up: {innermost(error)}",
            where=settings.where,
            fix=f"look at the options of {settings.kind}, and at what it writes itself",
        ) from error


def check_options(settings: ClusterSettings, *callables: Callable[..., Any]) -> None:
    """Refuse options that none of the callables takes.

    Raises
    ------
    ConfigurationError
        With the nearest name.
    """
    known: set[str] = set()
    for function in callables:
        parameters = inspect.signature(function).parameters.values()
        known |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for key in settings.options:
        if key not in known:
            near = difflib.get_close_matches(key, known | OWN, n=1)
            raise ConfigurationError(
                f"A cluster of kind {settings.kind!r} takes no option {key!r}.",
                where=settings.where,
                fix=f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(sorted(known - {'self'}))}",
            )


# --- any class of dask's that makes a cluster, named as ``module:Class`` ---------------------------------------------
@contextlib.contextmanager
def custom(settings: ClusterSettings) -> Iterator[Connection]:
    """Make a cluster of the class that `kind` names, with the options as its arguments.

    Raises
    ------
    ConfigurationError, ClusterError
        See `curidask.clusters.managed.managed`.
    """
    make = load_class(settings)
    with managed(lambda: _called(make, settings), settings) as connection:
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


def _called(make: Callable[..., Any], settings: ClusterSettings) -> Any:
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


class _Custom(ClusterKind):
    def opener(self, settings: ClusterSettings, folder: Path) -> Callable[[], AbstractContextManager[Connection]]:
        return functools.partial(custom, settings)


KIND = _Custom()
