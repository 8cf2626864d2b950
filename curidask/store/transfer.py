"""Copying artifacts from store to store: verified on the way, as they are, in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum

from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CuridaskError, ObjectMissingError
from curidask.store.artifacts import READ_ATTEMPTS, ArtifactStore
from curidask.store.bringing import all_files
from curidask.store.manifests import Manifest, stem_of
from curidask.store.payload import Prepared, Workspace, check_file, damaged
from curidask.store.workspaces import copying

FILES_AT_ONCE = 8
ARTIFACTS_AT_ONCE = 16


class Result(Enum):
    """What became of an artifact that was to be copied."""

    COPIED = "copied"
    THERE = "there already"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Transferred:
    """How copying an artifact ended.

    Attributes
    ----------
    stem : str
    result : Result
    size_bytes : int
    problem : str
        Why it failed, or is missing.
    """

    stem: str
    result: Result
    size_bytes: int = 0
    problem: str = ""


def copy_artifact(
    source: ArtifactStore, target: ArtifactStore, stem: str, *, key: str = "", cacher: str = ""
) -> Manifest:
    """Copy an artifact with the files its stage wrote beside it; the manifest is copied as it is, with its signature.

    A whole one of the same key in the target stays.

    Parameters
    ----------
    source, target : ArtifactStore
    stem : str
    key, cacher : str, optional
        What it must have; see `ArtifactStore.checkout`.

    Raises
    ------
    ArtifactMissingError, ArtifactUntrustedError, ArtifactDamagedError
        When the source does not hold it whole.
    CacheError
        When the target cannot be written; it then holds the artifact whole or not at all.
    """
    for _ in range(READ_ATTEMPTS):
        data = source.catalog.raw(stem)
        if data is None:
            break
        try:
            catalog = source.catalog
            manifest = catalog.claimed(stem, data, key, cacher) if key else catalog.parse(stem, data)
            return _copy(source, target, manifest, data)
        except ArtifactDamagedError:
            # Race: it is replaced between the look at its manifest and the copy. A second look sees the new one.
            if source.catalog.raw(stem) == data:
                raise
    raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=source.url)


def _copy(source: ArtifactStore, target: ArtifactStore, manifest: Manifest, data: bytes) -> Manifest:
    markers = {stem_of(entry.name) or manifest.stem: None for entry in manifest.tracked}
    with ExitStack() as stack:
        spaces = {
            stem: stack.enter_context(target.workspace(stem, run=copying()))
            for stem in {manifest.stem: None, **markers}
        }
        paths = {name: _place(spaces, name) for name in all_files(manifest)}
        _fetch_all(source, manifest, paths)
        return target.put(Prepared(manifest, _tops(spaces)), data=data)


def _place(spaces: Mapping[str, Workspace], name: str) -> str:
    """Where a file goes in the working folder of the artifact that its name begins with."""
    space = spaces.get(stem_of(name) or "")
    if space is None:
        raise damaged(name, "does not belong to it")
    path = space.path(name[len(space.stem) - len(space.basename) :])
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fspath(path)


def _tops(spaces: Mapping[str, Workspace]) -> dict[str, str]:
    moves = {}
    for space in spaces.values():
        subdir = space.stem[: len(space.stem) - len(space.basename)]
        moves.update({subdir + name: f"{space.location}/{name}" for name in sorted(os.listdir(space.folder))})
    return moves


def _fetch_all(source: ArtifactStore, manifest: Manifest, paths: Mapping[str, str]) -> None:
    entries = all_files(manifest)

    def fetch(name: str) -> None:
        try:
            source.objects.fetch(name, paths[name])
        except ObjectMissingError as error:
            raise damaged(name, "is gone") from error
        check_file(paths[name], name, entries[name], "digest")

    if min(len(entries), FILES_AT_ONCE) < 2:
        for name in entries:
            fetch(name)
        return
    with ThreadPoolExecutor(min(FILES_AT_ONCE, len(entries)), "curidask-copy") as pool:
        list(pool.map(fetch, entries))


def copy_artifacts(
    source: ArtifactStore,
    target: ArtifactStore,
    stems: Iterable[str],
    *,
    told: Callable[[Transferred], None] = lambda done: None,
) -> list[Transferred]:
    """Copy artifacts in parallel. What the target has already is passed over, so it can be broken off and repeated.

    Parameters
    ----------
    source, target : ArtifactStore
    stems : iterable of str
    told : callable
        Is called with each artifact when it is done.

    Returns
    -------
    list of Transferred
        In no order.
    """
    wanted = list(dict.fromkeys(stems))
    there = target.present(wanted)
    in_source = source.present(wanted)
    results = []
    try:
        for done in _copy_all(source, target, wanted, there, in_source):
            told(done)
            results.append(done)
    finally:
        target.clean(copying())
    return results


def _copy_all(
    source: ArtifactStore, target: ArtifactStore, wanted: list[str], there: set[str], in_source: set[str]
) -> Iterator[Transferred]:
    def copy(stem: str) -> Transferred:
        # In a folder a look at the files costs little, and a damaged one is worth to be copied again.
        if stem in there and (not target.reads_are_cheap or target.whole(stem) is not None):
            return Transferred(stem, Result.THERE)
        if stem not in in_source:
            return Transferred(stem, Result.MISSING, problem=f"it is not in {source.url}")
        try:
            size_bytes = copy_artifact(source, target, stem).size_bytes
        except CuridaskError as error:
            return Transferred(stem, Result.FAILED, problem=error.what)
        return Transferred(stem, Result.COPIED, size_bytes)

    with ThreadPoolExecutor(min(ARTIFACTS_AT_ONCE, max(1, len(wanted))), "curidask-copy") as pool:
        jobs = [pool.submit(copy, stem) for stem in wanted]
        try:
            for job in jobs:
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()
