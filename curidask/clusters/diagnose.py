"""A look at a cluster as a whole: what a run needs there, tried one after the other, and how fast it is."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection, counted
from curidask.clusters.preflight import Finding, check_cache, check_meeting, check_versions, one_a_host, sees_folder
from curidask.clusters.registry import Opener
from curidask.clusters.tls import is_loopback
from curidask.errors import CuridaskError
from curidask.store.base import Store

MANY = 200
PATIENCE_SECONDS = 60
WEB_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One result.

    Attributes
    ----------
    kind : str
        ``ok``, ``warning`` or ``error``.
    """

    kind: str
    what: str
    fix: str = ""


def inspect_cluster(opener: Opener, store: Store, packages: Mapping[str, bool], root: Path) -> Iterator[Line]:
    """Try all that a run needs; what is wrong does not keep the rest from being tried.

    Parameters
    ----------
    opener : callable
        Opens the cluster.
    store, packages, root
        See `curidask.clusters.preflight.admit`.

    Raises
    ------
    ConfigurationError
        When the settings of the cluster cannot be used.
    """
    started = time.perf_counter()
    with opener() as connection:
        client = connection.client
        took = time.perf_counter() - started
        yield Line("ok", f"connected to {connection.description} in {took:.1f} s")
        yield from (Line("warning", text) for text in connection.warnings)
        findings, workers = check_versions(client, packages)
        yield from _found(findings, f"versions of Python, dask, curidask and {len(packages)} packages of the project")
        hosts = one_a_host(workers)
        if any(finding.is_error for finding in findings):
            yield Line("warning", "the rest was not tried, since the versions do not fit")
            return
        yield from _workers(client)
        yield from _cache(client, store, hosts)
        if len(hosts) > 1:
            yield from _found(check_meeting(client, hosts), f"workers on {len(hosts)} hosts reach each other")
        yield _folder(connection, root)
        yield from _times(client)
        yield from _dashboard(client)


def _found(findings: list[Finding], what: str) -> Iterator[Line]:
    if not any(finding.is_error for finding in findings):
        yield Line("ok", what)
    for finding in findings:
        yield Line("error" if finding.is_error else "warning", finding.what, finding.fix)


def _workers(client: Any) -> Iterator[Line]:
    workers = client.run(_of_worker, on_error="ignore")
    memory = sum(limit or 0 for _, limit in workers.values()) / 2**30
    yield Line("ok", f"{counted(len(workers))}, {memory:.1f} GiB of memory together")
    many = [address for address, (threads, _) in workers.items() if threads > 1]
    if many:
        what = f"{len(many)} workers have several threads ({many[0]}); a stage that crashes takes others down with it"
        yield Line("warning", what, "start them with `dask worker --nthreads 1 --nworkers auto`")


def _of_worker(dask_worker: Any) -> tuple[int, int | None]:
    return dask_worker.state.nthreads, dask_worker.memory_manager.memory_limit


def _cache(client: Any, store: Store, hosts: list[str]) -> Iterator[Line]:
    started = time.perf_counter()
    try:
        findings = check_cache(client, store, hosts)
    except CuridaskError as error:
        yield Line("error", f"this machine cannot use the cache: {error.what}", error.fix)
        return
    took = (time.perf_counter() - started) * 1000
    where = f"from here and from {len(hosts)} host{'s' if len(hosts) > 1 else ''} with workers"
    yield from _found(findings, f"cache {store.url}: written and read {where} ({took:.0f} ms)")


def _folder(connection: Connection, root: Path) -> Line:
    if connection.is_here or sees_folder(connection.client, root):
        return Line("ok", f"the workers see the project's folder {root}; stages run in it")
    return Line("ok", "the workers do not see the project's folder; code travels, and data files that `ship` names")


def _times(client: Any) -> Iterator[Line]:
    try:
        single = [_timed(client, 1) for _ in range(5)]
        many = _timed(client, MANY)
    except TimeoutError:
        yield Line(
            "error",
            f"{MANY} tasks that do nothing did not end within {PATIENCE_SECONDS} s",
            "look at the dashboard whether the workers are busy with something else",
        )
        return
    yield Line(
        "ok",
        f"a task that does nothing takes {statistics.median(single) * 1000:.1f} ms, {MANY} of them {many:.2f} s "
        f"({many / MANY * 1000:.2f} ms each)",
    )


def _timed(client: Any, n: int) -> float:
    from distributed import wait

    keys = [f"curidask_check-{uuid.uuid4().hex}" for _ in range(n)]
    started = time.perf_counter()
    with client.as_current():
        wait(client.map(int, [0] * n, key=keys), timeout=PATIENCE_SECONDS)
    return time.perf_counter() - started


def _dashboard(client: Any) -> Iterator[Line]:
    """Warn of a dashboard that others can reach: it asks nobody who they are, also where TLS is used."""
    import urllib.error
    import urllib.request

    address = client.scheduler.address
    port = client.scheduler_info().get("services", {}).get("dashboard")
    host = address.partition("://")[2].rpartition(":")[0]
    if port is None or is_loopback(address):
        return
    try:
        urllib.request.urlopen(f"http://{host}:{port}/health", timeout=WEB_SECONDS).close()
    except (OSError, urllib.error.URLError, ValueError):
        return
    yield Line(
        "warning",
        f"anybody in the network can look at the dashboard at http://{host}:{port}",
        "start the scheduler with `--dashboard-address 127.0.0.1:8787` and look at it through `ssh -L`",
    )
