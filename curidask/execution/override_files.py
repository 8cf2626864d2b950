"""Files that `path_override` names: whose they are, and those of the user's own in place of what a stage computes.

A file at such a path is ours when it is what curidask put there, or what a stage under `PathRef` wrote there; a note
beside it says so. One that was changed since is neither taken for the artifact nor written to. Any other file is the
user's: it is the artifact, and it is never written to.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from curidask.caching.base import Cacheable
from curidask.caching.path_refs import look_at
from curidask.core.graph import GivenFile, RecordInfo
from curidask.core.spec import OutputSpec, StageSpec
from curidask.errors import CacheError
from curidask.execution.artifact_io import bind
from curidask.execution.base import Job
from curidask.store.atomic import write_atomically

logger = logging.getLogger("curidask.run")


@dataclass(frozen=True, slots=True)
class Override:
    """Where `path_override` wants an output.

    Attributes
    ----------
    asked, path : str
        With its template filled in, and absolute.
    """

    asked: str
    path: str
    cacher: Cacheable


def find_override(output: OutputSpec, stage: str, record: RecordInfo, root: Path) -> Override | None:
    """The place that an output's cacher asks for; None where it asks for none.

    Parameters
    ----------
    root : Path
        Where relative paths start.

    Raises
    ------
    CacheError
        For a template that cannot be filled in.
    """
    if getattr(output.cacher, "path_override", None) is None:
        return None
    cacher = bind(output.cacher, Path(), "", output.name, stage, record)
    asked = cacher.override_path()
    if asked is None:
        return None
    return Override(asked, os.path.abspath(root / os.path.expanduser(asked)), cacher)


class GivenFiles:
    """Finds the files of the user's own that serve as outputs.

    Parameters
    ----------
    root : Path
        Where relative paths start.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[tuple[str, tuple[Any, ...]], str] = {}

    def find(self, spec: StageSpec, outputs: Sequence[OutputSpec], record: RecordInfo) -> tuple[GivenFile, ...]:
        """One file for each output of a stage on a record, or none at all: outputs are reused together.

        Raises
        ------
        CacheError
        """
        found = []
        for output in outputs:
            override = find_override(output, spec.name, record, self._root)
            if override is None or (_is_one_file(override.cacher) and not os.path.isfile(override.path)):
                return ()
            digest = self._users_own(override.path)
            if not digest:
                return ()
            found.append(GivenFile(override.path, digest))
        return tuple(found)

    def _users_own(self, path: str) -> str:
        """The digest of what lies at a path when it is the user's; empty when it is ours or there is nothing."""
        known = (path, _look(path))
        if known not in self._digests:
            self._digests[known] = _digest(path) if owner(path) is Owner.USER else ""
            if self._digests[known]:
                logger.info("%s is there and is no result of a run, so it is taken as what its stage makes", path)
        return self._digests[known]


def _is_one_file(cacher: Cacheable) -> bool:
    """Whether what a cacher writes begins with a file, rather than being a folder."""
    return cacher.publishes and bool(cacher.extension)


def _look(path: str) -> tuple[tuple[str, int, int, int], ...]:
    """What tells without reading that a file, or one in a folder, was changed."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    seen = []
    for file in sorted(files):
        with suppress(OSError):
            status = os.stat(file)
            seen.append((file, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(seen)


def load_given(job: Job) -> Any:
    """What a job's function would return, out of the user's files.

    Raises
    ------
    CacheError
        When one is not what it was when the run was planned, or not on this machine.
    """
    values = [_load(job, output.cacher, file) for output, file in zip(job.outputs, job.given, strict=True)]
    return values[0] if len(values) == 1 else values


def _load(job: Job, template: Any, file: GivenFile) -> Any:
    if _digest(file.path) != file.digest:
        raise CacheError(
            f"The file {file.path!r}, which `path_override` names, is not what it was when the run began.",
            where=job.label,
            fix="leave it alone while the run goes on, and put it where all workers see it",
        )
    cacher = template() if isinstance(template, type) else copy.copy(template)
    cacher.path_override, cacher.record, cacher.stage = file.path, None, job.spec.name
    try:
        return cacher.load()
    except Exception as error:
        raise CacheError(
            f"{type(cacher).__name__} could not load the file {file.path!r}: {type(error).__name__}: {error}",
            where=job.label,
            fix="it was there before and is not a result of a run, so it is taken as the stage's output: correct it, "
            "or move it away to let the stage run",
        ) from error


# --- whose it is -----------------------------------------------------------------------------------------------------
class Owner(Enum):
    """Whose a file is."""

    NOBODY = "there is none"
    CURIDASK = "as it was written"
    CHANGED = "changed since it was written"
    USER = "not written by curidask"


def owner(path: str) -> Owner:
    """Whose the file or folder at a path is."""
    if not os.path.lexists(path):
        return Owner.NOBODY
    try:
        noted = json.loads(Path(_note_path(path)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Owner.USER
    except (OSError, ValueError):
        return Owner.CHANGED
    return Owner.CURIDASK if isinstance(noted, dict) and noted.get("sha256") == _digest(path) else Owner.CHANGED


def note_ours(path: str) -> None:
    """Note down that what lies at a path now is ours.

    Raises
    ------
    OSError
    """
    noted = {"written by": "curidask", "sha256": _digest(path)}
    write_atomically(Path(_note_path(path)), json.dumps(noted) + "\n")


def _note_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.curidask")


def _digest(path: str) -> str:
    with suppress(OSError):
        found = look_at(path, digest=True)
        return "" if found is None else str(found["sha256"])
    return ""
