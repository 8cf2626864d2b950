"""What must hold before a run uses a cluster that others set up: the same versions, one cache, workers that meet."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection
from curidask.core.code.identity import INSTALLED
from curidask.errors import CacheError, ClusterError, CuridaskError
from curidask.store.base import Store

# --- whether the scheduler and the workers have what this process has ------------------------------------------------
# Python, dask, curidask, the project's packages.

ALIKE = ("dask", "distributed", "cloudpickle")
"""Of these the major version must be the same on all sides."""

SAME = "curidask"

LOOK = (
    "(lambda find, metadata, platform, os, socket: {"
    "'python': platform.python_version(), 'host': socket.gethostname(), 'process': os.getpid(), "
    "'packages': {name: next((d.version for d in metadata.distributions(name=dist)), "
    "'?' if find.find_spec(name) else '') for name, dist in NAMES.items()}})"
    "(*map(__import__('importlib').import_module, "
    "('importlib.util', 'importlib.metadata', 'platform', 'os', 'socket')))"
)
"""What a worker is asked, as an expression: it needs nothing there but some Python, and no byte code of ours."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What a process has.

    Attributes
    ----------
    where : str
        Which process, for the user.
    python : str
        Its version.
    packages : mapping of str to str
        By import name; ``?`` when the version is not known, empty when the package is missing.
    host, process : str and int
        Where it runs; empty and 0 when it did not say.
    """

    where: str
    python: str
    packages: Mapping[str, str]
    host: str = ""
    process: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that differs.

    Attributes
    ----------
    is_error : bool
        Whether a run would go wrong.
    """

    is_error: bool
    what: str
    fix: str


def this_process(packages: Iterable[str]) -> tuple[Installation, dict[str, str]]:
    """What is here of some packages, and the names of their distributions.

    Those that are not here are left out, and modules in a folder that a file puts on ``sys.path``: whether a worker has
    them shows when it imports that file.
    """
    names: dict[str, str] = {}
    versions: dict[str, str] = {}
    by_import: Mapping[str, Sequence[str]] | None = None
    for name in (*ALIKE, SAME, *packages):
        version, distribution = _version(name), name
        if not version and (spec := find_spec(name)) is not None:
            if by_import is None:  # reads every installed package's list of files
                by_import = importlib.metadata.packages_distributions()
            distribution = next(iter(by_import.get(name, ())), name)
            version = _version(distribution) or ("?" if _is_installed(spec) else "")
        if version:
            names[name], versions[name] = distribution, version
    here = Installation("this process", platform.python_version(), versions, socket.gethostname(), os.getpid())
    return here, names


def _version(distribution: str) -> str:
    return next((d.version for d in importlib.metadata.distributions(name=distribution)), "")


def _is_installed(spec: ModuleSpec) -> bool:
    places = [spec.origin or ""] if spec.has_location else list(spec.submodule_search_locations or ())
    return not places or not set(INSTALLED).isdisjoint(Path(places[0]).parts)


def of_workers(client: Any, names: Mapping[str, str]) -> list[Installation]:
    """What each worker has; a worker that left while it was asked is passed over."""
    answers = client.run(eval, LOOK.replace("NAMES", repr(dict(names))), on_error="ignore")
    return [
        Installation(f"worker {address}", a["python"], a["packages"], a["host"], a["process"])
        for address, a in sorted(answers.items())
    ]


def of_scheduler(client: Any) -> Installation:
    """What the scheduler has of the packages that it needs."""
    packages = client.get_versions(packages=[SAME])["scheduler"]["packages"]
    found = {name: packages.get(name) or "" for name in (*ALIKE, SAME)}
    python = ".".join(str(packages["python"]).split(".")[:3])
    return Installation("the scheduler", python, found)


# --- comparing -------------------------------------------------------------------------------------------------------
def compare(here: Installation, there: Iterable[Installation], optional: Iterable[str] = ()) -> list[Finding]:
    """What differs from this process, errors first; the same difference of many workers is told once.

    Parameters
    ----------
    optional : iterable of str
        Packages that the project does without.
    """
    found: dict[tuple[bool, str, str], list[str]] = {}
    for other in there:
        for finding in _differences(here, other, frozenset(optional)):
            found.setdefault((finding.is_error, finding.what, finding.fix), []).append(other.where)
    findings = [Finding(error, f"{_listed(where)}: {what}", fix) for (error, what, fix), where in found.items()]
    return sorted(findings, key=lambda finding: not finding.is_error)


def _differences(here: Installation, other: Installation, optional: frozenset[str]) -> Iterable[Finding]:
    if _part(here.python, 2) != _part(other.python, 2):
        yield Finding(
            True,
            f"Python {other.python}, here {here.python}",
            f"use Python {_part(here.python, 2)} there: code travels as byte code, which other versions cannot run",
        )
    elif here.python != other.python:
        yield Finding(False, f"Python {other.python}, here {here.python}", "use the same one where results must agree")
    for name, mine in here.packages.items():
        theirs = other.packages.get(name)
        if theirs is None or theirs == mine:
            continue
        install = f"pip install '{name}=={mine}' there" if mine != "?" else f"install {name} there"
        if not theirs:
            yield Finding(name not in optional, f"the package {name} is missing (here {mine})", install)
        elif "?" not in (mine, theirs):
            matters = name == SAME or (name in ALIKE and _part(mine, 1) != _part(theirs, 1))
            yield Finding(matters, f"{name} {theirs}, here {mine}", install)


def _part(version: str, n: int) -> str:
    return ".".join(version.split(".")[:n])


def _listed(where: Sequence[str]) -> str:
    return where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"


# --- preflight -------------------------------------------------------------------------------------------------------
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
