"""Artifacts: committed in one step, verified when read.

The payload goes first and the manifest last, in one atomic write; without a manifest there is no artifact. Reading
checks each file against the manifest, so whatever went wrong between the two shows as a miss, never as a wrong value.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import manifest_name, stem_of
from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    CacheError,
)
from curidask.store import checkout as checkouts
from curidask.store.backends.base import ObjectStore, open_objects
from curidask.store.backends.errors import is_refused
from curidask.store.backends.remote import common_beginning
from curidask.store.catalog import FEW, Catalog
from curidask.store.disk_cache.near import DiskCache, NearSettings, near_cache
from curidask.store.integrity import Verify, checked_verify
from curidask.store.lineage import Lineage
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.payload import Checkout, Prepared, hash_moves, prepare, same_form, with_digests
from curidask.store.signing import Keyring
from curidask.store.workspace import Workspace, Workspaces, is_private

READ_ATTEMPTS = 3

ONLY_READ = "is only read, so what this run computes is not kept"
KEEP_IT = "to keep it, put a folder before it: --cache data/cache,{}"


class ArtifactStore:
    """Artifacts in an object store.

    Parameters
    ----------
    verify : {"digest", "size", "off"}
        What reading checks of each file; with keys always the digest.
    writable : bool
        False refuses every change; workspaces then lie outside the store.
    near : Path or NearSettings, optional
        The near cache: where files of a store that is no local folder are kept on this machine. The variables
        ``CURIDASK_NEAR_CACHE`` and so on of each process win over settings, not over a path.
    keys : Keyring, optional
        Manifests are signed with the first one; what is not signed with one of them counts as missing. A folder that
        others can write to is then used as a place in the network is: files are made in a private folder and read from
        the near cache, so that nobody changes them between the check and the use.

    Notes
    -----
    Safe to use from several threads and processes. It pickles as its address and options, not as open connections, and
    without the keys.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        verify: str = "digest",
        writable: bool = True,
        near: Path | NearSettings | None = None,
        keys: Keyring | None = None,
    ) -> None:
        self.objects = objects
        self.verify = checked_verify(verify if keys is None else "digest")
        self.writable = writable
        self.near = near
        self.catalog = Catalog(objects, keys)
        root = objects.local_root
        self._folder = f"{root}/" if root is not None and (keys is None or is_private(root)) else None
        self._workspaces = Workspaces(objects.url, self._folder if writable else None)
        self._tags: dict[str, str] = {}

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        verify: str = "digest",
        writable: bool = True,
        near: Path | NearSettings | None = None,
        keys: Keyring | None = None,
        **options: Any,
    ) -> ArtifactStore:
        """Open the store at a folder or URL; nothing is made or requested yet."""
        return cls(open_objects(url, **options), verify=verify, writable=writable, near=near, keys=keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.objects, self.verify, self.writable, self.near, self.catalog.keys))

    def __repr__(self) -> str:
        return f"<ArtifactStore {self.objects.url}>"

    @property
    def url(self) -> str:
        """Where it is."""
        return self.objects.url

    @property
    def places(self) -> list[ObjectStore]:
        """What is written to."""
        return [self.objects] if self.writable else []

    @property
    def sources(self) -> list[ArtifactStore]:
        """What is read."""
        return [self]

    @property
    def local_root(self) -> Path | None:
        """The folder that holds the artifacts as files of their names, if there is one."""
        return self.objects.local_root

    @property
    def reads_are_cheap(self) -> bool:
        """Whether a check of an artifact costs no request."""
        return self._folder is not None

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        self._refuse_if_read_only()
        try:
            self.objects.check_writable()
        except CacheError as error:
            if not (is_refused(error) and self.may_be_read()):
                raise
            self.only_read()
            self.catalog.notices.append(f"{self.url} {ONLY_READ}: {error.what} ({KEEP_IT.format(self.url)})")

    def may_be_read(self) -> bool:
        """Whether this user may read it, as far as that is known without a request."""
        root = self.objects.local_root
        return root is None or os.access(root, os.R_OK | os.X_OK)

    def only_read(self) -> None:
        """Write to it no more, and make nothing in it."""
        self.tidy()
        self.writable = False
        self._workspaces = Workspaces(self.url, None)

    def notices(self) -> list[str]:
        """See `Store.notices`."""
        notices, self.catalog.notices = self.catalog.notices, []
        return notices

    def goes_on_without(self, error: CacheError) -> bool:
        """There is no other place."""
        return False

    def is_left_alone(self, place: ObjectStore) -> bool:
        """There is no other place."""
        return False

    def reachable(self) -> ArtifactStore:
        """There is no other place."""
        return self

    # --- looking -----------------------------------------------------------------------------------------------------
    def present(self, stems: Collection[str]) -> set[str]:
        """Those that have a manifest and payload; one listing, however many are asked for.

        With keys, those whose manifests are signed with one of them: each manifest is read once a process.
        """
        return self.catalog.present(stems)

    def alike(self, readable: Collection[str], *, one_look: bool = False) -> list[str]:
        """See `Store.alike`."""
        return self.catalog.alike(readable, one_look=one_look)

    def lineage(self, stems: Collection[str], prefix: str) -> dict[str, Lineage]:
        """See `Store.lineage`."""
        return self.catalog.lineage(stems, prefix)

    def keep_lineage(self, rows: Mapping[str, tuple[Lineage, Mapping[str, str]]], prefix: str) -> None:
        """See `Store.keep_lineage`."""
        if self.writable:
            here = {stem: (tags[self.url], known) for stem, (known, tags) in rows.items() if tags.get(self.url)}
            self.catalog.keep_lineage(here, prefix)

    def take_tags(self, stem: str) -> dict[str, str]:
        """See `Store.take_tags`."""
        tag = self._tags.pop(stem, "")
        return {self.url: tag} if tag else {}

    def having(self, names: Collection[str]) -> set[str]:
        """Those of the object names that are there; one listing when they are many."""
        if len(names) > FEW:
            return set(names).intersection(self.objects.list(common_beginning(names)))
        return self.objects.exists(names)

    def manifest(self, stem: str) -> Manifest | None:
        """The manifest of an artifact, None where there is none or a damaged one."""
        return self.manifests([stem]).get(stem)

    def manifests(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of those that have a whole one, read together; with keys, a signed one."""
        return self.catalog.read_many(stems)

    # --- writing -----------------------------------------------------------------------------------------------------
    def workspace(self, stem: str, *, run: str) -> Workspace:
        """A private folder for what will be committed as `stem`.

        In a local store it lies in the store's own folder, so that a commit is a rename on the same disk.
        """
        return self._workspaces.new(stem, run)

    def tidy(self) -> None:
        """See `Store.tidy`."""
        self._workspaces.tidy()

    def clean(self, run: str) -> None:
        """See `Store.clean`."""
        self._workspaces.clean(run)

    def work_folders(self) -> Iterator[tuple[str, Path]]:
        """All working folders of this store on this machine; see `Workspaces.folders`."""
        return self._workspaces.folders()

    def commit(
        self,
        workspace: Workspace,
        manifest: Manifest,
        *,
        tracked: Workspace | tuple[FileEntry, ...] | None = None,
        replace_whole: bool = False,
    ) -> Manifest:
        """See `Store.commit`."""
        self._refuse_if_read_only()
        # What goes into the network is read once: its digests are taken while it is uploaded. Into a folder it is
        # moved, and what was signed is what lay in the private folder before.
        prepared = prepare(workspace, manifest, tracked, hashed=self.objects.local_root is not None)
        return self.put(prepared, replace_whole=replace_whole)

    def put(self, prepared: Prepared, *, data: bytes = b"", replace_whole: bool = False) -> Manifest:
        """Store prepared files; see `commit`.

        Parameters
        ----------
        prepared : Prepared
            Its files are moved into the store.
        data : bytes
            The encoded manifest, where it is to stay as another store has it.
        """
        self._refuse_if_read_only()
        prepared.manifest.to_bytes()  # what cannot be written shows before anything is
        if self._folder is None:
            return self._upload(prepared, data, replace_whole)
        stem = prepared.stem
        data = data or self.catalog.encode(prepared.manifest)
        seen, old = self._examine(stem)  # outside the lock: it may read a large payload
        with self.objects.lock():
            if self.catalog.raw(stem) != seen:
                seen, old = self._examine(stem)
            if old is not None and not replace_whole and same_form(old, prepared.manifest):
                return old
            self._put(prepared, data, seen, old)
        return prepared.manifest

    def whole(self, stem: str) -> Manifest | None:
        """The manifest of an artifact when all its files are as committed, whatever copies of them are near."""
        return self._examine(stem)[1]

    def discard(self, stem: str, *, spare: Collection[str] = ()) -> None:
        """Remove an artifact: the manifest first, so that it is never there in part.

        Parameters
        ----------
        spare : collection of str
            Names of files that another artifact has taken over.
        """
        self._refuse_if_read_only()
        with self.objects.lock(stem):
            self._remove(stem, self.catalog.raw(stem), spare)
            self.objects.remove(self._objects_of(stem))

    def _put(self, prepared: Prepared, data: bytes, seen: bytes | None, old: Manifest | None) -> None:
        manifest, stem = prepared.manifest, prepared.stem
        if old is None or old.digest != manifest.digest or old.tracked != manifest.tracked:
            # Readers hold no lock. One that read the old manifest and then finds new payload reads the manifest again
            # and sees that it is gone or another: a miss, or the new artifact; see `checkout`. Were the old manifest
            # still there, it would report damage. A writer that dies from here on leaves no manifest: a miss.
            if seen is not None:
                self._remove(stem, seen, prepared.taken)
            self.objects.adopt_many(prepared.moves)
        # With equal content the old payload stays, verified, and only the description is replaced, in one step.
        self._write_manifest(stem, data)

    def _write_manifest(self, stem: str, data: bytes) -> None:
        self.objects.write(manifest_name(stem), data)
        self._tags[stem] = self.objects.tag_of(manifest_name(stem), data)

    def _upload(self, prepared: Prepared, data: bytes, replace_whole: bool) -> Manifest:
        """Do the same in a place in the network: each file is read once, while it is uploaded.

        Without a manifest nothing is looked for: what a writer that died left there is not in the new manifest either.
        """
        stem, manifest = prepared.stem, prepared.manifest
        with self.objects.lock(stem):
            seen, old = self._examine(stem)
            if old is not None and not replace_whole and same_form(old, manifest):
                return old
            if old is not None:
                manifest = with_digests(manifest, hash_moves(prepared.moves))
                if old.digest == manifest.digest and old.tracked == manifest.tracked:
                    # The old payload stays, verified, and only the description is replaced, in one step.
                    self._write_manifest(stem, data or self.catalog.encode(manifest))
                    return manifest
            if seen is not None:
                self._remove(stem, seen, prepared.taken)
            if seen is not None or not self.objects.shared:
                new = {stem + entry.name for entry in manifest.files} | prepared.taken
                self.objects.remove([name for name in self._objects_of(stem) if name not in new])
            manifest = with_digests(manifest, self.objects.adopt_many(prepared.moves))
            self._write_manifest(stem, data or self.catalog.encode(manifest))
        return manifest

    def _objects_of(self, stem: str) -> list[str]:
        return [name for name in self.objects.list(stem) if stem_of(name) == stem]

    def _remove(self, stem: str, seen: bytes | None, spare: Collection[str] = ()) -> None:
        names: list[str] = []
        if seen is not None:
            try:
                names = list(checkouts.all_files(self.catalog.parse(stem, seen)))
            except ArtifactMissingError:
                names = self._objects_of(stem)
        self.objects.remove([manifest_name(stem)])
        self.objects.remove([name for name in names if name not in spare])

    # --- reading -----------------------------------------------------------------------------------------------------
    def using(self) -> AbstractContextManager[None]:
        """What is checked out within the block stays where it is at least until the block ends."""
        return nullcontext() if self._folder is not None else self._near().using()

    def checkout(self, stem: str, key: str, *, cacher: str = "") -> Checkout:
        """See `Store.checkout`."""
        data = self.catalog.raw(stem)
        for _ in range(READ_ATTEMPTS):
            if data is None:
                raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)
            try:
                return self._bring(self.catalog.claimed(stem, data, key, cacher), self.verify)
            except ArtifactDamagedError:
                # Race: read the manifest here, another process replaces the artifact, then checked its new payload.
                # Only when the manifest is still the same one, something is damaged.
                before, data = data, self.catalog.raw(stem)
                if data == before:
                    raise
        raise ArtifactMissingError(f"The artifact {stem!r} is being replaced again and again.", where=self.url)

    def verify_artifact(self, stem: str) -> Manifest:
        """See `Store.verify_artifact`."""
        data = self.catalog.raw(stem)
        if data is None:
            raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)
        manifest = self.catalog.parse(stem, data)
        self._check_in_store(manifest, "digest")
        return manifest

    def restore_tracked(self, manifest: Manifest) -> dict[str, Path]:
        """See `Store.restore_tracked`."""
        if self._folder is not None:
            return checkouts.tracked_in_place(self.objects, self._folder, manifest, self.verify)
        return checkouts.tracked_through_near(self.objects, self._near(), manifest, self.verify)[0]

    def _examine(self, stem: str) -> tuple[bytes | None, Manifest | None]:
        """The manifest's bytes as they are, and the manifest when the artifact is whole."""
        data = self.catalog.raw(stem)
        if data is None:
            return None, None
        with suppress(ArtifactMissingError):
            manifest = self.catalog.parse(stem, data)
            self._check_in_store(manifest, "size" if self.verify == "off" else self.verify)
            return data, manifest
        return data, None

    def _check_in_store(self, manifest: Manifest, verify: Verify) -> None:
        # A good copy in the near cache says nothing about the store's own.
        if self._folder is None:
            checkouts.check_in_store(self.objects, manifest, verify)
        else:
            checkouts.in_place(self.objects, self._folder, manifest, verify)

    def _bring(self, manifest: Manifest, verify: Verify) -> Checkout:
        if self._folder is None:
            return checkouts.through_near(self.objects, self._near(), manifest, verify)
        return checkouts.in_place(self.objects, self._folder, manifest, verify)

    def _near(self) -> DiskCache:
        return near_cache(self.near) if isinstance(self.near, Path) else (self.near or NearSettings()).open()

    def _refuse_if_read_only(self) -> None:
        if not self.writable:
            raise CacheError("The cache was opened for reading only.", where=self.url, fix="leave out --dry-cache")


def _rebuild(
    objects: ObjectStore, verify: Verify, writable: bool, near: Path | NearSettings | None, keys: Keyring | None
) -> ArtifactStore:
    return ArtifactStore(objects, verify=verify, writable=writable, near=near, keys=keys)
