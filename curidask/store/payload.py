"""The files of an artifact: the private folder in which they are made, what is in it, and whether they are whole."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from curidask.errors import ArtifactDamagedError, CacheError, ConfigurationError, ObjectMissingError
from curidask.store.local import explain
from curidask.store.manifests import (
    MANIFEST_SUFFIX,
    FileEntry,
    Manifest,
    check_object_name,
    manifest_name,
    stem_of,
)
from curidask.store.objects import ObjectStore, Stored
from curidask.store.transfers import files_in

Verify = Literal["digest", "size", "off"]

BLOCK_BYTES = 1 << 20
SPARE_FOLDERS = 8
"""Empty working folders that are kept for reuse: a stage has one for each of its outputs."""


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
    """

    manifest: Manifest
    folder: Path
    basename: str
    tracked: dict[str, Path] = field(default_factory=dict)

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


def download(objects: ObjectStore, wanted: Mapping[str, tuple[str, FileEntry]], verify: Verify) -> None:
    """Bring objects to paths named by the digest of what must be in them, verified before they get there.

    Parameters
    ----------
    objects : ObjectStore
    wanted : mapping of str to (str, FileEntry)
        Paths, and what must be there, by the names of the objects.
    verify : {"digest", "size", "off"}

    Raises
    ------
    ArtifactDamagedError
    """
    missing = {name: file for name, file in wanted.items() if not _is_there(name, *file, verify)}
    if not missing:
        return
    for path, _ in missing.values():
        os.makedirs(os.path.dirname(path), exist_ok=True)
    parts = {n: f"{os.path.dirname(p)}/.part-{os.getpid()}-{os.urandom(4).hex()}" for n, (p, _) in missing.items()}
    try:
        _fetch(objects, {name: (parts[name], entry) for name, (_, entry) in missing.items()}, verify)
        for name, (path, _) in missing.items():
            os.replace(parts[name], path)
    finally:
        for part in parts.values():
            with suppress(OSError):
                os.rmdir(part) if os.path.isdir(part) else os.unlink(part)


def _is_there(name: str, path: str, entry: FileEntry, verify: Verify) -> bool:
    with suppress(ArtifactDamagedError):
        check_file(path, name, entry, "size" if verify == "off" else verify)
        return True
    return False


def _fetch(objects: ObjectStore, files: Mapping[str, tuple[str, FileEntry]], verify: Verify) -> None:
    """Fetch files and check their digests, which are taken on the way; what is wrong is fetched once more.

    Bytes may be changed on their way too, which some clients do not notice.
    """
    wrong: dict[str, str] = {}
    for _ in range(2):
        names = wrong or files
        targets = {name: files[name][0] for name in names}
        try:
            stored = objects.fetch_many(targets, {name: files[name][1].size_bytes for name in names})
        except ObjectMissingError as error:
            gone = sorted(set(names) - objects.exists(names)) or sorted(names)
            raise damaged(gone[0], "is gone") from error
        problems = {name: _difference(stored[name], files[name][1], verify) for name in names}
        wrong = {name: problem for name, problem in problems.items() if problem}
        if not wrong:
            return
    raise damaged(*next(iter(wrong.items())))


def _difference(stored: Stored, entry: FileEntry, verify: Verify) -> str:
    """How what is stored differs from what was committed; empty when it does not."""
    if verify != "off" and stored.size_bytes != entry.size_bytes:
        return f"has {stored.size_bytes} bytes instead of {entry.size_bytes}"
    return "was changed" if verify == "digest" and stored.sha256 != entry.sha256 else ""


def damaged(name: str, problem: str) -> ArtifactDamagedError:
    """The error for a file that is not what was committed."""
    return ArtifactDamagedError(
        f"An artifact is damaged: {name!r} {problem}.",
        where=stem_of(name) or "",
        fix="nothing is needed: it counts as missing and is made again",
    )


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


def with_digests(entries: Iterable[FileEntry], stored: Mapping[str, Stored], before: str = "") -> tuple[FileEntry, ...]:
    """Entries of files with what was found out when they were stored, under their names with `before` before them.

    Entries that have their digest already are of files that another artifact of the stage has taken into the store.
    """
    return tuple(e if e.sha256 else FileEntry(e.name, *stored[before + e.name]) for e in entries)


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
@lru_cache(maxsize=1)
def process_folder(pid: int) -> str:
    """A folder of this process for downloads, removed at its end."""
    # By process: a forked child must not share the folder, which its parent removes. The name only says so.
    folder = tempfile.mkdtemp(prefix=f"curidask-near-{pid}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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
