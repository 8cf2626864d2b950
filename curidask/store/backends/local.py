"""Objects as files below a folder: temporary file and rename, exclusive by hard link."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from curidask.core.artifact_names import LAYOUT_SUFFIX, check_object_name, is_temporary
from curidask.errors import CacheError, ObjectMissingError, ObjectUnreadableError
from curidask.store.backends import conditional_put
from curidask.store.backends.entries import Entry, Stored
from curidask.store.backends.errors import explain
from curidask.store.backends.remote import layout_of
from curidask.store.integrity import look_twice
from curidask.store.manifest import open_file, read_file

# --- who else may use what lies in a folder --------------------------------------------------------------------------
# What the umask of the writer and the folder itself say.

USUAL_UMASK = 0o022


def shares_with_group(folder: str) -> bool:
    """Whether a folder is one for its group to work in: the group may write, and what is made in it is the group's.

    One that is not there yet will be as the one in which it is made.
    """
    mode = _mode(folder)
    while mode is None and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        mode = _mode(folder)
    return mode is not None and bool(mode & stat.S_IWGRP and mode & stat.S_ISGID)


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def open_for_group(folder: str) -> None:
    """Let the group of a folder work in it, as far as this user may say so."""
    _open_one(folder, group=True)


def open_up(path: str, *, group: bool) -> None:
    """Give a file, or a folder with all in it, the permissions that it would have had if it had been made in its place.

    Some libraries make files that only their owner can read, whatever the umask says.

    Parameters
    ----------
    group : bool
        Whether the group may do what the owner may.
    """
    _open_one(path, group=group)
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                _open_one(f"{folder}/{name}", group=group)


def _open_one(path: str, *, group: bool) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    is_folder = os.path.isdir(path)
    usual = (0o777 if is_folder else 0o666) & ~_umask()
    wanted = mode | (usual & ~0o200)
    if group:
        wanted |= (mode & 0o700) >> 3 | (stat.S_ISGID if is_folder else 0)
    if wanted != mode:
        with suppress(PermissionError):  # another owner's, who has opened it himself
            os.chmod(path, wanted)


def make_folders(folder: str, root: str, *, group: bool) -> None:
    """Make a folder in a root, and those between them; also the root."""
    missing = []
    path = folder
    while len(path) >= len(root) and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    for made in missing if group else ():
        _open_one(made, group=True)


@cache
def _umask() -> int:
    """What this process takes away from what it makes, asked without changing it: another thread may make something."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return USUAL_UMASK


# --- locks on local folders, for as long as a block runs -------------------------------------------------------------
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_PATIENCE_SECONDS = 10.0


@contextmanager
def locked(open_folder: Callable[[], int]) -> Iterator[None]:
    """Hold a lock on what is opened; without one where there are no locks, or its holder hangs."""
    fd = None
    if fcntl is not None:
        with suppress(OSError):
            fd = open_folder()
    try:
        if fd is not None:
            _wait_for_lock(fd)
        yield
    finally:
        if fd is not None:
            _unlock(fd)


def _wait_for_lock(fd: int) -> None:
    give_up = time.monotonic() + LOCK_PATIENCE_SECONDS
    pause = 0.0005
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        except OSError:
            return


def _unlock(fd: int) -> None:
    # Unlocked by name, not only closed: a process that was forked meanwhile holds a copy of the descriptor.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


# --- local -----------------------------------------------------------------------------------------------------------
BLOCK_BYTES = 1 << 20

T = TypeVar("T")


def _tag(stat: os.stat_result) -> str:
    # Not all file systems keep nanoseconds, so that another machine might see others.
    return f"{stat.st_mtime_ns // 1000}-{stat.st_size}"


class LocalObjects:
    """Objects as files below a folder.

    Parameters
    ----------
    root : str or Path
        The folder; created when something is written.
    for_group : bool
        Whether it is one for its group to work in, also where its permissions do not say so yet.
    """

    shared = True

    def __init__(self, root: str | Path, *, for_group: bool = False) -> None:
        self.url = os.path.abspath(os.path.expanduser(root))
        self.local_root = Path(self.url)
        self._folder = self.url.rstrip("/" + os.sep) + "/"
        self._for_group = for_group
        self._shares: bool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.url, self._for_group))

    def __repr__(self) -> str:
        return f"<LocalObjects {self.url}>"

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with a prefix; hidden entries at the root are not objects."""
        return [name for name, _ in self._walk(prefix)]

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """The same with sizes and times."""
        for name, entry in self._walk(prefix):
            with suppress(FileNotFoundError):  # removed since it was seen
                stat = entry.stat()
                yield Entry(name, stat.st_size, stat.st_mtime, _tag(stat))

    def tag_of(self, name: str, data: bytes) -> str:
        """See `ObjectStore.tag_of`; whoever asks holds the lock, so that nobody else has written since."""
        with suppress(OSError):
            return _tag(os.stat(self._path(name)))
        return ""

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        below = check_object_name(prefix + "x").rpartition("/")[0]
        pending = [below + "/" if below else ""]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(self._folder + folder) as entries:
                    found = [(folder + entry.name, entry) for entry in entries]
            except (FileNotFoundError, NotADirectoryError):  # not made yet, or removed since it was seen
                continue
            except OSError as error:
                raise explain(error, "list", folder or self.url, self.url) from error
            for name, entry in found:
                if not name.startswith(prefix) or (name[0] == "." and prefix[:1] != "."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name + "/")
                elif not is_temporary(entry.name):  # it is not there before it has its own name
                    yield name, entry

    def exists(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are there."""
        return {name for name in names if os.path.isfile(self._path(name))}

    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        path = self._path(name)
        try:
            return look_twice(lambda: read_file(path))
        except (OSError, ValueError) as error:
            raise self._unreadable(name, error) from error

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those that are there."""
        found = {}
        for name in names:
            with suppress(ObjectMissingError):
                found[name] = self.read(name)
        return found

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write to a file beside the target, then put it there in one step."""
        temporary = ""
        try:
            target = self._own_path(name)
            fd, temporary = self._open_beside(target)
            try:
                _write_all(fd, data)
            finally:
                os.close(fd)
            if exclusive:
                return _link(temporary, target, data, group=self._is_for_group())
            self._replace(temporary, target)
            temporary = ""
            return True
        except CacheError:
            raise
        except OSError as error:
            raise explain(error, "write", name, self.url) from error
        finally:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)

    def link(self, source: str, name: str) -> bool:
        """Give an object a second name, when there is none of that name: False says that there is one.

        Raises
        ------
        ObjectMissingError
            When there is no such source, or the file system has no links.
        """
        try:
            os.link(self._path(source), self._own_path(name))
        except FileExistsError:
            return False
        except OSError as error:
            raise ObjectMissingError(f"The object {source!r} cannot be linked to.", where=self.url) from error
        return True

    def adopt(self, local: str | Path, name: str) -> None:
        """Move a local file or folder into the store: a rename on the same disk, else a copy that is renamed."""
        source = os.fspath(local)
        try:
            target = self._own_path(name)
            if os.path.isdir(source) or os.path.isdir(target):
                self._set_aside(target)
            open_up(source, group=self._is_for_group())
            self._rename(source, target)
        except OSError as error:
            raise explain(error, "write", name, self.url) from error

    def adopt_many(self, moves: Mapping[str, str | Path]) -> dict[str, Stored]:
        """Move files and folders; nothing is read on the way."""
        for name, local in moves.items():
            self.adopt(local, name)
        return {}

    def fetch(self, name: str, target: str | Path, size_bytes: int | None = None) -> Stored:
        """Copy an object into a local file, and take its digest."""
        digest, size = hashlib.sha256(), 0
        try:
            with open(target, "wb", buffering=0) as file:
                for block in self._blocks(name):
                    digest.update(block)
                    _write_all(file.fileno(), block)
                    size += len(block)
        except CacheError:
            raise
        except OSError as error:
            raise explain(error, "copy", name, self.url) from error
        return Stored(size, digest.hexdigest())

    def fetch_many(self, targets: Mapping[str, str | Path], sizes: Mapping[str, int]) -> dict[str, Stored]:
        """Copy objects into local files."""
        return {name: self.fetch(name, target) for name, target in targets.items()}

    def copy_from(self, other: Any, names: Iterable[str]) -> None:
        """Copy objects of another place to the same names here; each is there whole or not at all."""
        for name in names:
            temporary = ""
            try:
                target = self._own_path(name)
                fd, temporary = self._open_beside(target)
                os.close(fd)
                other.fetch(name, temporary)
                self._replace(temporary, target)
                temporary = ""
            except CacheError:
                raise
            except OSError as error:
                raise explain(error, "write", name, self.url) from error
            finally:
                if temporary:
                    with suppress(OSError):
                        os.unlink(temporary)

    def probe_exclusive(self) -> bool:
        """Whether the file system of the folder creates files exclusively; tried once in each process."""
        return conditional_put.probe(self, "")

    def create(self, name: str, data: bytes) -> bool:
        """Create a file exclusively, whether the file system is known to do so or not."""
        return self.write(name, data, exclusive=True)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and the folders that become empty."""
        folders = set()
        names = list(names)
        for name in names + [empty for each in names for empty in self._empty_with(each)]:
            try:
                remove_tree(self._own_path(name))  # also a folder that lies where a file should
            except FileNotFoundError:
                pass
            except NotADirectoryError:
                continue
            except OSError as error:
                raise explain(error, "remove", name, self.url) from error
            folders.add(name.rpartition("/")[0])
        for folder in sorted(folders, reverse=True):
            while folder:
                try:
                    os.rmdir(self._folder + folder)
                except OSError:  # not empty, or gone already
                    break
                folder = folder.rpartition("/")[0]

    def _empty_with(self, name: str) -> tuple[str, ...]:
        """The empty folders that go with an object."""
        return layout_of(self.url, name).folders if name.endswith(LAYOUT_SUFFIX) else ()

    def lock(self, name: str = "") -> AbstractContextManager[None]:
        """Hold a lock on the folder itself, whatever it is for; the system releases it when its holder dies.

        Where a file system has no locks, and after waiting for a holder that hangs, it goes on without: then two
        writers of one artifact can leave a mismatch, which readers see and treat as a miss.
        """
        return locked(lambda: self._with_folder(self.url, lambda: os.open(self._folder, os.O_RDONLY)))

    def check_writable(self) -> None:
        """Make the folder and write something."""
        probe = f".probe-{os.getpid()}-{os.urandom(4).hex()}"
        self.write(probe, b"writable")
        self.remove([probe])

    def _path(self, name: str) -> str:
        return self._folder + check_object_name(name)

    def _blocks(self, name: str) -> Iterator[bytes]:
        """An object's bytes, block by block."""
        path = self._path(name)
        try:
            with look_twice(lambda: open_file(path)) as file:
                while block := file.read(BLOCK_BYTES):
                    yield block
        except OSError as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> ObjectMissingError:
        """What to raise for an object that is not there, or that could not be read."""
        if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
            return ObjectMissingError(f"There is no object {name!r}.", where=self.url)
        what = f"The object {name!r} cannot be read: {getattr(error, 'strerror', None) or error}."
        return ObjectUnreadableError(what, where=self.url)

    def _own_path(self, name: str) -> str:
        """The path of an object that is to be changed; what lies behind a link is not the store's, and is refused."""
        path = self._path(name)
        end = len(self._folder)
        while (end := path.find("/", end) + 1) > 0:
            if os.path.islink(path[: end - 1]):
                raise NotADirectoryError(errno.ENOTDIR, f"{path[len(self._folder) : end - 1]!r} is a link", path)
        return path

    def _open_beside(self, target: str) -> tuple[int, str]:
        folder = os.path.dirname(target)
        path = f"{folder}/.tmp-{os.getpid()}-{next(_counter)}-{os.urandom(4).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        fd = self._with_folder(folder, lambda: os.open(path, flags, 0o666))
        if self._is_for_group():
            os.fchmod(fd, os.fstat(fd).st_mode | 0o060)
        return fd, path

    def _is_for_group(self) -> bool:
        """Whether what is made belongs to the folder's group as much as to its maker; found out once."""
        if self._shares is None:
            if self._for_group and os.path.isdir(self.url):
                open_for_group(self.url)
            self._shares = self._for_group or shares_with_group(self.url)
        return self._shares

    def _with_folder(self, folder: str, action: Callable[[], T]) -> T:
        # Race: another process removes the folder, empty after a removal, between its creation here and the action.
        for _ in range(3):
            try:
                return action()
            except FileNotFoundError:
                make_folders(folder, self.url, group=self._is_for_group())
        return action()

    def _rename(self, source: str, target: str) -> None:
        try:
            self._with_folder(os.path.dirname(target), lambda: os.replace(source, target))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(source, target)
            shutil.rmtree(source) if os.path.isdir(source) else os.unlink(source)

    def _copy(self, source: str, target: str) -> None:
        temporary = f"{os.path.dirname(target)}/.tmp-{os.getpid()}-{next(_counter)}-{os.urandom(4).hex()}"
        copy: Callable[..., Any] = shutil.copytree if os.path.isdir(source) else shutil.copy
        try:
            self._with_folder(os.path.dirname(target), lambda: copy(source, temporary))
            open_up(temporary, group=self._is_for_group())
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                remove_tree(temporary)

    def _replace(self, temporary: str, target: str) -> None:
        try:
            os.replace(temporary, target)
        except IsADirectoryError:
            self._set_aside(target)
            os.replace(temporary, target)

    def _set_aside(self, target: str) -> None:
        """Make way: a rename replaces no folder that has something in it, and by a file none at all."""
        aside = f"{self._folder}.tmp-{os.getpid()}-{next(_counter)}-{os.urandom(4).hex()}"
        try:
            os.rename(target, aside)
        except (FileNotFoundError, NotADirectoryError):
            return
        remove_tree(aside)


def _rebuild(root: str, for_group: bool) -> LocalObjects:
    return LocalObjects(root, for_group=for_group)


_counter = itertools.count()


def remove_tree(path: str) -> None:
    """Remove a file, a link, or a folder with all in it."""
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):  # as some systems say of a folder
        if not os.path.isdir(path) or os.path.islink(path):
            raise
        shutil.rmtree(path)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


def _link(temporary: str, target: str, data: bytes, *, group: bool) -> bool:
    """Put a finished file under a name that must be free: a hard link is refused when the name is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            return _create(target, data, group=group)  # a file system without hard links
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT):
            raise
        refused = CacheError(
            f"The file system makes no links: {error.strerror or error}.", where=os.path.dirname(target)
        )
        refused.kind = "unsupported"
        raise refused from error
    return True


def _create(target: str, data: bytes, *, group: bool) -> bool:
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except FileExistsError:
        return False
    try:
        if group:
            os.fchmod(fd, os.fstat(fd).st_mode | 0o060)
        _write_all(fd, data)
    except OSError:
        os.unlink(target)
        raise
    finally:
        os.close(fd)
    return True
