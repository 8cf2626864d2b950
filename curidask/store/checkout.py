"""Where the files of an artifact are read: in place for a folder, through the near cache for any other store."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from curidask.store.backends.base import ObjectStore
from curidask.store.backends.remote import lay_out, without_layout
from curidask.store.disk_cache.near import DiskCache
from curidask.store.integrity import Verify, check_file, check_files, damaged, fetch_verified
from curidask.store.manifest import FileEntry, Manifest, content_digest
from curidask.store.payload import Checkout, top_folder


def all_files(manifest: Manifest) -> dict[str, FileEntry]:
    """Every file of an artifact, by its name in the store."""
    files = {manifest.stem + entry.name: entry for entry in manifest.files}
    return files | {entry.name: entry for entry in manifest.tracked}


def in_place(objects: ObjectStore, folder: str, manifest: Manifest, verify: Verify) -> Checkout:
    """The files where they lie, verified.

    Parameters
    ----------
    folder : str
        The objects' own folder, with a slash at its end.

    Raises
    ------
    ArtifactDamagedError
    """
    stem = manifest.stem
    subdir, _, basename = stem.rpartition("/")
    tracked = tracked_in_place(objects, folder, manifest, verify) if manifest.tracked else {}
    names = {stem + entry.name: entry for entry in manifest.files}
    _check_all(objects, folder, names, verify)
    list(lay_out(folder, names))
    again = partial(in_place, objects, folder, manifest, verify)
    return Checkout(manifest, Path(folder + subdir), basename, tracked, again=again)


def tracked_in_place(objects: ObjectStore, folder: str, manifest: Manifest, verify: Verify) -> dict[str, Path]:
    """The files a stage wrote beside its outputs, where they lie, verified."""
    names = {entry.name: entry for entry in manifest.tracked}
    _check_all(objects, folder, names, verify)
    return _paths(folder, names)


def _check_all(objects: ObjectStore, folder: str, names: dict[str, FileEntry], verify: Verify) -> None:
    for name, entry in names.items():
        check_file(folder + name, name, entry, verify)
    if verify == "off":
        return
    # A loader may list a folder, so what else lies in it is not what was committed either.
    for top in {top_folder(name) for name in names if "/" in name}:
        extra = set(objects.list(top)) - set(names) if top else ()
        for name in extra:
            raise damaged(name, "does not belong to it")


def through_near(objects: ObjectStore, near: DiskCache, manifest: Manifest, verify: Verify) -> Checkout:
    """The files in the near cache, under the names that loaders expect.

    Raises
    ------
    ArtifactDamagedError
    """
    stem = manifest.stem
    basename = stem.rpartition("/")[2]
    tracked, pin = tracked_through_near(objects, near, manifest, verify) if manifest.tracked else ({}, None)
    files = {basename + e.name: FileEntry(stem + e.name, e.size_bytes, e.sha256) for e in manifest.files}
    payload = near.bring(f"{manifest.digest}/{stem}", files, objects.fetch, verify)
    again = partial(check_files, payload.folder, files, verify)
    return Checkout(manifest, Path(payload.folder), basename, tracked, (payload, pin), again)


def tracked_through_near(
    objects: ObjectStore, near: DiskCache, manifest: Manifest, verify: Verify
) -> tuple[dict[str, Path], object]:
    """The files a stage wrote beside its outputs, in one folder, so that a folder it made is a folder again."""
    files = {entry.name: entry for entry in manifest.tracked}
    pin = near.bring(content_digest(manifest.tracked), files, objects.fetch, verify)
    return _paths(pin.folder, files), pin


def _paths(folder: str, names: Collection[str]) -> dict[str, Path]:
    return {name: Path(folder, name) for name in (*without_layout(names), *lay_out(folder, names))}


def check_in_store(objects: ObjectStore, manifest: Manifest, verify: Verify) -> None:
    """Check the files of a store that is no folder, whatever copies of them there are on this machine.

    Raises
    ------
    ArtifactDamagedError
    """
    with tempfile.TemporaryDirectory(prefix="curidask-check-") as folder:
        path = f"{folder}/file"
        for name, entry in all_files(manifest).items():
            fetch_verified(objects.fetch, replace(entry, name=name), path, verify)
