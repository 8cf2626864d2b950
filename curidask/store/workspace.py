"""Working folders: private ones in which artifacts are made, where a store has them, and removing what is left."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from curidask.core.artifact_names import check_object_name, safe_part
from curidask.errors import CacheError
from curidask.store.backends.errors import what_is_full

# --- whether a folder is its user's alone, so that nobody else can change what was checked in it ---------------------
OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_private(folder: Path) -> bool:
    """Whether nobody but this user and root can change what lies in a folder, or put another in its place.

    That is by the permissions of the folder and of all around it, as they are now. One that is not there yet is private
    when this process would make it so, in a place where nobody else can make it first.
    """
    if not hasattr(os, "getuid"):
        return True
    return all(_is_private(place) for place in {os.path.abspath(folder), os.path.realpath(folder)})


def _is_private(folder: str) -> bool:
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if there != folder and _umask() & OF_OTHERS != OF_OTHERS:
        return False
    if not _is_ours(there) or os.stat(there).st_mode & OF_OTHERS:
        return False
    return all(_is_safe_above(str(place)) for place in Path(there).parents)


def _is_ours(place: str) -> bool:
    return os.stat(place).st_uid in (os.getuid(), 0)


def _is_safe_above(place: str) -> bool:
    """Whether others cannot rename what lies in a folder that is not theirs: it is not writable, or it is sticky."""
    mode = os.stat(place).st_mode
    return _is_ours(place) and (not mode & OF_OTHERS or bool(mode & stat.S_ISVTX))


def _umask() -> int:
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    umask = os.umask(0o077)  # there is no other way to ask, and threads that make files meanwhile make them private
    os.umask(umask)
    return umask


# --- workspace -------------------------------------------------------------------------------------------------------
SPARE_FOLDERS = 8
"""Empty working folders that are kept for reuse: a stage has one for each of its outputs."""

PRIVATE = 0o700

NO_FOLDER = "check that the folder of the cache is there and writable, or choose another with --cache"

_COPYING = re.compile(r"(?:\.|curidask-[0-9a-f]{8}-)work-copy-(?P<host>.*)-(?P<pid>\d+)-[0-9a-f]{8}")


def copying() -> str:
    """What the working folders are called in which this process brings artifacts from one store to another."""
    return f"copy-{socket.gethostname()[:30]}-{os.getpid()}"


class Workspace:
    """A private folder in which a cacher or a stage writes, made when it is first used and removed at the end.

    Use it as a context manager; `ArtifactStore.commit` moves what is in it into the store.

    Parameters
    ----------
    stem : str
        The store name of the artifact to be.
    location : str
        The folder's path, not yet made.
    spare : list of str, optional
        Empty folders for reuse: one is taken from here and given back here, since making and removing a folder costs
        more than storing a small artifact.
    """

    def __init__(self, stem: str, location: str, spare: list[str] | None = None) -> None:
        self.stem = stem
        self.basename = stem.rpartition("/")[2]
        self.location = location
        self.made = False
        self.stays = False  # what refers to the files outlives this; `ArtifactStore.clean` removes the folder
        self.shown = False  # a stage was given a path in it, so no later stage gets the same folder
        self._spare = [] if spare is None else spare
        self._reuses = spare is not None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.made or self.stays:
            return
        reusable = self._reuses and not self.shown and len(self._spare) < SPARE_FOLDERS
        if reusable and os.path.isdir(self.location) and not os.listdir(self.location):
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

    def mend(self) -> None:
        """Make the folder again when somebody removed it: a driver that ended while its stages were under way does."""
        if self.made and not os.path.isdir(self.location):
            os.makedirs(self.location, PRIVATE)
            self._reuses = False

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
                os.mkdir(self.location, PRIVATE)
            except FileNotFoundError:
                os.makedirs(self.location, PRIVATE)
        except OSError as error:
            raise CacheError(
                f"No working folder could be made: {error.strerror or error}.",
                where=self.location,
                fix=what_is_full(error) or NO_FOLDER,
            ) from error
        self.made = True


class Workspaces:
    """Makes working folders.

    Parameters
    ----------
    url : str
        Of the store: runs of one name in other stores of this machine are others' runs.
    folder : str or None
        That of a local store, with a slash at its end, so that a commit is a rename on the same disk. None for others:
        they lie in the system's folder for temporary files.
    """

    def __init__(self, url: str, folder: str | None) -> None:
        self._url = url
        self._folder = folder
        self._spare: dict[str, list[str]] = {}

    def new(self, stem: str, run: str) -> Workspace:
        """A private folder, not made yet, for what a run will commit."""
        return Workspace(stem, f"{self._prefix(run)}{os.urandom(4).hex()}", self._spare.setdefault(run, []))

    def tidy(self) -> None:
        """Remove the empty folders that this process keeps for its next artifacts."""
        for folders in self._spare.values():
            while folders:
                shutil.rmtree(folders.pop(), ignore_errors=True)

    def clean(self, run: str) -> None:
        """Remove what killed workers of a run left on this machine, and what killed processes were copying."""
        self.tidy()
        folder, _, prefix = self._prefix(run).rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(folder):
                if name[:-8] == prefix or _was_copying(name):
                    shutil.rmtree(f"{folder}/{name}", ignore_errors=True)

    def folders(self) -> Iterator[tuple[str, Path]]:
        """All of this store on this machine, whoever made them, each with its run's name as `safe_part` writes it."""
        folder, _, start = self._start().rpartition("/")
        pattern = re.compile(re.escape(start) + "(.*)-[0-9a-f]{8}")
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(folder):
                if match := pattern.fullmatch(name):
                    yield match[1], Path(folder, name)

    def _prefix(self, run: str) -> str:
        """How the paths of a run's working folders begin; eight random digits follow."""
        return f"{self._start()}{safe_part(run, 60)}-"

    def _start(self) -> str:
        if self._folder is not None:
            return f"{self._folder}.work-"
        place = hashlib.sha256(self._url.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return f"{tempfile.gettempdir()}/curidask-{place}-work-"


def _was_copying(name: str) -> bool:
    """Whether a folder is that of a process of this host which is no more."""
    match = _COPYING.fullmatch(name)
    if match is None or match["host"] != socket.gethostname()[:30]:
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
