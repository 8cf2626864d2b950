"""The near cache: files of shared stores on a machine's own disk, by digest, for all processes of a user there.

::

    NEAR/files/ab/ab12…    the content, named by its SHA-256, read-only
    NEAR/parts/            what is being downloaded; it becomes content by a rename, after it was verified
    NEAR/locks/            one file a digest while it is being downloaded
    NEAR/out/PID-…/N/      what process PID has checked out: hard links to content under the names that loaders expect

What holds, whenever a process dies:

- Content is whole or not there, since it gets its name by a rename, and it is verified at each use anyway.
- What a process has checked out stays until that process lets go of it: evicting removes the content's own name, and
  the hard link keeps the data. A file that is mapped into memory or open outlives even the link.
- What a dead process left (links, parts, locks) is removed later by another one: the system releases the lock that a
  living owner holds on it.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from curidask.core.units import parse_size
from curidask.errors import ArtifactDamagedError, CacheError
from curidask.store.backends.errors import explain
from curidask.store.backends.remote import lay_out
from curidask.store.disk_cache import near_files
from curidask.store.integrity import Fetch, Verify, check_file, fetch_verified
from curidask.store.manifest import FileEntry

VARIABLE = "CURIDASK_NEAR_CACHE"
SIZE_VARIABLE = "CURIDASK_NEAR_CACHE_SIZE"
FETCHES_AT_ONCE = 8
LOOKS_PER_LIMIT = 64
"""A process looks at the size of the cache each time it has added a 64th of the limit."""


class Pin:
    """Keeps files where they were checked out, as long as somebody holds it."""

    __slots__ = ("__weakref__", "_out", "folder", "size_bytes")

    def __init__(self, folder: str, size_bytes: int, out: near_files.OutFolder) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self._out = out  # it ends when neither its near cache nor a pin in it is left

    def __reduce__(self) -> tuple[Any, ...]:
        return (_no_pin, ())  # elsewhere it keeps nothing


def _no_pin() -> None:
    return None


@dataclass(frozen=True, slots=True)
class NearSettings:
    """Where the near cache lies, and how large it may grow, as far as somebody said so.

    The variables ``CURIDASK_NEAR_CACHE`` and ``CURIDASK_NEAR_CACHE_SIZE`` of the process that uses it win: each machine
    may have its own.

    Attributes
    ----------
    folder : str
        Empty for one of the user's in the system's folder for temporary files.
    limit_bytes : int or None
        None for 20 GB, or a tenth of the free disk where that is less.
    """

    folder: str = ""
    limit_bytes: int | None = None

    def open(self) -> DiskCache:
        """The near cache of this process."""
        folder = os.environ.get(VARIABLE) or self.folder or near_files.default_folder()
        said = os.environ.get(SIZE_VARIABLE)
        return near_cache(folder, parse_size(said, SIZE_VARIABLE) if said else self.limit_bytes)


def near_cache(folder: str | Path, limit_bytes: int | None = None) -> DiskCache:
    """The near cache in a folder; one object a process."""
    return _opened(os.getpid(), os.path.abspath(os.path.expanduser(folder)), limit_bytes)


@lru_cache(maxsize=64)
def _opened(_: int, folder: str, limit_bytes: int | None) -> DiskCache:
    # By process: a forked child must not take the links of its parent for its own.
    return DiskCache(folder, limit_bytes)


class DiskCache:
    """Content by digest in a folder on this machine's disk. Use `near_cache` to open it.

    Parameters
    ----------
    folder : str
        Made when it is first used, for its owner only.
    limit_bytes : int, optional
        What is not in use is removed, least recently used first, when there is more than that. Processes that fetch at
        one time may exceed it by a 64th each, and so may what is in use.

    Notes
    -----
    Safe to use from several threads and processes.
    """

    def __init__(self, folder: str, limit_bytes: int | None = None) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._guard = threading.RLock()
        self._out: near_files.OutFolder | None = None
        self._alive: weakref.WeakValueDictionary[str, Pin] = weakref.WeakValueDictionary()
        self._kept: OrderedDict[str, Pin] = OrderedDict()
        self._scopes: list[list[Pin]] = []
        self._freed: list[str] = []
        self._added = 0
        self._count = 0

    # --- checking out ------------------------------------------------------------------------------------------------
    def bring(self, identity: str, files: Mapping[str, FileEntry], fetch: Fetch, verify: Verify) -> Pin:
        """Put files into a folder of this process, verified; what is not here is fetched.

        Parameters
        ----------
        identity : str
            Of the set of files. What this process has checked out under it is used again.
        files : mapping of str to FileEntry
            Path in the folder, with ``/``, to what must be there; the entry's name is what `fetch` is asked for.

        Returns
        -------
        Pin
            With the folder. The files stay until it is gone; it is kept for the block of `using`, or without one until
            the process ends or has since checked out half of what the near cache may hold.

        Raises
        ------
        ArtifactDamagedError
            When what is fetched is not what the entry says, or is not there.
        """
        verify = "size" if verify == "off" else verify
        pin = self._alive.get(identity)
        if pin is None or not _is_whole(pin.folder, files, verify):
            # What was checked out before stays as it is, for those who hold it.
            pin = self._bring(files, fetch, verify)
        with self._guard:
            self._alive[identity] = pin
            self._keep(identity, pin)
        return pin

    @contextmanager
    def using(self) -> Iterator[None]:
        """What is checked out within the block, by whatever thread, stays until it ends."""
        scope: list[Pin] = []
        with self._guard:
            self._scopes.append(scope)
        try:
            yield
        finally:
            with self._guard:
                self._scopes = [other for other in self._scopes if other is not scope]
            del scope
            self._sweep()

    def _keep(self, identity: str, pin: Pin) -> None:
        for scope in self._scopes:
            scope.append(pin)
        if self._scopes:
            return
        self._kept[identity] = pin
        self._kept.move_to_end(identity)
        while len(self._kept) > 1 and sum(kept.size_bytes for kept in self._kept.values()) > self._limit() / 2:
            self._kept.popitem(last=False)

    def _bring(self, files: Mapping[str, FileEntry], fetch: Fetch, verify: Verify) -> Pin:
        self._sweep()
        pin = self._new_pin(sum(entry.size_bytes for entry in files.values()))
        for folder in {os.path.dirname(path) for path in files} - {""}:
            os.makedirs(f"{pin.folder}/{folder}", exist_ok=True)
        missing = [path for path, entry in files.items() if not self._take(entry, f"{pin.folder}/{path}", verify)]
        self._fetch_all([(files[path], f"{pin.folder}/{path}") for path in missing], fetch, verify)
        list(lay_out(pin.folder, files))
        self._trim_if_due()
        return pin

    def _fetch_all(self, wanted: list[tuple[FileEntry, str]], fetch: Fetch, verify: Verify) -> None:
        if min(len(wanted), FETCHES_AT_ONCE) < 2:
            for entry, target in wanted:
                self._fetch(entry, target, fetch, verify)
            return
        with ThreadPoolExecutor(min(FETCHES_AT_ONCE, len(wanted)), "curidask-near") as pool:
            jobs = [pool.submit(self._fetch, entry, target, fetch, verify) for entry, target in wanted]
        for job in jobs:
            job.result()

    def _new_pin(self, size_bytes: int) -> Pin:
        with self._guard:
            if self._out is None or not self._out.is_mine():
                self.folder = near_files.prepare(self.folder)
                self._out = near_files.OutFolder(self.folder)
            self._count += 1
            out, folder = self._out, f"{self._out.path}/{self._count}"
        try:
            os.mkdir(folder)
        except OSError as error:
            raise self._explained(error) from error
        pin = Pin(folder, size_bytes, out)
        weakref.finalize(pin, self._freed.append, folder).atexit = False
        return pin

    def _sweep(self) -> None:
        """Remove what nobody of this process holds any longer."""
        if self._out is None or not self._out.is_mine():
            return  # a forked child has a copy of the list, but its parent still uses the folders
        while self._freed:
            with suppress(IndexError):
                shutil.rmtree(self._freed.pop(), ignore_errors=True)

    def _take(self, entry: FileEntry, target: str, verify: Verify) -> bool:
        """Link content that is here and whole; drop it when it is damaged."""
        content = self._content(entry.sha256)
        try:
            _link_or_copy(content, target)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._explained(error) from error
        try:
            # Verified under the link: whatever happens to the content's own name meanwhile, this is what is used.
            check_file(target, entry.name, entry, verify)
        except ArtifactDamagedError:
            near_files.drop(content, target)
            os.unlink(target)
            return False
        with suppress(OSError):
            os.utime(content)
        return True

    # --- fetching ----------------------------------------------------------------------------------------------------
    def _fetch(self, entry: FileEntry, target: str, fetch: Fetch, verify: Verify) -> None:
        with near_files.lock(self.folder, entry.sha256):
            # Race: another process fetched it since it was looked for; it held the lock until the content was there.
            if self._take(entry, target, verify):
                return
            part = near_files.new_part(self.folder, entry.sha256)
            try:
                self._with_room(lambda: fetch_verified(fetch, entry, part, verify))
                self._publish(entry, part, target)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)
        with self._guard:
            self._added += entry.size_bytes

    def _publish(self, entry: FileEntry, part: str, target: str) -> None:
        """Give a verified part its names: the one that the loader expects, and that of the content."""
        content = self._content(entry.sha256)
        try:
            os.chmod(part, 0o444)  # a loader that writes to its file must not change what others read
            _link_or_copy(part, target)
            os.makedirs(os.path.dirname(content), exist_ok=True)
            os.replace(part, content)
        except OSError as error:
            raise self._explained(error) from error

    def _with_room(self, fetch: Callable[[], None]) -> None:
        try:
            fetch()
        except CacheError as error:
            if not _is_full(error):
                raise
            self.trim(limit_bytes=0)
            fetch()

    # --- keeping within the limit ------------------------------------------------------------------------------------
    def trim(self, limit_bytes: int | None = None) -> int:
        """Remove what dead processes left, then unused content down to the limit, least recently used first.

        Returns
        -------
        int
            Bytes that are left; more than the limit only when they are in use.
        """
        with self._guard:
            self._added = 0
        return near_files.trim(self.folder, self.limit_bytes if limit_bytes is None else limit_bytes)

    def _trim_if_due(self) -> None:
        due = self._added and (
            self._added > self._limit() / LOOKS_PER_LIMIT or near_files.was_trimmed_long_ago(self.folder)
        )
        if due:
            self.trim()

    def _limit(self) -> int:
        return near_files.default_limit(self.folder) if self.limit_bytes is None else self.limit_bytes

    def _content(self, sha256: str) -> str:
        return near_files.content_path(self.folder, sha256)

    def _explained(self, error: OSError) -> CacheError:
        problem = explain(error, "write", "the near cache", self.folder)
        problem.fix = f"free space on its disk, or set {VARIABLE} to a folder of yours on a disk that has some"
        return problem


def _is_whole(folder: str, files: Mapping[str, FileEntry], verify: Verify) -> bool:
    try:
        for path, entry in files.items():
            check_file(f"{folder}/{path}", entry.name, entry, verify)
            with suppress(OSError):
                os.utime(f"{folder}/{path}")  # the content is the same file: it was used now
    except ArtifactDamagedError:
        return False
    return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in near_files.NO_LINKS:
            raise
        shutil.copyfile(source, target)


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
