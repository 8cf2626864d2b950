"""What must hold before a run uses a cluster that others set up: the same versions, one cache, workers that meet."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection
from curidask.clusters.versions import Finding, Installation, compare, of_scheduler, of_workers, this_process
from curidask.errors import CacheError, ClusterError, CuridaskError
from curidask.store.base import Store

CACHE_ID = ".curidask-cache"
"""An object with a random text, by which a process recognises a cache."""

MEET_SECONDS = 5.0
SHARED_FIX = (
    "use a cache that all machines reach, with --cache or in the configuration: an object store such as "
    "s3://bucket/path, or a folder on a disk that they share"
)


@dataclass(frozen=True, slots=True)
class Admission:
    """What was found of a cluster that can be used.

    Attributes
    ----------
    cache_id : str
        The text in the cache that workers must find, empty when the cache could not be marked.
    sees_project : bool
        Whether all workers have the project's folder itself at the same path.
    findings : list of Finding
        What should be known.
    """

    cache_id: str
    sees_project: bool
    findings: list[Finding]


def admit(connection: Connection, store: Store, packages: Mapping[str, bool], root: Path) -> Admission:
    """Check a cluster before a run.

    Parameters
    ----------
    connection : Connection
    store : Store
    packages : mapping of str to bool
        The packages that the project imports, and whether it does without them.
    root : Path
        The project's folder.

    Raises
    ------
    ClusterError
        With all that would make the run go wrong, and how to fix it.
    """
    findings, workers = check_versions(connection.client, packages)
    raise_errors(findings, connection.description)
    findings += check_cache(connection.client, store, one_a_host(workers))
    findings += check_meeting(connection.client, one_a_host(workers))
    raise_errors(findings, connection.description)
    return Admission(cache_id(store), sees_folder(connection.client, root), findings)


def raise_errors(findings: Iterable[Finding], where: str) -> None:
    """Raise one error for all findings that are errors.

    Raises
    ------
    ClusterError
    """
    errors = [finding for finding in findings if finding.is_error]
    if errors:
        what = "The cluster cannot run this project:" + "".join(f"\n    {finding.what}" for finding in errors)
        raise ClusterError(what, where=where, fix="; ".join(dict.fromkeys(finding.fix for finding in errors)))


# --- versions --------------------------------------------------------------------------------------------------------
def check_versions(client: Any, packages: Mapping[str, bool]) -> tuple[list[Finding], list[Installation]]:
    """Compare the versions on the scheduler and the workers with those here; also what the workers are."""
    here, names = this_process(packages)
    workers = of_workers(client, names)
    optional = [name for name, is_optional in packages.items() if is_optional]
    findings = compare(here, [of_scheduler(client), *workers], optional)
    inside = [w.where for w in workers if (w.host, w.process) == (here.host, here.process)]
    if inside:
        what = f"{inside[0]}: a thread of this very process, which its stages would change while it runs"
        findings.insert(0, Finding(True, what, "start worker processes (processes=True), or use --parallel 0"))
    return findings, workers


def one_a_host(workers: Sequence[Installation]) -> list[str]:
    """Addresses of one worker for each host and address it listens on."""
    addresses = [(w.host, w.where.removeprefix("worker ")) for w in workers]
    return list({(host, a.rpartition(":")[0]): a for host, a in addresses}.values())


# --- the cache -------------------------------------------------------------------------------------------------------
def check_cache(client: Any, store: Store, workers: Sequence[str]) -> list[Finding]:
    """Let workers read what this process writes to the cache, and the other way round.

    A cache that is only read is not written to: then workers must see what lies there.
    """
    if not store.writable:
        names = store.objects.list()[:1]
        answers = client.run(see_objects, store, names, workers=workers, on_error="return")
        return [_not_one_cache(store, worker, answer) for worker, answer in answers.items() if answer != names]
    token = uuid.uuid4().hex
    name = f".probe-{token}"
    answers = {}
    try:
        store.objects.write(name, token.encode())
        answers = client.run(answer_probe, store, name, workers=workers, on_error="return")
        got = store.objects.read_many(a for a in answers.values() if isinstance(a, str))
        return [
            _not_one_cache(store, worker, answer)
            for worker, answer in answers.items()
            if not isinstance(answer, str) or got.get(answer) != token.encode()
        ]
    finally:
        with suppress(CuridaskError):
            store.objects.remove([name, *(a for a in answers.values() if isinstance(a, str))])


def answer_probe(store: Store, name: str) -> str | None:
    """On a worker: read the driver's probe and write the same under another name; None when there is none."""
    try:
        token = store.objects.read(name)
    except FileNotFoundError:
        return None
    answer = f"{name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    store.objects.write(answer, token)
    return answer


def see_objects(store: Store, names: Sequence[str]) -> list[str]:
    """On a worker: those of the names that are in the cache."""
    return sorted(store.objects.exists(names))


def _not_one_cache(store: Store, worker: str, answer: Any) -> Finding:
    if isinstance(answer, CuridaskError):
        what, fix = answer.what, answer.fix or SHARED_FIX
    elif isinstance(answer, Exception):
        what, fix = f"{type(answer).__name__}: {answer}", SHARED_FIX
    else:
        what, fix = "it does not find there what this process wrote, so it is another folder", SHARED_FIX
    return Finding(True, f"worker {worker} cannot use the cache {store.url}: {what}", fix)


def cache_id(store: Store) -> str:
    """The text by which workers recognise the cache; one is put there when there is none and it may be."""
    with suppress(FileNotFoundError):
        return store.objects.read(CACHE_ID).decode()
    if not store.writable:
        return ""
    store.objects.write(CACHE_ID, uuid.uuid4().hex.encode())
    return store.objects.read(CACHE_ID).decode()


def require_cache(store: Store, expected: str) -> None:
    """On a worker that may have come late: refuse a cache that is not the driver's.

    Raises
    ------
    CacheError
    """
    if not expected:
        return
    try:
        found = store.objects.read(CACHE_ID).decode()
    except FileNotFoundError:
        found = ""
    if found != expected:
        raise CacheError(f"The cache of the run is not on {socket.gethostname()}.", where=store.url, fix=SHARED_FIX)


# --- the project's folder --------------------------------------------------------------------------------------------
def sees_folder(client: Any, folder: Path) -> bool:
    """Whether all workers see the very same folder, as on a shared disk."""
    token = f".curidask-probe-{uuid.uuid4().hex}"
    try:
        (folder / token).touch()
    except OSError:
        return False
    try:
        answers = client.run(os.path.exists, str(folder / token), on_error="return")
    finally:
        (folder / token).unlink(missing_ok=True)
    return bool(answers) and all(answer is True for answer in answers.values())


# --- between workers -------------------------------------------------------------------------------------------------
def check_meeting(client: Any, workers: Sequence[str]) -> list[Finding]:
    """Let each host's worker call the next host's: what one stage makes, another may need elsewhere."""
    if len(workers) < 2:
        return []
    following = dict(zip(workers, [*workers[1:], workers[0]], strict=True))
    answers = client.run(call_worker, following, workers=list(workers), on_error="return")
    return [
        Finding(
            True,
            f"worker {worker} cannot reach worker {following[worker]}: {answer}",
            "open the ports between the machines (`dask worker --worker-port 40000:40100` makes them few)",
        )
        for worker, answer in answers.items()
        if answer
    ]


async def call_worker(following: Mapping[str, str], dask_worker: Any) -> str:
    """On a worker: call another; why that did not work, or nothing."""
    try:
        await asyncio.wait_for(dask_worker.rpc(following[dask_worker.address]).identity(), MEET_SECONDS)
    except Exception as error:
        return str(error) or f"no answer within {MEET_SECONDS:g} s"
    return ""
