"""The files of an artifact: what lies in a working folder and is to be committed, and what was checked out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from curidask.core.artifact_names import LAYOUT_SUFFIX, MANIFEST_SUFFIX, check_object_name, manifest_name, stem_of
from curidask.errors import CacheError
from curidask.store.backends.entries import Entry, Stored
from curidask.store.backends.remote import Layout, is_executable
from curidask.store.backends.transfer import files_in, local_errors
from curidask.store.integrity import hash_file
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.workspace import Workspace

PLACEHOLDER = ".empty"


@dataclass(frozen=True, slots=True)
class Checkout:
    """An artifact whose files lie in a local folder, verified.

    Attributes
    ----------
    folder : Path
        Where the payload lies. Do not write there.
    basename : str
        How its names begin; a cacher bound to the folder and this finds its files.
    tracked : dict of str to Path
        The files the stage wrote beside its outputs, and folders in which nothing is, by their names in the store.
    again : callable, optional
        Checks the files once more, as they were checked; raises `ArtifactDamagedError` when one is gone or changed.
    pin : object
        Of files in the near cache: hold it as long as they are needed, beyond the job that asked for them.
    """

    manifest: Manifest
    folder: Path
    basename: str
    tracked: dict[str, Path] = field(default_factory=dict)
    pin: object = field(default=None, repr=False, compare=False)
    again: Callable[[], object] | None = field(default=None, repr=False, compare=False)

    def tracked_path(self, name: str) -> Path | None:
        """Where one of these files lies, or a folder of them, by its name in the store; None when there is none."""
        if name in self.tracked:
            return self.tracked[name]
        inside = next((other for other in self.tracked if other.startswith(f"{name}/")), None)
        return None if inside is None else self.tracked[inside].parents[inside[len(name) + 1 :].count("/")]


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
    """Look at what was written, and complete the manifest with it; see `Store.commit`.

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
    copy = _link if link else shutil.copy  # with its mode
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
    if not workspace.made:
        return moves, ()
    location, basename = workspace.location, workspace.basename
    subdir = workspace.stem[: len(workspace.stem) - len(basename)]
    said = basename + LAYOUT_SUFFIX
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(location) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name != said)
    for name, is_folder in found:
        if not name.startswith(basename) or name == manifest_name(basename):
            raise _foreign(name, writer, "write to the paths that get_path(suffix) and get_dir(name) give")
        if is_folder:
            _walk(location, name, writer, files, folders)
        else:
            files.append(_plain(location, name, writer))
        moves[subdir + name] = f"{location}/{name}"
    executable = tuple(name for name in files if is_executable(f"{location}/{name}"))
    with local_errors(said, location):
        if Layout(executable, tuple(folders)).write(f"{location}/{said}", basename):
            files.append(said)
            moves[subdir + said] = f"{location}/{said}"
    look = hash_file if hashed else _size_only
    return moves, tuple(FileEntry(subdir + name, *look(f"{location}/{name}")) for name in files)


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


def _walk(location: str, top: str, writer: str, files: list[str], folders: list[str]) -> None:
    """Add the files in a folder, and the folders in it that are empty."""
    start = len(files)
    pending = [top]
    while pending:
        folder = pending.pop()
        if os.path.islink(f"{location}/{folder}"):
            raise _foreign(folder, writer, "copy the folder instead of linking to it")
        with os.scandir(f"{location}/{folder}") as entries:
            found = [(f"{folder}/{entry.name}", entry.is_dir()) for entry in entries]
        if not found:
            folders.append(folder)
        for name, is_folder in found:
            if is_folder:
                pending.append(name)
            else:
                files.append(_plain(location, name, writer))
    files[start:] = sorted(files[start:])


def _plain(location: str, name: str, writer: str) -> str:
    """The name of a file that can be moved; a link is made into the file it leads to, which may change or vanish."""
    check_object_name(name)
    path = f"{location}/{name}"
    if not os.path.isfile(path):
        raise _foreign(name, writer, "write plain files: no pipes, sockets or links to nothing")
    if os.path.islink(path):
        target = os.path.realpath(path)
        os.unlink(path)
        shutil.copy(target, path)
    return name


def _foreign(name: str, writer: str, fix: str) -> CacheError:
    return CacheError(f"{writer or 'A cacher'} wrote {name!r}, which cannot be part of its artifact.", fix=fix)


# --- names and places -------------------------------------------------------------------------------------------------
def whole_stems(entries: Iterable[Entry]) -> dict[str, str]:
    """The stems that have a manifest and at least one other object, with the tags of the manifests."""
    manifests: dict[str, str] = {}
    with_payload: set[str] = set()
    for entry in entries:
        stem = stem_of(entry.name)
        if stem is None:
            continue
        if entry.name == stem + MANIFEST_SUFFIX:
            manifests[stem] = entry.tag
        else:
            with_payload.add(stem)
    return {stem: tag for stem, tag in manifests.items() if stem in with_payload}


def top_folder(name: str) -> str:
    """The folder that belongs to an artifact, with its slash, by the name of a file in it; empty for a plain file."""
    stem = stem_of(name) or ""
    first, slash, _ = name[len(stem) :].partition("/")
    return stem + first + slash if slash and stem else ""


def same_form(old: Manifest, new: Manifest) -> bool:
    """Whether what can load one can load the other; when a stage's cacher was changed it cannot."""
    names = [{entry.name for entry in manifest.files} for manifest in (old, new)]
    return old.key == new.key and old.cacher == new.cacher and names[0] == names[1]
