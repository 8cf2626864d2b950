"""Named clusters as the configuration describes them: checked as far as that goes without opening one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from curidask.clusters.kinds import CUSTOM, ClusterKind, kind_names, kind_of
from curidask.errors import ConfigurationError

NAME = re.compile(r"[^\W\d][\w-]*")

TLS = ("tls_ca_file", "tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A cluster's table in the configuration.

    Attributes
    ----------
    name : str
        ``[tool.curidask.cluster.NAME]``.
    kind : str
        One of `kind_names`, or ``module:Class`` for any dask cluster class.
    facts : ClusterKind
        What is told of the kind.
    n_workers : int or None
        Worker processes (job queues: as many as that takes jobs).
    minimum, maximum : int or None
        Between which the number follows the load, instead of `n_workers`.
    wait_seconds : float
        How long to wait for a first worker, and for another one when all are gone.
    address : str
        Of the scheduler, for the kind ``address``.
    insecure : bool
        Whether connections to other machines may go without TLS.
    tls_ca_file, tls_cert, tls_key : str
        Certificates; empty for those of `curidask.clusters.tls.default_folder`.
    driver : mapping of str to object
        What the job is given that ``--detach`` submits; see `curidask.clusters.slurm_driver`.
    options : mapping
        Everything else, for the dask class.
    where : str
        Where it was written, for messages.
    """

    name: str
    kind: str
    facts: ClusterKind
    n_workers: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    wait_seconds: float = 60.0
    address: str = ""
    insecure: bool = False
    tls_ca_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    driver: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of workers follows the load."""
        return self.maximum is not None

    @property
    def at_least(self) -> int:
        """Workers that are asked for at the start."""
        return (self.minimum or 0) if self.is_adaptive else (self.n_workers or 1)


DRIVER = frozenset({"account", "directives", "memory", "queue", "walltime"})
"""What a table `driver` may have."""

OWN = frozenset(f.name for f in fields(ClusterSettings)) - {"name", "facts", "options", "where"}

CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda v: isinstance(v, str), "give a text in quotes"),
    "n_workers": (lambda v: type(v) is int and v >= 1, "give a whole number from 1 on"),
    "minimum": (lambda v: type(v) is int and v >= 0, "give a whole number from 0 on"),
    "maximum": (lambda v: type(v) is int and v >= 1, "give a whole number from 1 on"),
    "wait_seconds": (lambda v: type(v) in (int, float) and v > 0, "give a number of seconds above 0"),
    "address": (lambda v: isinstance(v, str) and v != "", "give a text such as 'tls://host:8786'"),
    "insecure": (lambda v: isinstance(v, bool), "give true or false"),
    "driver": (lambda v: isinstance(v, Mapping) and set(v) <= DRIVER, f"give a table with {', '.join(sorted(DRIVER))}"),
} | dict.fromkeys(TLS, (lambda v: isinstance(v, str) and v != "", "give a path"))


def read_settings(name: str, table: Any, root: Path, source: str) -> ClusterSettings:
    """Check a cluster's table.

    Parameters
    ----------
    table : object
        What the configuration holds under the name.
    root : Path
        The project's folder; relative paths start there.
    source : str
        The configuration file, for messages.

    Raises
    ------
    ConfigurationError
        Naming the file, the table and the key.
    """
    where = f"[cluster.{name}] in {source}" if source else f"cluster {name!r}"
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"The cluster {name!r} is {table!r}.", where=source, fix=f"write a table [cluster.{name}] with a `kind`"
        )
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name for a cluster.", where=where, fix="use letters, digits, _ and -, a letter first"
        )
    for key, value in table.items():
        check = CHECKS.get(key)
        if check is not None and not check[0](value):
            raise ConfigurationError(f"The setting {key!r} is {value!r}.", where=where, fix=check[1])
    kind = _kind(table, where)
    own = {key: value for key, value in table.items() if key in OWN}
    own |= {key: str(root / Path(own[key]).expanduser()) for key in TLS if key in own}
    own.setdefault("wait_seconds", kind.wait_seconds)
    options = {key: value for key, value in table.items() if key not in OWN}
    settings = ClusterSettings(name=name, where=where, facts=kind, options=options, **own)
    if settings.driver and not kind.has_driver:
        raise ConfigurationError(
            f"A cluster of kind {settings.kind!r} takes no `driver`.",
            where=where,
            fix="leave it out; SLURM has such jobs",
        )
    _check_numbers(settings)
    _check_tls(settings)
    _check_address(settings)
    return settings


def _kind(table: Mapping[str, Any], where: str) -> ClusterKind:
    kind = table.get("kind")
    found = None if kind is None else kind_of(kind)
    if found is not None:
        return found
    kinds = f"use one of {', '.join(kind_names())}, or '{CUSTOM}' of a dask cluster class"
    if kind is None:
        raise ConfigurationError("The cluster has no kind.", where=where, fix=f"add `kind = …`; {kinds}")
    near = difflib.get_close_matches(kind, kind_names(), n=1)
    fix = f"did you mean {near[0]!r}? Otherwise {kinds}" if near else kinds
    raise ConfigurationError(f"There is no kind {kind!r} of cluster.", where=where, fix=fix)


def _check_numbers(settings: ClusterSettings) -> None:
    where, low, high = settings.where, settings.minimum, settings.maximum
    if settings.facts.has_address:
        given = [key for key in ("n_workers", "minimum", "maximum") if getattr(settings, key) is not None]
        if given:
            raise ConfigurationError(
                f"{given[0]!r} cannot be set for an address: its workers are started by others.",
                where=where,
                fix="leave it out, and start workers there with `dask worker`",
            )
    if settings.n_workers is not None and (low is not None or high is not None):
        raise ConfigurationError(
            "The number of workers is both fixed and adaptive.",
            where=where,
            fix="give either `n_workers`, or `minimum` and `maximum`",
        )
    if low is not None and high is None:
        raise ConfigurationError("There is a `minimum` but no `maximum`.", where=where, fix="give both, or `n_workers`")
    if low is not None and high is not None and low > high:
        raise ConfigurationError(
            f"The minimum of workers, {low}, is above the maximum, {high}.", where=where, fix="exchange them"
        )


def _check_tls(settings: ClusterSettings) -> None:
    missing = [key for key in TLS if not getattr(settings, key)]
    if 0 < len(missing) < len(TLS):
        raise ConfigurationError(
            f"Of the certificates, {' and '.join(missing)} are missing.",
            where=settings.where,
            fix=f"give all of {', '.join(TLS)}, or none for those that `curidask cluster certs` makes",
        )


def _check_address(settings: ClusterSettings) -> None:
    if not settings.facts.has_address:
        if settings.address:
            raise ConfigurationError(
                f"A cluster of kind {settings.kind!r} takes no `address`.",
                where=settings.where,
                fix="set kind = 'address' to use a scheduler that runs already, or leave the address out",
            )
        return
    if not settings.address:
        raise ConfigurationError(
            "The cluster has no address.", where=settings.where, fix="add `address = 'tls://host:8786'`"
        )
    if settings.options:
        key = next(iter(settings.options))
        near = difflib.get_close_matches(key, OWN, n=1)
        raise ConfigurationError(
            f"A cluster of kind {settings.kind!r} takes no option {key!r}.",
            where=settings.where,
            fix=f"did you mean {near[0]!r}?" if near else f"it takes address, insecure, wait_seconds, {', '.join(TLS)}",
        )
    check_address(settings.address, settings.where)


def check_address(address: str, where: str) -> None:
    """Refuse what is no scheduler's address.

    Raises
    ------
    ConfigurationError
    """
    protocol, separator, rest = address.partition("://")
    example = "tls://host:8786"
    if not separator or protocol not in ("tls", "tcp"):
        raise ConfigurationError(
            f"{address!r} is no address of a scheduler.", where=where, fix=f"write it as {example} (or tcp://…)"
        )
    host, _, port = rest.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(
            f"The address {address!r} has no host and port.",
            where=where,
            fix=f"write it as {example}; 8786 is the port that `dask scheduler` takes by default",
        )
