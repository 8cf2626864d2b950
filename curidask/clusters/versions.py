"""Whether the scheduler and the workers have what this process has: Python, dask, curidask, the project's packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curidask.execution.project.imports import INSTALLED

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
    what, fix : str
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
    here : Installation
    there : iterable of Installation
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
