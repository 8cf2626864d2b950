"""The folders of the near cache: names, locks, owners, and what may be removed.

See `curidask.store.disk_cache.near`.
"""

from __future__ import annotations

import errno
import getpass
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from curidask.errors import CacheError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_LIMIT = 20 * 10**9
FREE_SHARE = 0.1
PART_SECONDS = 3600.0
"""How old a part of nobody's must be before it is removed."""
PATIENCE_SECONDS = 120.0
"""How long to wait for a process that downloads the same and gets no further."""
TRIM_SECONDS = 60.0

ANOTHER_FOLDER = "set CURIDASK_NEAR_CACHE to a folder of yours on a disk of this machine"

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})
"""What a file system says that has no hard links, or no more of them."""


# --- places -----------------------------------------------------------------------------------------------------------
def default_folder() -> str:
    """A folder of the user's in the system's folder for temporary files, which is on a disk of this machine."""
    return f"{tempfile.gettempdir()}/curidask-near-{_user()}"


def default_limit(folder: str, used_bytes: int = 0) -> int:
    """20 GB, or a tenth of what is free, not counting the near cache itself, where that is less."""
    there = folder
    while there and not os.path.isdir(there):
        there = os.path.dirname(there)
    try:
        free = shutil.disk_usage(there or "/").free
    except OSError:
        return MAX_LIMIT
    return min(MAX_LIMIT, int((free + used_bytes) * FREE_SHARE))


def content_path(folder: str, sha256: str) -> str:
    """Where content lies."""
    return f"{folder}/files/{sha256[:2]}/{sha256}"


def new_part(folder: str, sha256: str) -> str:
    """A path to download to; no two are the same."""
    return f"{folder}/parts/{sha256}.{os.urandom(4).hex()}"


def prepare(folder: str) -> str:
    """Make the folder, for its owner only.

    Returns
    -------
    str
        The folder; a user's own one in it, where it is a place for everybody, such as ``/scratch``.

    Raises
    ------
    CacheError
        When it belongs to somebody else, who could change what is loaded from it, or cannot be made.
    """
    try:
        _make(folder)
        if _is_for_everybody(os.lstat(folder)):
            folder = f"{folder}/curidask-near-{_user()}"
            _make(folder)
        found = os.lstat(folder)
        _refuse_foreign(folder, found)
        if found.st_mode & stat.S_IWGRP:
            os.chmod(folder, stat.S_IMODE(found.st_mode) & ~stat.S_IWGRP)  # whoever writes there changes what is loaded
        for name in ("files", "parts", "locks", "out"):
            os.makedirs(f"{folder}/{name}", 0o700, exist_ok=True)
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(
            f"The near cache cannot be made: {error.strerror or error}.", where=folder, fix=ANOTHER_FOLDER
        ) from error
    return folder


def _make(folder: str) -> None:
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _is_for_everybody(found: os.stat_result) -> bool:
    """Whether it is root's, and nobody can move what others make in it."""
    return found.st_uid == 0 and bool(found.st_mode & stat.S_IWOTH) and bool(found.st_mode & stat.S_ISVTX)


def _refuse_foreign(folder: str, found: os.stat_result) -> None:
    ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or not ours:
        raise CacheError(
            "The folder of the near cache is not yours alone, so others could change what is loaded from it.",
            where=folder,
            fix=ANOTHER_FOLDER,
        )


def _user() -> str:
    try:
        return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    except OSError:
        return "user"


# --- locks ------------------------------------------------------------------------------------------------------------
@contextmanager
def lock(folder: str, sha256: str) -> Iterator[None]:
    """Be the only one who downloads this content.

    The system releases the lock of a process that dies. Of one that hangs, which shows in parts that do not grow, the
    others do not wait for ever: all that they risk is to download the same twice.
    """
    fd = _acquire(folder, sha256)
    try:
        yield
    finally:
        if fd is not None:
            try:
                # Unlinked while it is held: whoever waits for this file sees that it is not the one of that name now.
                os.unlink(_lock_path(folder, sha256))
            except FileNotFoundError:
                pass
            finally:
                _release(fd)


def _lock_path(folder: str, sha256: str) -> str:
    return f"{folder}/locks/{sha256}"


def _acquire(folder: str, sha256: str) -> int | None:
    path = _lock_path(folder, sha256)
    give_up = time.monotonic() + PATIENCE_SECONDS
    progress, pause = -1.0, 0.002
    while fcntl is not None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        taken = _try_lock(fd)
        if taken and _is_still(fd, path):
            return fd
        if taken is None:
            os.close(fd)
            return None  # a file system without locks
        _release(fd)
        if taken:
            continue  # the one before us has finished and removed it
        seen = _progress(folder, sha256)
        if seen != progress:
            progress, give_up = seen, time.monotonic() + PATIENCE_SECONDS
        if time.monotonic() > give_up:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return None


def _progress(folder: str, sha256: str) -> float:
    """Something that changes while the parts of this content grow."""
    total = 0.0
    with suppress(OSError):
        for name in os.listdir(f"{folder}/parts"):
            if name.startswith(sha256):
                with suppress(OSError):
                    total += os.stat(f"{folder}/parts/{name}").st_size + 1
    return total


def _try_lock(fd: int) -> bool | None:
    """Whether the lock is ours now; None where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _release(fd: int) -> None:
    # Unlocked by name, not only closed: a process that was forked meanwhile holds a copy of the descriptor.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _is_still(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


# --- what a process has checked out -----------------------------------------------------------------------------------
class OutFolder:
    """The folder for the links of this process, locked, and there, as long as this object is."""

    def __init__(self, near: str) -> None:
        self.pid = os.getpid()
        self.path, fd = _make_out(near, self.pid)
        self._end = weakref.finalize(self, _end_out, self.path, fd, self.pid)

    def is_mine(self) -> bool:
        """Whether it is there, and this process is not a fork of its owner."""
        return self.pid == os.getpid() and os.path.isdir(self.path)

    def remove(self) -> None:
        """Remove it with all links now."""
        self._end()


def _make_out(near: str, pid: int) -> tuple[str, int | None]:
    while True:
        path = f"{near}/out/{pid}-{os.urandom(4).hex()}"
        os.mkdir(path, 0o700)
        if fcntl is None:
            return path, None
        # Race: another process, tidying up, may lock and remove it between the two calls.
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if _try_lock(fd) is not False and _is_still(fd, path):
                return path, fd
            os.close(fd)


def _end_out(path: str, fd: int | None, pid: int) -> None:
    if pid == os.getpid():  # a fork's end is not its parent's
        shutil.rmtree(path, ignore_errors=True)
    if fd is not None:
        os.close(fd)


def _remove_dead(near: str) -> None:
    for name in _names(f"{near}/out"):
        with suppress(OSError):
            fd = os.open(f"{near}/out/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if fcntl is not None and _try_lock(fd):
                    shutil.rmtree(f"{near}/out/{name}", ignore_errors=True)
            finally:
                os.close(fd)


def _remove_stray_parts(near: str) -> None:
    now = time.time()
    for name in _names(f"{near}/parts"):
        path = f"{near}/parts/{name}"
        with suppress(OSError):
            if now - os.stat(path).st_mtime > PART_SECONDS and not _is_locked(near, name.partition(".")[0]):
                os.unlink(path)
    for name in _names(f"{near}/locks"):
        path = f"{near}/locks/{name}"
        with suppress(OSError):
            if now - os.stat(path).st_mtime > PART_SECONDS and not _is_locked(near, name):
                os.unlink(path)


def _is_locked(near: str, sha256: str) -> bool:
    try:
        fd = os.open(_lock_path(near, sha256), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return fcntl is not None and _try_lock(fd) is False
    finally:
        os.close(fd)


# --- removing ---------------------------------------------------------------------------------------------------------
def drop(content: str, link: str) -> None:
    """Remove damaged content, unless somebody has put other content in its place since it was linked."""
    with suppress(OSError):
        if os.path.samefile(content, link) or os.stat(content).st_nlink == 1:
            os.unlink(content)


def was_trimmed_long_ago(near: str) -> bool:
    """Whether nobody has looked at the size for a while."""
    try:
        return time.time() - os.stat(f"{near}/trimmed").st_mtime > TRIM_SECONDS
    except OSError:
        return True


def trim(near: str, limit_bytes: int | None) -> int:
    """Remove what dead processes left, then unused content down to a limit; the bytes that are left."""
    with suppress(OSError), open(f"{near}/trimmed", "w"):
        pass
    _remove_dead(near)
    _remove_stray_parts(near)
    found = sorted(_contents(near))
    total = sum(size for _, size, _, _ in found)
    limit_bytes = default_limit(near, total) if limit_bytes is None else limit_bytes
    for _, size, links, path in found:
        if total <= limit_bytes:
            break
        # More than one link: somebody uses it, and removing this name would free nothing. Race: it is linked right
        # after it was looked at; then the link keeps the data, and the next one fetches it again.
        if links == 1:
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
    return total


def _contents(near: str) -> Iterator[tuple[float, int, int, str]]:
    """Time of last use, size, links and path of all content."""
    for folder in _names(f"{near}/files"):
        with suppress(OSError), os.scandir(f"{near}/files/{folder}") as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found = os.stat(entry.path)
                    yield found.st_mtime, found.st_size, found.st_nlink, entry.path


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
