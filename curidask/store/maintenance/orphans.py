"""What killed processes leave in and beside a store: working folders, temporary files, claims, and objects of checks.

None of it is ever read as an artifact. What a run that may be going on could still need stays: each run says in the
store what its claims and its working folders are known by, before it makes one (see
`curidask.store.maintenance.usage`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from curidask.core.artifact_names import is_temporary, safe_part
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.local import remove_tree
from curidask.store.claims import OWNERS, PREFIX, Owner
from curidask.store.maintenance.usage import GC, RUNS, Uses, remove_each
from curidask.store.maintenance.verify import TRIALS
from curidask.store.manifest import LARGE_BYTES, is_seconds, parse_object

_TRIAL = re.compile(re.escape(TRIALS) + r"(\d+)-.*")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What may be removed.

    Attributes
    ----------
    paths : list of Path
        Folders and files of this machine.
    names : list of str
        Objects of the store.
    """

    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths) + len(self.names)


def find_leftovers(store: ArtifactStore, uses: Uses, now: float, age_seconds: float) -> Leftovers:
    """Find what is older than some time and belongs to no run that may be going on.

    Parameters
    ----------
    uses : Uses
        Of the store; brought up to date.
    now : float
        Seconds since 1970.
    age_seconds : float
        What is younger stays, whoever made it.
    """
    # Looked for before the runs are: what a run makes that begins in between is then not among it.
    paths = list(_paths(store))
    claims = store.objects.read_many([*store.objects.list(PREFIX), *store.objects.list(OWNERS)])
    trials = store.objects.list(TRIALS)
    removals = store.objects.read_many(store.objects.list(GC))
    active = [use for use in uses.refresh() if use.is_active(now)]
    running = {safe_part(use.work, 60) for use in active}
    sessions = {use.session for use in active}
    old = now - age_seconds
    return Leftovers(
        [path for run, path in paths if run not in running and _changed(path) < old],
        [name for name, data in claims.items() if _is_over(data, sessions, old)]
        + [name for name, data in removals.items() if _since(data) < old]
        + [name for name in trials if (match := _TRIAL.fullmatch(name)) and int(match[1]) < old],
    )


def remove_leftovers(store: ArtifactStore, found: Leftovers, refused: dict[str, str]) -> int:
    """Remove them; how many could be. Those that could not go into `refused`, with why."""
    left = remove_each(store.objects, found.names)
    refused |= left
    return len(found.names) - len(left) + sum(_remove(path) for path in found.paths)


def _paths(store: ArtifactStore) -> Iterator[tuple[str, Path]]:
    """Working folders with the run they are named after, and files that a write was to replace others with."""
    yield from store.work_folders()
    root = store.objects.local_root
    if root is not None:
        yield from (("", path) for path in root.glob(".probe-*"))
        yield from (("", path) for path in _temporary(root))


def _temporary(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):  # unlike Path.rglob, it passes over what vanishes meanwhile
        if folder != str(root) and RUNS.rstrip("/") in folders:
            folders.clear()  # a cache of its own, whose runs are not known here
            continue
        yield from (Path(folder, name) for name in (*folders, *files) if is_temporary(name))
        folders[:] = [name for name in folders if not name.startswith((".work-", ".tmp-"))]


def _is_over(data: bytes, sessions: set[str], old: float) -> bool:
    """Whether a claim is that of a run which is over. One that cannot be read may be one that is being written."""
    owner = Owner.from_bytes(data)
    return owner is not None and owner.session not in sessions and owner.since < old


def _since(data: bytes) -> float:
    """When somebody said that he is about to remove something."""
    try:
        since = parse_object(data, LARGE_BYTES).get("since")
    except ValueError:
        return float("inf")
    return float(since) if is_seconds(since) else float("inf")


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")


def _remove(path: Path) -> bool:
    with suppress(OSError):  # gone meanwhile, or another user's
        remove_tree(str(path))
    return not os.path.lexists(path)
