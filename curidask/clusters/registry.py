"""From what the user names to what opens it: a name of the configuration, an address, a client or a cluster."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection
from curidask.clusters.kinds import kind_of
from curidask.clusters.settings import ClusterSettings, check_address, read_settings
from curidask.errors import ConfigurationError

Opener = Callable[[], AbstractContextManager[Connection]]
"""Opens a cluster, anew each time it is called."""


def choose(
    asked: Any, tables: Mapping[str, Any], *, root: Path, source: str = "", folder: Path, insecure: bool = False
) -> Opener:
    """What opens a cluster.

    Parameters
    ----------
    asked : str, distributed.Client or distributed.deploy.Cluster
        A name of the configuration, an address such as ``tls://host:8786``, or one that the user made.
    tables : mapping
        The configuration's clusters by name.
    root : Path
        The project's folder.
    source : str
        The configuration file, for messages.
    folder : Path
        Where a cluster may write logs.
    insecure : bool
        Accept connections without TLS to other machines.

    Raises
    ------
    ConfigurationError
        For a name that is not there, or settings that cannot be used.
    """
    if not isinstance(asked, str):
        return _given(asked)
    settings = find(asked, tables, root=root, source=source)
    settings = replace(settings, insecure=settings.insecure or insecure)
    return settings.facts.opener(settings, folder)


def find(asked: str, tables: Mapping[str, Any], *, root: Path, source: str = "") -> ClusterSettings:
    """The settings of a cluster that is named, or of an address.

    Raises
    ------
    ConfigurationError
    """
    if "://" in asked:
        check_address(asked, "the address of the cluster")
        return _settings("", "address", address=asked)
    if asked in tables:
        return read_settings(asked, tables[asked], root, source)
    if asked == "local":
        return _settings("local", "local")
    if ":" in asked:
        raise ConfigurationError(
            f"{asked!r} does not say how to connect.", fix=f"write tls://{asked}, or tcp://{asked} without encryption"
        )
    near = difflib.get_close_matches(asked, tables, n=1)
    if near:
        fix = f"did you mean {near[0]!r}?"
    elif tables:
        fix = f"there are: {', '.join(tables)}; or give an address such as tls://host:8786"
    else:
        fix = f"add a table [cluster.{asked}] to the configuration, or give an address such as tls://host:8786"
    raise ConfigurationError(f"There is no cluster {asked!r}.", where=source, fix=fix)


def _settings(name: str, kind: str, **others: Any) -> ClusterSettings:
    facts = kind_of(kind)
    assert facts is not None  # it is ours
    return ClusterSettings(name, kind, facts, wait_seconds=facts.wait_seconds, **others)


def _given(cluster: Any) -> Opener:
    from distributed import Client
    from distributed.deploy import Cluster

    if not isinstance(cluster, Client | Cluster):
        raise ConfigurationError(
            f"A {type(cluster).__name__} is no cluster.",
            where="cluster=",
            fix="give a name of the configuration, an address, or a dask Client or Cluster",
        )
    from curidask.clusters.existing import given

    return partial(given, cluster)
