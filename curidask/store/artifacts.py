"""Artifacts: committed in one step, verified when read.

The payload goes first and the manifest last, in one atomic write; without a manifest there is no artifact. Reading
checks each file against the manifest, so whatever went wrong between the two shows as a miss, never as a wrong value.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CacheError, ObjectMissingError
from curidask.store.keys import common_beginning
from curidask.store.manifests import (
    FileEntry,
    Manifest,
    content_digest,
    manifest_name,
    safe_part,
    stem_of,
)
from curidask.store.objects import ObjectStore, Stored, open_objects
from curidask.store.payload import (
    Checkout,
    Verify,
    Workspace,
    check_file,
    checked_verify,
    damaged,
    download,
    hash_moves,
    process_folder,
    same_form,
    scan,
    top_folder,
    whole_stems,
    with_digests,
)

__all__ = ["ArtifactStore", "Checkout", "Verify", "Workspace"]

FEW = 16
READ_ATTEMPTS = 3
PLACEHOLDER = ".empty"


class ArtifactStore:
    """Artifacts in an object store.

    Parameters
    ----------
    objects : ObjectStore
    verify : {"digest", "size", "off"}
        What reading checks of each file.
    writable : bool
        False refuses every change; workspaces then lie outside the store.
    near : Path, optional
        Where files of a store that is no local folder are downloaded to. By default a folder of the process, removed
        at its end.

    Notes
    -----
    Safe to use from several threads and processes. It pickles as its address and options, not as open connections.
    """

    def __init__(
        self, objects: ObjectStore, *, verify: str = "digest", writable: bool = True, near: Path | None = None
    ) -> None:
        self.objects = objects
        self.verify = checked_verify(verify)
        self.writable = writable
        self.near = near
        self._folder = f"{objects.local_root}/" if objects.local_root is not None else None
        self._spare: dict[str, list[str]] = {}

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        verify: str = "digest",
        writable: bool = True,
        near: Path | None = None,
        **options: Any,
    ) -> ArtifactStore:
        """Open the store at a folder or URL; nothing is made or requested yet."""
        return cls(open_objects(url, **options), verify=verify, writable=writable, near=near)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.objects, self.verify, self.writable, self.near))

    def __repr__(self) -> str:
        return f"<ArtifactStore {self.objects.url}>"

    @property
    def url(self) -> str:
        """Where it is."""
        return self.objects.url

    @property
    def reads_are_cheap(self) -> bool:
        """Whether a check of an artifact costs no request."""
        return self._folder is not None

    def check_writable(self) -> None:
        """Raise a `CacheError` that says how to fix it, when artifacts cannot be stored."""
        self._refuse_if_read_only()
        self.objects.check_writable()

    # --- looking -----------------------------------------------------------------------------------------------------
    def present(self, stems: Collection[str]) -> set[str]:
        """Those that have a manifest and payload; one listing, however many are asked for."""
        if len(stems) > FEW:
            return whole_stems(self.objects.list(common_beginning(stems))) & set(stems)
        # A listing costs more than to read a few small manifests, which name the payload.
        first = {stem + m.files[0].name: stem for stem, m in self.manifests(stems).items() if m.files}
        return {first[name] for name in self.objects.exists(first)}

    def having(self, names: Collection[str]) -> set[str]:
        """Those of the object names that are there; one listing when they are many."""
        if len(names) > FEW:
            return set(names).intersection(self.objects.list(common_beginning(names)))
        return self.objects.exists(names)

    def manifest(self, stem: str) -> Manifest | None:
        """The manifest of an artifact, None where there is none or a damaged one."""
        return self.manifests([stem]).get(stem)

    def manifests(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of those that have a whole one, read together."""
        by_name = {manifest_name(stem): stem for stem in stems}
        found = {}
        for name, data in self.objects.read_many(by_name).items():
            with suppress(ArtifactDamagedError):
                found[by_name[name]] = self._parse(by_name[name], data)
        return found

    # --- writing -----------------------------------------------------------------------------------------------------
    def workspace(self, stem: str, *, run: str) -> Workspace:
        """A private folder for what will be committed as `stem`.

        In a local store it lies in the store's own folder, so that a commit is a rename on the same disk.
        """
        in_store = self._folder is not None and self.writable
        location = f"{self._work_prefix(run)}{os.urandom(4).hex()}"
        return Workspace(stem, location, 0o777 if in_store else 0o700, self._spare.setdefault(run, []))

    def tidy(self) -> None:
        """Remove the empty working folders that this process keeps for its next artifacts."""
        for folders in self._spare.values():
            while folders:
                shutil.rmtree(folders.pop(), ignore_errors=True)

    def clean(self, run: str) -> None:
        """Remove the working folders that killed workers of a run left on this machine.

        Call it when no worker of that run is alive.
        """
        self.tidy()
        folder, _, prefix = self._work_prefix(run).rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(folder):
                if name[:-8] == prefix:
                    shutil.rmtree(f"{folder}/{name}", ignore_errors=True)

    def commit(
        self,
        workspace: Workspace,
        manifest: Manifest,
        *,
        tracked: Workspace | tuple[FileEntry, ...] | None = None,
        replace_whole: bool = False,
    ) -> Manifest:
        """Store what lies in a workspace as the artifact that a manifest describes.

        Parameters
        ----------
        workspace : Workspace
        manifest : Manifest
            Its `files` and `tracked` are filled in here.
        tracked : Workspace or tuple of FileEntry, optional
            What the stage wrote beside its outputs, to be kept, checked and removed together with this artifact. As
            entries: another artifact of the stage has taken it into the store already.
        replace_whole : bool
            Put it in the place of a whole artifact with the same key. Without, that one stays: same key, same result.

        Returns
        -------
        Manifest
            The one that is in the store now.

        Raises
        ------
        CacheError
            When it cannot be written; what was there before is then still there, or is a miss.
        NotJsonError
            When the cacher's `extra_metadata` is not JSON.
        """
        self._refuse_if_read_only()
        hashed = self._folder is not None  # else it is done on the way
        moves, files = scan(workspace, manifest.cacher, hashed=hashed)
        if not files:
            workspace.path(workspace.basename + PLACEHOLDER).touch()
            moves, files = scan(workspace, manifest.cacher, hashed=hashed)
        taken: tuple[FileEntry, ...] = tracked if isinstance(tracked, tuple) else ()
        what = f"The stage {manifest.stage!r}"
        beside = scan(tracked, what, hashed=hashed) if isinstance(tracked, Workspace) else ({}, taken)
        start = len(workspace.stem)
        files = tuple(with_fields(entry, name=entry.name[start:]) for entry in files)
        manifest = with_fields(manifest, stem=workspace.stem, files=files, tracked=beside[1])
        data = manifest.to_bytes()
        if not hashed:
            return self._upload(moves | beside[0], manifest, replace_whole, {entry.name for entry in taken})
        seen, old = self._examine(workspace.stem)  # outside the lock: it may read a large payload
        with self.objects.lock():
            if self._raw(workspace.stem) != seen:
                seen, old = self._examine(workspace.stem)
            if old is not None and not replace_whole and same_form(old, manifest):
                return old
            self._put(moves | beside[0], manifest, data, seen, old, {entry.name for entry in taken})
        return manifest

    def discard(self, stem: str) -> None:
        """Remove an artifact: the manifest first, so that it is never there in part."""
        self._refuse_if_read_only()
        with self.objects.lock():
            self._remove(stem, self._raw(stem))
            self.objects.remove(self._objects_of(stem))

    def _put(
        self,
        moves: dict[str, str],
        manifest: Manifest,
        data: bytes,
        seen: bytes | None,
        old: Manifest | None,
        taken: Collection[str],
    ) -> None:
        stem = manifest.stem
        if old is None or old.digest != manifest.digest or old.tracked != manifest.tracked:
            # Readers hold no lock. One that read the old manifest and then finds new payload reads the manifest again
            # and sees that it is gone or another: a miss, or the new artifact; see `checkout`. Were the old manifest
            # still there, it would report damage. A writer that dies from here on leaves no manifest: a miss.
            if seen is not None:
                self._remove(stem, seen, taken)
            self.objects.adopt_many(moves)
        # With equal content the old payload stays, verified, and only the description is replaced, in one step.
        self.objects.write(manifest_name(stem), data)

    def _upload(
        self, moves: dict[str, str], manifest: Manifest, replace_whole: bool, taken: Collection[str]
    ) -> Manifest:
        """Do the same in a place in the network: each file is read once, while it is uploaded.

        Without a manifest nothing is looked for: what a writer that died left there is not in the new manifest either.
        """
        stem = manifest.stem
        with self.objects.lock(stem):
            seen, old = self._examine(stem)
            if seen is not None:
                if old is not None and not replace_whole and same_form(old, manifest):
                    return old
                if old is not None:
                    manifest = _with_digests(manifest, hash_moves(moves))
                    if old.digest == manifest.digest and old.tracked == manifest.tracked:
                        # The old payload stays, verified, and only the description is replaced, in one step.
                        self.objects.write(manifest_name(stem), manifest.to_bytes())
                        return manifest
                self._remove(stem, seen, taken)
            if seen is not None or not self.objects.shared:
                new = {stem + entry.name for entry in manifest.files}
                self.objects.remove([n for n in self._objects_of(stem) if n not in new and n not in taken])
            manifest = _with_digests(manifest, self.objects.adopt_many(moves))
            self.objects.write(manifest_name(stem), manifest.to_bytes())
        return manifest

    def _objects_of(self, stem: str) -> list[str]:
        return [name for name in self.objects.list(stem) if stem_of(name) == stem]

    def _remove(self, stem: str, seen: bytes | None, spare: Collection[str] = ()) -> None:
        self.objects.remove([manifest_name(stem)])
        if seen is None:
            return
        try:
            manifest = Manifest.from_bytes(seen)
            names = [stem + entry.name for entry in manifest.files] + [entry.name for entry in manifest.tracked]
        except ArtifactDamagedError:
            names = self._objects_of(stem)
        self.objects.remove([name for name in names if name not in spare])

    # --- reading -----------------------------------------------------------------------------------------------------
    def checkout(self, stem: str, key: str, *, cacher: str = "") -> Checkout:
        """Bring an artifact's files into a local folder and verify them.

        Parameters
        ----------
        stem, key : str
            Its store name, and the key it must have.
        cacher : str, optional
            The class that will load it; an artifact that another class wrote counts as missing.

        Raises
        ------
        ArtifactMissingError
            When it is not there.
        ArtifactDamagedError
            Naming the file that is not what was committed.

        Notes
        -----
        Files of a local store are used in place. When another process replaces the artifact between the check and the
        load, the load sees the new files: same key, so another result only where the stage gives another each time,
        and then still one that was committed under this key. Removed files raise FileNotFoundError when opened.
        """
        data = self._raw(stem)
        for _ in range(READ_ATTEMPTS):
            if data is None:
                raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)
            try:
                return self._bring(stem, self._claimed(stem, data, key, cacher), self.verify)
            except ArtifactDamagedError:
                # Race: read the manifest here, another process replaces the artifact, then checked its new payload.
                # Only when the manifest is still the same one, something is damaged.
                before, data = data, self._raw(stem)
                if data == before:
                    raise
        raise ArtifactMissingError(f"The artifact {stem!r} is being replaced again and again.", where=self.url)

    def verify_artifact(self, stem: str) -> Manifest:
        """Check an artifact in full, whatever `verify` is.

        Raises
        ------
        ArtifactMissingError, ArtifactDamagedError
        """
        data = self._raw(stem)
        if data is None:
            raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)
        manifest = self._parse(stem, data)
        with self._unshared() as store:
            store._bring(stem, manifest, "digest")
        return manifest

    def restore_tracked(self, manifest: Manifest) -> dict[str, Path]:
        """Bring the files that a stage wrote beside its outputs, verified, by their names in the store.

        Raises
        ------
        ArtifactDamagedError
            Naming the file that is gone or changed.
        """
        return self._bring_tracked(manifest, self.verify)

    def _raw(self, stem: str) -> bytes | None:
        try:
            return self.objects.read(manifest_name(stem))
        except ObjectMissingError:
            return None

    def _parse(self, stem: str, data: bytes) -> Manifest:
        manifest = Manifest.from_bytes(data, where=stem)
        if not stem.endswith("." + manifest.key[:12]):
            raise ArtifactDamagedError(f"The manifest of {stem!r} is that of another artifact.", where=self.url)
        return manifest

    def _claimed(self, stem: str, data: bytes, key: str, cacher: str) -> Manifest:
        manifest = self._parse(stem, data)
        if manifest.key != key:
            raise ArtifactMissingError(f"The artifact {stem!r} has another key.", where=self.url)
        if cacher and manifest.cacher != cacher:
            what = f"The artifact {stem!r} was written by {manifest.cacher}, not by {cacher}."
            raise ArtifactMissingError(what, where=self.url)
        return manifest

    def _examine(self, stem: str) -> tuple[bytes | None, Manifest | None]:
        """The manifest's bytes as they are, and the manifest when the artifact is whole."""
        data = self._raw(stem)
        if data is None:
            return None, None
        verify: Verify = "size" if self.verify == "off" else self.verify
        with suppress(ArtifactDamagedError), self._unshared() as store:
            manifest = self._parse(stem, data)
            store._bring(stem, manifest, verify)
            return data, manifest
        return data, None

    @contextmanager
    def _unshared(self) -> Iterator[ArtifactStore]:
        """The store without what was downloaded before: a good copy here says nothing about the store's own."""
        if self._folder is not None:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="curidask-check-") as folder:
            yield ArtifactStore(self.objects, verify="digest", writable=False, near=Path(folder))

    def _bring(self, stem: str, manifest: Manifest, verify: Verify) -> Checkout:
        subdir, _, basename = stem.rpartition("/")
        tracked = self._bring_tracked(manifest, verify) if manifest.tracked else {}
        if self._folder is not None:
            names = [stem + entry.name for entry in manifest.files]
            for name, entry in zip(names, manifest.files, strict=True):
                check_file(self._folder + name, name, entry, verify)
            if verify != "off":
                self._refuse_extra_files(names)
            return Checkout(manifest, Path(self._folder + subdir), basename, tracked)
        folder = f"{self._near_folder()}/{manifest.digest[:32]}"
        files = {stem + entry.name: (f"{folder}/{basename}{entry.name}", entry) for entry in manifest.files}
        download(self.objects, files, verify)
        return Checkout(manifest, Path(folder), basename, tracked)

    def _bring_tracked(self, manifest: Manifest, verify: Verify) -> dict[str, Path]:
        names = [entry.name for entry in manifest.tracked]
        if self._folder is not None:
            for entry in manifest.tracked:
                check_file(self._folder + entry.name, entry.name, entry, verify)
            if verify != "off":
                self._refuse_extra_files(names)
            return {name: Path(self._folder + name) for name in names}
        # One folder for all of them, so that a folder the stage made is a folder again.
        folder = f"{self._near_folder()}/{content_digest(manifest.tracked)[:32]}"
        download(self.objects, {entry.name: (f"{folder}/{entry.name}", entry) for entry in manifest.tracked}, verify)
        return {name: Path(folder, name) for name in names}

    def _refuse_extra_files(self, names: list[str]) -> None:
        """A loader may list a folder, so what else lies in it is not what was committed either."""
        for folder in {top_folder(name) for name in names if "/" in name}:
            extra = set(self.objects.list(folder)) - set(names) if folder else ()
            for name in extra:
                raise damaged(name, "does not belong to it")

    def _near_folder(self) -> str:
        return os.fspath(self.near or process_folder(os.getpid()))

    def _work_prefix(self, run: str) -> str:
        """How the paths of a run's working folders begin; eight random digits follow."""
        name = safe_part(run, 60)
        if self._folder is not None and self.writable:
            return f"{self._folder}.work-{name}-"
        return f"{tempfile.gettempdir()}/curidask-work-{name}-"

    def _refuse_if_read_only(self) -> None:
        if not self.writable:
            raise CacheError("The cache was opened for reading only.", where=self.url, fix="leave out --dry-cache")


def _rebuild(objects: ObjectStore, verify: Verify, writable: bool, near: Path | None) -> ArtifactStore:
    return ArtifactStore(objects, verify=verify, writable=writable, near=near)


def _with_digests(manifest: Manifest, stored: Mapping[str, Stored]) -> Manifest:
    files = with_digests(manifest.files, stored, manifest.stem)
    return with_fields(manifest, files=files, tracked=with_digests(manifest.tracked, stored))
