"""The folder of a store-full run: all that a run used and made, so that it can be looked at and reproduced from there.

It lies where the run record lies::

    data/runs/REFERENCE/
        run.json            the run record
        artifacts/          every artifact, under its name in the cache; itself a cache
        run.log             the log
        report/             the report
        environment.json    Python, packages, git commit, command, and how to reproduce the run
        requirements.txt    the packages, as pip reads them
        changes.diff        what was not committed
"""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError, ProjectError
from curidask.runs.layout import output_beside
from curidask.runs.record import git_state
from curidask.runs.schema import read_record
from curidask.session.base import Session
from curidask.session.config import RUN_ARTIFACTS, Config
from curidask.store.artifacts import ArtifactStore
from curidask.store.copy import Result, copy_artifacts

if TYPE_CHECKING:
    from importlib import metadata

ENVIRONMENT = "environment.json"
REQUIREMENTS = "requirements.txt"
CHANGES = "changes.diff"
LOG = "run.log"
REPORT = "report"


def run_path(config: Config, reference: str) -> Path:
    """The folder of a run."""
    return config.path(config.runs) / reference


def log_path(config: Config, reference: str) -> Path:
    """The log of a run."""
    return config.path(config.logs) / f"{reference}.log"


def output_path(config: Config, reference: str) -> Path:
    """What a detached run printed."""
    return output_beside(log_path(config, reference), reference)


def fill(manager: Session) -> list[str]:
    """Put all that a run used and made into its folder. Call it when the run has ended.

    Returns
    -------
    list of str
        Warnings: what is not in the folder, and why.

    Raises
    ------
    CacheError
        When the folder cannot be written.
    """
    config, folder = manager.config, run_path(manager.config, manager.reference)
    warnings: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        warnings += _copy_artifacts(manager, folder)
        _write_environment(manager, folder)
        _copy(log_path(config, manager.reference), folder / LOG)
        _copy(config.path(config.reports) / manager.reference, folder / REPORT)
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(
            f"The run's folder cannot be written: {error.strerror or error}.",
            where=str(folder),
            fix="free space, make the folder writable, or set `runs` in the configuration",
        ) from error
    return warnings


def _copy_artifacts(manager: Session, folder: Path) -> list[str]:
    """Copy what the cache holds of all traced stages, also of those that were not needed."""
    stems: list[str] = []
    untracked = 0
    for task in manager.graph:
        for output, stem in zip(task.outputs, task.stems, strict=True):
            if stem is not None and getattr(output.cacher, "track", True):
                stems.append(stem)
            untracked += stem is not None and not getattr(output.cacher, "track", True)
        stems.append(task.marker)
    keys = next((source.catalog.keys for source in manager.store.sources), None)
    target = ArtifactStore.open(folder / RUN_ARTIFACTS, keys=keys)
    (folder / RUN_ARTIFACTS).mkdir(exist_ok=True)
    done = copy_artifacts(manager.store, target, stems, exact=True)
    warnings = [one.problem for one in done if one.result is Result.FAILED]
    copied = {one.stem for one in done if one.result is Result.COPIED}
    made = [t for t in manager.run_record.results if manager.run_record.status_of(t) in ("done", "found", "unchanged")]
    lost = sum(stem not in copied for t in made for stem in manager.graph[t].stems if stem is not None) - untracked
    if lost > 0 and not manager.writable:
        warnings.append(f"{lost} artifacts were computed but not stored (--dry-cache), so they are not in {folder}")
    return warnings


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        shutil.copyfile(source, target)


# --- the environment -------------------------------------------------------------------------------------------------
def _write_environment(manager: Session, folder: Path) -> None:
    root = manager.config.root
    packages = dict(_installed())
    content = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "command": list(sys.argv),
        "reproduce": reproduce_command(manager),
        "git": git_state(root) | {"untracked": _git(root, "ls-files", "--others", "--exclude-standard").splitlines()},
        "packages": {name: package["version"] for name, package in packages.items()},
    }
    (folder / ENVIRONMENT).write_text(hide_secrets(json.dumps(content, indent=1)) + "\n", encoding="utf-8")
    lines = [package["requirement"] for package in packages.values()]
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    changes = _git(root, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff")
    if changes:
        (folder / CHANGES).write_text(changes, encoding="utf-8", errors="surrogateescape")


def requirements() -> list[str]:
    """The installed packages, as lines that pip reads."""
    return [package["requirement"] for _, package in _installed()]


def _installed() -> Iterator[tuple[str, dict[str, str]]]:
    """The installed distributions, with the line that installs the same."""
    from importlib import metadata

    found: dict[str, dict[str, str]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name.lower() not in found:
            found[name.lower()] = {"version": distribution.version, "requirement": _requirement(distribution, name)}
    yield from sorted(found.items())


def _requirement(distribution: metadata.Distribution, name: str) -> str:
    origin: Mapping[str, Any] = {}
    with contextlib.suppress(ValueError):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        return f"{name} @ {origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    if url.startswith("file:"):
        return f"# {name}=={distribution.version} was installed from {url}"
    return f"{name} @ {url}" if url else f"{name}=={distribution.version}"


def _git(root: Path, *arguments: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape")
    return ""


# --- doing it again --------------------------------------------------------------------------------------------------
def selection_arguments(options: Mapping[str, Any]) -> list[str]:
    """The flags that select a run's parameter sets and decide what is computed, out of a run record's ``options``."""
    arguments = []
    for name in ("params", "names", "indices", "global_indices"):
        for value in options.get(name, ()):
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    flags = ("lazy", "ignore_lazy", "no_dag", "keep_going_aggregates")
    return arguments + [f"--{name.replace('_', '-')}" for name in flags if options.get(name)]


def reproduction(manager: Session, experiment: str) -> list[str]:
    """The words of the command that gives the run's results again out of its folder."""
    folder = run_path(manager.config, manager.reference)
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(manager.config.root)
    record = manager.run_record
    arguments = ["experiment", experiment, *selection_arguments(record.options)]
    if record.name != experiment:  # the folder does not tell this experiment its prefix
        arguments += ["--prefix", record.prefix]
    return [*arguments, "--cache", str(folder), "--dry-cache"]


def reproduce_command(manager: Session) -> str:
    """That command, quoted for a shell."""
    record = manager.run_record
    return shlex.join(record.reproduce or reproduction(manager, record.name))


def prefix_of(folder: Path, experiment: str) -> str | None:
    """The prefix of the artifacts in a run's folder; None when it is a run of another experiment."""
    try:
        content = read_record(folder)
        return str(content["prefix"]) if content["name"] == experiment else None
    except (ProjectError, KeyError):
        return None
