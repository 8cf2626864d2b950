"""The files of an artifact: the private folder in which they are made, what is in it, and whether they are whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from curidask.errors import ArtifactDamagedError, CacheError, ConfigurationError, ObjectMissingError
from curidask.store.entries import Stored
from curidask.store.local import explain
from curidask.store.manifests import (
    MANIFEST_SUFFIX,
    FileEntry,
    Manifest,
    check_object_name,
    manifest_name,
    stem_of,
)
from curidask.store.transfers import files_in

Verify = Literal["digest", "size", "off"]

Fetch = Callable[[str, str, int], Stored]
"""Brings the file of a name, which should be so large, to a path; `ObjectMissingError` when there is none."""

BLOCK_BYTES = 1 << 20
SPARE_FOLDERS = 8
"""Empty working folders that are kept for reuse: a stage has one for each of its outputs."""
PLACEHOLDER = ".empty"


@dataclass(frozen=True, slots=True)
class Checkout:
    """An artifact whose files lie in a local folder, verified.

    Attributes
    ----------
    manifest : Manifest
    folder : Path
        Where the payload lies. Do not write there.
    basename : str
        How its names begin; a cacher bound to the folder and this finds its files.
    tracked : dict of str to Path
        The files the stage wrote beside its outputs, by their names in the store.
    pin : object
        Of files in the near cache: hold it as long as they are needed, beyond the job that asked for them.
    """

    manifest: Manifest
    folder: Path
    basename: str
    tracked: dict[str, Path] = field(default_factory=dict)
    pin: object = field(default=None, repr=False, compare=False)

    def tracked_path(self, name: str) -> Path | None:
        """Where one of these files lies, or a folder of them, by its name in the store; None when there is none."""
        if name in self.tracked:
            return self.tracked[name]
        inside = next((other for other in self.tracked if other.startswith(f"{name}/")), None)
        return None if inside is None else self.tracked[inside].parents[inside[len(name) + 1 :].count("/")]


class Workspace:
    """A private folder in which a cacher or a stage writes, made when it is first used and removed at the end.

    Use it as a context manager; `ArtifactStore.commit` moves what is in it into the store.

    Parameters
    ----------
    stem : str
        The store name of the artifact to be.
    location : str
        The folder's path, not yet made.
    mode : int
        Its permissions, before the umask.
    spare : list of str, optional
        Empty folders for reuse: one is taken from here and given back here, since making and removing a folder costs
        more than storing a small artifact.
    """

    def __init__(self, stem: str, location: str, mode: int = 0o777, spare: list[str] | None = None) -> None:
        self.stem = stem
        self.basename = stem.rpartition("/")[2]
        self.location = location
        self.mode = mode
        self.made = False
        self.stays = False  # what refers to the files outlives this; `ArtifactStore.clean` removes the folder
        self._spare = [] if spare is None else spare
        self._reuses = spare is not None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.made or self.stays:
            return
        if self._reuses and len(self._spare) < SPARE_FOLDERS and not os.listdir(self.location):
            self._spare.append(self.location)  # after a commit nothing is left in it
        else:
            shutil.rmtree(self.location, ignore_errors=True)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written into it."""
        return not self.made or not os.listdir(self.location)

    @property
    def folder(self) -> Path:
        """The folder, made by now."""
        self._make()
        return Path(self.location)

    def path(self, name: str) -> Path:
        """The path of a file or folder in it; names in it begin with the basename."""
        self._make()
        return Path(self.location, check_object_name(name))

    def _make(self) -> None:
        if self.made:
            return
        with suppress(IndexError):
            self.location = self._spare.pop()
            self.made = os.path.isdir(self.location)
            if self.made:
                return
        try:
            try:
                os.mkdir(self.location, self.mode)
            except FileNotFoundError:
                os.makedirs(self.location, self.mode)
        except OSError as error:
            raise CacheError(
                f"No working folder could be made: {error.strerror or error}.",
                where=self.location,
                fix="check that the folder of the cache is there and writable, or choose another with --cache",
            ) from error
        self.made = True


def hash_file(path: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as file:
        block_bytes = min(BLOCK_BYTES, os.fstat(file.fileno()).st_size + 1)
        while block := file.read(block_bytes):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def checked_verify(verify: str) -> Verify:
    """Return the setting when it is one.

    Raises
    ------
    ConfigurationError
    """
    settings: dict[str, Verify] = {"digest": "digest", "size": "size", "off": "off"}
    if verify in settings:
        return settings[verify]
    raise ConfigurationError(f"`verify` is {verify!r}.", fix="use 'digest', 'size' or 'off'")


def check_file(path: str, name: str, entry: FileEntry, verify: Verify) -> None:
    """Raise `ArtifactDamagedError` when a local file is not what a manifest says."""
    if verify == "off":
        return
    try:
        size, sha256 = hash_file(path) if verify == "digest" else (os.stat(path).st_size, entry.sha256)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise damaged(name, "is gone") from error
    except OSError as error:
        raise explain(error, "read", name, path) from error
    if size != entry.size_bytes:
        raise damaged(name, f"has {size} bytes instead of {entry.size_bytes}")
    if sha256 != entry.sha256:
        raise damaged(name, "was changed")


def difference(stored: Stored, entry: FileEntry, verify: Verify) -> str:
    """How what was stored, or fetched, differs from what was committed; empty when it does not."""
    if verify != "off" and stored.size_bytes != entry.size_bytes:
        return f"has {stored.size_bytes} bytes instead of {entry.size_bytes}"
    return "was changed" if verify == "digest" and stored.sha256 != entry.sha256 else ""


def fetch_verified(fetch: Fetch, entry: FileEntry, path: str, verify: Verify) -> None:
    """Fetch a file and check it by the digest that is taken on the way; what is wrong is fetched once more.

    Bytes may be changed on their way too, which some clients do not notice.

    Raises
    ------
    ArtifactDamagedError
    """
    try:
        problem = difference(fetch(entry.name, path, entry.size_bytes), entry, verify)
        if problem:
            problem = difference(fetch(entry.name, path, entry.size_bytes), entry, verify)
    except ObjectMissingError as error:
        raise damaged(entry.name, "is gone") from error
    if problem:
        raise damaged(entry.name, problem)


def damaged(name: str, problem: str) -> ArtifactDamagedError:
    """The error for a file that is not what was committed."""
    return ArtifactDamagedError(
        f"An artifact is damaged: {name!r} {problem}.",
        where=stem_of(name) or "",
        fix="nothing is needed: it counts as missing and is made again",
    )


# --- what is to be committed ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Prepared:
    """Files that are about to become an artifact.

    Attributes
    ----------
    manifest : Manifest
        With all files and their sizes; digests are empty where they are to be taken on the way into the store.
    moves : mapping of str to str
        Store names of files, and of folders with all in them, to where they lie now.
    taken : frozenset of str
        Names of tracked files that the store holds already.
    """

    manifest: Manifest
    moves: Mapping[str, str]
    taken: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        """The store name of the artifact to be."""
        return self.manifest.stem


def prepare(
    workspace: Workspace, manifest: Manifest, tracked: Workspace | tuple[FileEntry, ...] | None, *, hashed: bool = True
) -> Prepared:
    """Look at what was written, and complete the manifest with it; see `ArtifactStore.commit`.

    Without `hashed` the digests are left empty, for a store that takes them while it reads the files.
    """
    moves, files = scan(workspace, manifest.cacher, hashed=hashed)
    if not files:
        workspace.path(workspace.basename + PLACEHOLDER).touch()
        moves, files = scan(workspace, manifest.cacher, hashed=hashed)
    taken: tuple[FileEntry, ...] = tracked if isinstance(tracked, tuple) else ()
    what = f"The stage {manifest.stage!r}"
    beside = scan(tracked, what, hashed=hashed) if isinstance(tracked, Workspace) else ({}, taken)
    start = len(workspace.stem)
    files = tuple(replace(entry, name=entry.name[start:]) for entry in files)
    complete = replace(manifest, stem=workspace.stem, files=files, tracked=beside[1])
    return Prepared(complete, moves | beside[0], frozenset(entry.name for entry in taken))


def duplicate(prepared: Prepared, folder: Path, *, link: bool) -> Prepared:
    """The same files once more, in another folder: as hard links where that is asked for and possible, else as copies.

    A link will do for files that are uploaded; two stores on one disk must not share a file, since what damages it
    damages both.
    """
    copy = _link if link else shutil.copyfile
    moves = {}
    for number, (name, path) in enumerate(prepared.moves.items()):
        moves[name] = f"{folder}/{number}"
        if os.path.isdir(path):
            shutil.copytree(path, moves[name], copy_function=copy)
        else:
            copy(path, moves[name])
    return replace(prepared, moves=moves)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def scan(workspace: Workspace, writer: str, *, hashed: bool = True) -> tuple[dict[str, str], tuple[FileEntry, ...]]:
    """What lies in a workspace.

    Parameters
    ----------
    workspace : Workspace
    writer : str
        Who wrote it, for errors.
    hashed : bool
        False leaves the digests empty: they are taken when the files are read anyway.

    Returns
    -------
    moves : dict of str to str
        Store names of the files and folders at its top, with their paths: what is to be moved.
    files : tuple of FileEntry
        All files, by their store names.

    Raises
    ------
    CacheError
        For what cannot be part of an artifact.
    """
    moves: dict[str, str] = {}
    files: list[str] = []
    if not workspace.made:
        return moves, ()
    subdir = workspace.stem[: len(workspace.stem) - len(workspace.basename)]
    with os.scandir(workspace.location) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in found:
        if not name.startswith(workspace.basename) or name == manifest_name(workspace.basename):
            raise _foreign(name, writer, "write to the paths that get_path(suffix) and get_dir(name) give")
        inside = _walk(workspace.location, name, writer) if is_folder else [_plain(workspace.location, name, writer)]
        files += inside
        if inside:
            moves[subdir + name] = f"{workspace.location}/{name}"
    look = hash_file if hashed else _size_only
    return moves, tuple(FileEntry(subdir + name, *look(f"{workspace.location}/{name}")) for name in files)


def _size_only(path: str) -> tuple[int, str]:
    return os.path.getsize(path), ""


def hash_moves(moves: Mapping[str, str]) -> dict[str, Stored]:
    """Size and digest of files, and of all files in folders, by the names they are to have."""
    files = {name: path for top, local in moves.items() for name, path in files_in(local, top).items()}
    return {name: Stored(*hash_file(path)) for name, path in files.items()}


def with_digests(manifest: Manifest, stored: Mapping[str, Stored]) -> Manifest:
    """The manifest with what was found out when its files were stored.

    Entries that have their digest already are of files that another artifact of the stage has taken into the store.
    """

    def complete(entries: Iterable[FileEntry], before: str = "") -> tuple[FileEntry, ...]:
        return tuple(e if e.sha256 else FileEntry(e.name, *stored[before + e.name]) for e in entries)

    return replace(manifest, files=complete(manifest.files, manifest.stem), tracked=complete(manifest.tracked))


def _walk(location: str, top: str, writer: str) -> list[str]:
    files = []
    pending = [top]
    while pending:
        folder = pending.pop()
        if os.path.islink(f"{location}/{folder}"):
            raise _foreign(folder, writer, "copy the folder instead of linking to it")
        with os.scandir(f"{location}/{folder}") as entries:
            found = [(f"{folder}/{entry.name}", entry.is_dir()) for entry in entries]
        for name, is_folder in found:
            if is_folder:
                pending.append(name)
            else:
                files.append(_plain(location, name, writer))
    return sorted(files)


def _plain(location: str, name: str, writer: str) -> str:
    """The name of a file that can be moved; a link is made into the file it leads to, which may change or vanish."""
    check_object_name(name)
    path = f"{location}/{name}"
    if not os.path.isfile(path):
        raise _foreign(name, writer, "write plain files: no pipes, sockets or links to nothing")
    if os.path.islink(path):
        target = os.path.realpath(path)
        os.unlink(path)
        shutil.copyfile(target, path)
    return name


def _foreign(name: str, writer: str, fix: str) -> CacheError:
    return CacheError(f"{writer or 'A cacher'} wrote {name!r}, which cannot be part of its artifact.", fix=fix)


# --- names and places -------------------------------------------------------------------------------------------------
def whole_stems(names: Iterable[str]) -> set[str]:
    """The stems that have a manifest and at least one other object."""
    with_manifest: set[str] = set()
    with_payload: set[str] = set()
    for name in names:
        stem = stem_of(name)
        if stem is None:
            continue
        (with_manifest if name == stem + MANIFEST_SUFFIX else with_payload).add(stem)
    return with_manifest & with_payload


def top_folder(name: str) -> str:
    """The folder that belongs to an artifact, with its slash, by the name of a file in it; empty for a plain file."""
    stem = stem_of(name) or ""
    first, slash, _ = name[len(stem) :].partition("/")
    return stem + first + slash if slash and stem else ""


def same_form(old: Manifest, new: Manifest) -> bool:
    """Whether what can load one can load the other; when a stage's cacher was changed it cannot."""
    names = [{entry.name for entry in manifest.files} for manifest in (old, new)]
    return old.key == new.key and old.cacher == new.cacher and names[0] == names[1]
