"""Copying artifacts from store to store: verified on the way, as they are, in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import Enum

from curidask.core.artifact_names import UNTRACKED, stem_of
from curidask.errors import ArtifactDamagedError, ArtifactMissingError, ArtifactNewerError
from curidask.store.artifacts import READ_ATTEMPTS, ArtifactStore
from curidask.store.backends.remote import lay_out
from curidask.store.base import Store
from curidask.store.checkout import all_files
from curidask.store.integrity import damaged, fetch_verified
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.payload import Prepared
from curidask.store.workspace import Workspace, copying

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
    problem : str
        Why it failed, or is missing.
    """

    stem: str
    result: Result
    size_bytes: int = 0
    problem: str = ""


def copy_artifact(
    source: ArtifactStore, target: ArtifactStore, stem: str, *, key: str = "", cacher: str = "", exact: bool = False
) -> Manifest:
    """Copy an artifact with the files its stage wrote beside it; the manifest is copied as it is, with its signature.

    Parameters
    ----------
    key, cacher : str, optional
        What it must have; see `Store.checkout`.
    exact : bool
        The target is a picture of what a run used: whatever else lies there under this name makes way, and files that
        the stage does not want tracked stay behind. Without, a whole artifact of the same key stays, and all files go.

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
            return _copy_exactly(source, target, manifest) if exact else _copy(source, target, manifest, data)
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
        for space in spaces.values():
            inside = [path.removeprefix(f"{space.location}/") for path in paths.values()]
            list(lay_out(os.fspath(space.folder), inside))
        return target.put(Prepared(manifest, _tops(spaces)), data=data)


def _copy_exactly(source: ArtifactStore, target: ArtifactStore, manifest: Manifest) -> Manifest:
    wanted = replace(manifest, tracked=tuple(entry for entry in manifest.tracked if _is_tracked(entry)))
    if target.whole(manifest.stem) == wanted:
        return wanted
    target.discard(manifest.stem)
    return _copy(source, target, wanted, b"")


def _is_tracked(entry: FileEntry) -> bool:
    return not entry.name[len(stem_of(entry.name) or "") :].startswith(UNTRACKED)


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
        fetch_verified(source.objects.fetch, replace(entries[name], name=name), paths[name], "digest")

    if min(len(entries), FILES_AT_ONCE) < 2:
        for name in entries:
            fetch(name)
        return
    with ThreadPoolExecutor(min(FILES_AT_ONCE, len(entries)), "curidask-copy") as pool:
        list(pool.map(fetch, entries))


def copy_artifacts(
    source: Store,
    target: ArtifactStore,
    stems: Iterable[str],
    *,
    exact: bool = False,
    told: Callable[[Transferred], None] = lambda done: None,
) -> list[Transferred]:
    """Copy artifacts in parallel. What the target has already is passed over, so it can be broken off and repeated.

    Parameters
    ----------
    exact : bool
        See `copy_artifact`.
    told : callable
        Is called with each artifact when it is done.

    Returns
    -------
    list of Transferred
        In the order of `stems`, each once.

    Raises
    ------
    CacheError
        When the target cannot be written.
    """
    wanted = list(dict.fromkeys(stems))
    job = _Copying(source, target, target.present(wanted), exact)
    in_source = source.present(wanted)
    results = []
    try:
        with ThreadPoolExecutor(min(ARTIFACTS_AT_ONCE, max(1, len(wanted))), "curidask-copy") as pool:
            jobs = [pool.submit(job.copy, stem, stem in in_source) for stem in wanted]
            try:
                for one in jobs:
                    told(done := one.result())
                    results.append(done)
            finally:
                for one in jobs:
                    one.cancel()
    finally:
        target.clean(copying())
    return results


@dataclass(frozen=True, slots=True)
class _Copying:
    source: Store
    target: ArtifactStore
    there: set[str]
    exact: bool

    def copy(self, stem: str, in_source: bool) -> Transferred:
        # In a folder a look at the files costs little, and a damaged one is worth to be copied again.
        if stem in self.there and not self.exact and self._is_whole(stem):
            return Transferred(stem, Result.THERE)
        if not in_source:
            return Transferred(stem, Result.MISSING, problem=f"it is not in {self.source.url}")
        problem = ""
        for source in self.source.sources:
            try:
                return Transferred(
                    stem, Result.COPIED, copy_artifact(source, self.target, stem, exact=self.exact).size_bytes
                )
            except ArtifactMissingError as error:
                problem = error.notice if not problem or type(error) is not ArtifactMissingError else problem
            except ArtifactNewerError as error:
                problem = error.what
        return Transferred(stem, Result.FAILED, problem=problem)

    def _is_whole(self, stem: str) -> bool:
        try:
            return not self.target.reads_are_cheap or self.target.whole(stem) is not None
        except ArtifactNewerError:
            return True  # it is left alone
