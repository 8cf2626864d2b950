"""Artifacts: commit, look up, check out. An artifact is there whole with its digest, or it is not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curidask.errors import ArtifactDamagedError, ArtifactMissingError, ConfigurationError, ObjectMissingError
from curidask.store.manifests import FileEntry, Manifest, manifest_name, stem_of
from curidask.store.objects import ObjectStore, open_objects

FEW = 16
"""Up to so many artifacts are looked up one by one; more are found in one listing."""

BLOCK = 1 << 20
VERIFY = ("digest", "size", "off")


@dataclass(frozen=True, slots=True)
class Checkout:
    """An artifact ready to be loaded.

    Attributes
    ----------
    manifest : Manifest
    folder : Path
        Where its files lie.
    basename : str
        What their names begin with.
    """

    manifest: Manifest
    folder: Path
    basename: str


class Workspace:
    """A private local folder in which a cacher or a stage writes before the commit.

    Whatever lies in it then is the payload. Files are named as they will be in the store.
    """

    def __init__(self, stem: str, take_folder: Callable[[], Path]) -> None:
        self.stem = stem
        self.basename = stem.rpartition("/")[2]
        self._take_folder = take_folder
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder; made when it is first asked for."""
        if self._folder is None:
            self._folder = self._take_folder()
        return self._folder

    def path(self, name: str) -> Path:
        """The path of a file; it may lie in folders below the workspace."""
        return self.folder / name

    def files(self) -> list[str]:
        """What was written, relative to the folder, sorted."""
        if self._folder is None:
            return []
        root = str(self._folder)
        found: list[str] = []
        for folder, _, names in os.walk(root):
            relative = os.path.relpath(folder, root)
            found += names if relative == "." else [f"{relative}/{name}" for name in names]
        return sorted(found)

    def leave(self) -> Path | None:
        """The folder, when it was made; the workspace is done with it."""
        folder, self._folder = self._folder, None
        return folder


class ArtifactStore:
    """Artifacts over an object store.

    Pickles as its address and settings, so that it can be sent to workers.

    Parameters
    ----------
    objects : ObjectStore
    verify : {"digest", "size", "off"}
        What is checked before an artifact is loaded.
    options : dict
        What the object store was opened with.
    """

    def __init__(self, objects: ObjectStore, *, verify: str = "digest", options: dict[str, Any] | None = None) -> None:
        if verify not in VERIFY:
            raise ConfigurationError(f"`verify` is {verify!r}.", fix=f"use one of {', '.join(VERIFY)}")
        self.objects = objects
        self.verify = verify
        self._options = options or {}
        self._spare: dict[tuple[str, bool], Path] = {}
        self._near: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def open(cls, url: str, *, verify: str = "digest", **options: Any) -> ArtifactStore:
        """Open the store at a path or URL."""
        return cls(open_objects(url, **options), verify=verify, options=options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.objects.url, self.verify, self._options)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.objects.url

    @property
    def reads_are_cheap(self) -> bool:
        """Whether a read costs no request."""
        return self.objects.local_root is not None

    # --- what is there -----------------------------------------------------------------------------------------------
    def present(self, stems: Collection[str]) -> set[str]:
        """Those of the artifacts that have a manifest and a payload. No manifest is read."""
        wanted = set(stems)
        if not wanted:
            return set()
        if len(wanted) <= FEW and self.objects.local_root is not None:
            return {stem for stem in wanted if self._has(stem)}
        with_manifest: set[str] = set()
        with_payload: set[str] = set()
        for name in self.objects.list():
            stem = stem_of(name)
            if stem in wanted:
                (with_manifest if name == manifest_name(stem) else with_payload).add(stem)
        return with_manifest & with_payload

    def _has(self, stem: str) -> bool:
        if not self.objects.exists(manifest_name(stem)):
            return False
        manifest = self.manifest(stem)
        return manifest is None or all(self.objects.exists(entry.name) for entry in manifest.files)

    def stems(self) -> set[str]:
        """All artifacts that have a manifest."""
        names = self.objects.list()
        return {stem for name in names if (stem := stem_of(name)) is not None and name == manifest_name(stem)}

    def manifest(self, stem: str) -> Manifest | None:
        """The manifest of an artifact, None when there is none or a damaged one."""
        try:
            return Manifest.from_bytes(self.objects.read(manifest_name(stem)))
        except (ObjectMissingError, ArtifactDamagedError):
            return None

    def manifests(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of several artifacts, without those that have none."""
        found = ((stem, self.manifest(stem)) for stem in stems)
        return {stem: manifest for stem, manifest in found if manifest is not None}

    # --- write -------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def workspace(self, stem: str, *, run: str, scratch: bool = False) -> Iterator[Workspace]:
        """A private folder to write an artifact in; gone afterwards, whatever happened.

        With `scratch` it lies outside of the store, for what will not be committed.
        """
        make = _scratch_folder if scratch else self.objects.work_folder
        workspace = Workspace(stem, lambda: self._spare.pop((run, scratch), None) or make(run))
        try:
            yield workspace
        finally:
            folder = workspace.leave()
            if folder is not None:
                self._give_back(folder, run, scratch)

    def _give_back(self, folder: Path, run: str, scratch: bool) -> None:
        # Making and removing a folder costs more than storing a small artifact, so an empty one serves the next.
        if (run, scratch) not in self._spare and not os.listdir(folder):
            self._spare[run, scratch] = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """Remove the empty work folders that this process keeps for its next artifacts."""
        while self._spare:
            shutil.rmtree(self._spare.popitem()[1], ignore_errors=True)

    def clean_scratch(self, run: str) -> None:
        """Remove what a run has outside of the store on this machine, its ended workers' folders too."""
        self.tidy()
        for folder in Path(tempfile.gettempdir()).glob(f"curidask-{run}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self, workspace: Workspace, manifest: Manifest, *, tracked: Workspace | None = None, replace_whole: bool = False
    ) -> Manifest:
        """Make what lies in the workspace the artifact.

        Parameters
        ----------
        workspace : Workspace
        manifest : Manifest
            Without its files.
        tracked : Workspace, optional
            Further files that belong to the stage.
        replace_whole : bool
            Replace a whole artifact of the same key; otherwise that one stays and its manifest is returned.

        Notes
        -----
        The payload goes first and the manifest last, each file in one atomic step. Interleaving with a reader while an
        artifact is replaced: the reader has the old manifest, the writer moves the new payload in, the reader finds a
        digest that does not match and takes the artifact for missing; it computes or looks again. It never gets new
        bytes under an old description. Two writers of one key: the last manifest may describe the first payload when
        the two differ, which reads as missing in the same way, and is made once more.
        """
        if not replace_whole:
            with contextlib.suppress(ArtifactMissingError):
                return self.checkout(manifest.stem, manifest.key).manifest
        names = workspace.files()
        if not names:
            # A cacher that keeps all it has in its metadata still needs a payload to be found by.
            workspace.path(workspace.basename).write_bytes(b"")
            names = [workspace.basename]
        files = self._move(workspace, names)
        extra = self._move(tracked, tracked.files()) if tracked is not None else ()
        whole = replace(manifest, files=files, tracked=extra)
        self.objects.write(manifest_name(manifest.stem), whole.to_bytes())
        return whole

    def _move(self, workspace: Workspace, names: Iterable[str]) -> tuple[FileEntry, ...]:
        folder = workspace.stem[: len(workspace.stem) - len(workspace.basename)]
        entries = []
        for name in names:
            path = workspace.path(name)
            size, sha256 = _measure(path)
            self.objects.adopt(path, folder + name)
            entries.append(FileEntry(folder + name, size, sha256))
        return tuple(entries)

    def discard(self, stem: str) -> None:
        """Remove an artifact: the manifest first, so that it is gone before it is incomplete."""
        manifest = self.manifest(stem)
        self.objects.remove(manifest_name(stem))
        for entry in (*manifest.files, *manifest.tracked) if manifest is not None else ():
            self.objects.remove(entry.name)

    def clean(self, run: str) -> None:
        """Remove the work folders of a run, those of killed workers too."""
        self.clean_scratch(run)
        self.objects.clean(run)

    # --- read --------------------------------------------------------------------------------------------------------
    def checkout(self, stem: str, key: str) -> Checkout:
        """Verify an artifact and give the folder in which its files lie.

        Raises
        ------
        ArtifactMissingError
            When it is not there.
        ArtifactDamagedError
            When it is not what was committed.
        """
        try:
            manifest = Manifest.from_bytes(self.objects.read(manifest_name(stem)))
        except ObjectMissingError:
            raise ArtifactMissingError(f"There is no artifact {stem} in the cache.", where=self.url) from None
        except ArtifactDamagedError as error:
            raise _damaged(stem, "its manifest does not hold what was written", self.url) from error
        if manifest.key != key:
            raise _damaged(stem, "its manifest belongs to another key", self.url)
        folder, basename = self._provide(stem, manifest)
        return Checkout(manifest, folder, basename)

    def _provide(self, stem: str, manifest: Manifest) -> tuple[Path, str]:
        entries = (*manifest.files, *manifest.tracked)
        parent, _, basename = stem.rpartition("/")
        if self.objects.local_root is not None:
            for entry in entries:
                self._check(stem, entry, self.objects.local_root / entry.name)
            return self.objects.local_root / parent, basename
        folder = self._near_folder() / manifest.digest
        for entry in entries:
            self._bring(stem, entry, folder / entry.name)
        return folder / parent, basename

    def _check(self, stem: str, entry: FileEntry, path: Path) -> None:
        try:
            if self.verify == "off" and path.exists():
                return
            size = os.stat(path).st_size
            sha256 = entry.sha256 if self.verify == "size" else ""
            if size == entry.size_bytes and not sha256:
                size, sha256 = _measure(path)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactDamagedError(
                f"The artifact {stem} is damaged: {entry.name} is gone.", where=self.url
            ) from None
        except OSError as error:
            raise _damaged(stem, f"{entry.name} cannot be read ({error.strerror})", self.url) from error
        if size != entry.size_bytes:
            raise _damaged(stem, f"{entry.name} has {size} bytes instead of {entry.size_bytes}", self.url)
        if sha256 != entry.sha256:
            raise _damaged(stem, f"{entry.name} does not hold the bytes that were written", self.url)

    def _bring(self, stem: str, entry: FileEntry, path: Path) -> None:
        """Have a remote file on this disk, verified after the way."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        arriving = path.with_name(f".{uuid.uuid4().hex[:12]}")
        try:
            self.objects.fetch(entry.name, arriving)
            self._check(stem, entry, arriving)
            os.replace(arriving, path)
        except ObjectMissingError:
            raise _damaged(stem, f"{entry.name} is gone", self.url) from None
        finally:
            arriving.unlink(missing_ok=True)

    def _near_folder(self) -> Path:
        if self._near is None:
            self._near = tempfile.TemporaryDirectory(prefix="curidask-near-")
        return Path(self._near.name)


def _scratch_folder(run: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"curidask-{run}-"))


def _reopen(url: str, verify: str, options: dict[str, Any]) -> ArtifactStore:
    return ArtifactStore.open(url, verify=verify, **options)


def _damaged(stem: str, why: str, url: str) -> ArtifactDamagedError:
    return ArtifactDamagedError(f"The artifact {stem} is damaged: {why}.", where=url)


def _measure(path: str | Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    hasher, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            hasher.update(block)
            size += len(block)
    return size, hasher.hexdigest()
