"""Named bytes in one place: a local folder, or anything that fsspec reaches. The only module that knows fsspec.

Every write is atomic: a reader sees the whole object or none. A local folder is served by the operating system's own
calls, since fsspec's local file system offers neither atomic replacement nor exclusive creation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from curidask.errors import CacheError, ObjectMissingError, UnsafeNameError

WORK_PREFIX = ".work-"
"""Begins the names of private folders in a local store; they are never listed."""

FORGOTTEN_SECONDS = 24 * 3600
"""Age at which a private folder or temporary file belongs to nobody: no commit takes a day."""

EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class ObjectStore(Protocol):
    """What the artifact store needs of a place.

    Names are relative, with ``/`` between parts. All methods may be called from several processes at once.
    """

    url: str
    local_root: Path | None
    """The folder itself, where files can be used in place; None for a remote place."""
    shared: bool
    """Whether other processes see it."""

    def list(self) -> Iterator[str]:
        """The names of all objects, in one listing, never from a cache of listings."""
        ...

    def exists(self, name: str) -> bool:
        """Whether an object is there."""
        ...

    def read(self, name: str) -> bytes:
        """The content of an object; ObjectMissingError when it is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Create or replace an object in one step."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Create an object unless one is there; whether this call created it."""
        ...

    def adopt(self, path: Path, name: str) -> None:
        """Make a local file the object of that name; the file may be gone afterwards."""
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Write the content of an object to a local file; ObjectMissingError when it is not there."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def work_folder(self, run: str) -> Path:
        """Make a private local folder whose files `adopt` takes without copying where that is possible."""
        ...

    def clean(self, run: str) -> None:
        """Remove the private folders that a run left behind."""
        ...

    def check_writable(self) -> None:
        """Raise CacheError, saying how to fix it, when nothing can be written."""
        ...


def open_objects(url: str, **options: Any) -> ObjectStore:
    """Open the place that a path or URL names.

    Parameters
    ----------
    url : str
        A folder, ``file://`` or any URL that fsspec knows.
    **options
        For fsspec's file system.

    Raises
    ------
    CacheError
        For a URL whose driver is not there.
    """
    protocol, separator, rest = str(url).partition("://")
    if not separator:
        return LocalObjects(Path(url))
    if protocol in ("file", "local"):
        return LocalObjects(Path(rest))
    return FsspecObjects(str(url), options)


def check_object_name(name: str) -> None:
    """Refuse a name that would lead out of the store (user-made parts are made safe long before)."""
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise UnsafeNameError(f"{name!r} is no name of an object in the cache.", fix="use relative names without '..'")


class LocalObjects:
    """Objects as files of a folder."""

    shared = True

    def __init__(self, root: Path) -> None:
        self.local_root: Path | None = Path(os.path.abspath(root))
        self._root = str(self.local_root)
        self.url = self._root

    def _path(self, name: str) -> str:
        check_object_name(name)
        return f"{self._root}{os.sep}{name}"

    def list(self) -> Iterator[str]:
        """All files below the folder, without looking at any of them."""
        stack = [""]
        while stack:
            folder = stack.pop()
            try:
                entries = os.scandir(f"{self._root}{os.sep}{folder}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=True):
                        if not entry.name.startswith(WORK_PREFIX):
                            stack.append(f"{folder}{entry.name}/")
                    elif not entry.name.startswith(WORK_PREFIX):
                        yield folder + entry.name

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return os.path.exists(self._path(name))

    def read(self, name: str) -> bytes:
        """The file's content."""
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissingError(f"There is no object {name} in the cache.", where=self.url) from error
        except OSError as error:
            raise _read_error(error, self.url, name) from error

    def write(self, name: str, data: bytes) -> None:
        """Write beside, then replace: a reader sees the old file or the new one."""
        with self._writing(name) as (path, temporary):
            _write_file(temporary, data)
            os.replace(temporary, path)

    def create(self, name: str, data: bytes) -> bool:
        """Write beside, then link: the link fails when the name is taken, and never shows half a file."""
        with self._writing(name) as (path, temporary):
            _write_file(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            return True

    def adopt(self, path: Path, name: str) -> None:
        """Rename the file into place, or copy it beside first when it lies on another disk."""
        with self._writing(name) as (target, temporary):
            try:
                os.replace(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copyfile(path, temporary)
                os.replace(temporary, target)

    def fetch(self, name: str, path: Path) -> None:
        """Copy the file."""
        path.write_bytes(self.read(name))

    def remove(self, name: str) -> None:
        """Remove the file."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.remove(self._path(name))

    def work_folder(self, run: str) -> Path:
        """A folder inside the store's own, so that adopting is a rename."""
        folder = f"{self._root}{os.sep}{WORK_PREFIX}{run}-{uuid.uuid4().hex[:12]}"
        try:
            try:
                os.mkdir(folder)
            except FileNotFoundError:
                os.makedirs(folder)
        except OSError as error:
            raise _write_error(error, self.url, "a work folder") from error
        return Path(folder)

    def clean(self, run: str) -> None:
        """Remove the run's work folders (those of workers that were killed), and anybody's that is a day old."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(self._root):
                if entry.name.startswith(f"{WORK_PREFIX}{run}-") or _is_forgotten(entry):
                    shutil.rmtree(entry.path, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        os.remove(entry.path)

    def check_writable(self) -> None:
        """Write and remove a file."""
        probe = f"{WORK_PREFIX}probe-{uuid.uuid4().hex}"
        self.write(probe, b"probe")
        self.remove(probe)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[tuple[str, str]]:
        """The path and a temporary one beside it; cleans up and explains when writing fails."""
        path = self._path(name)
        folder = path.rpartition(os.sep)[0]
        temporary = f"{folder}{os.sep}{WORK_PREFIX}{uuid.uuid4().hex[:12]}"
        try:
            try:
                yield path, temporary
            finally:
                with contextlib.suppress(OSError):
                    os.remove(temporary)
        except FileNotFoundError as error:
            if os.path.isdir(folder):
                raise _write_error(error, self.url, name) from error
            raise _FolderMissingError(folder) from error
        except OSError as error:
            raise _write_error(error, self.url, name) from error


def _is_forgotten(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.name.startswith(WORK_PREFIX) and time.time() - entry.stat().st_mtime > FORGOTTEN_SECONDS
    return False


class _FolderMissingError(Exception):
    """The folder of an object is not there yet."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder


def _making_folder(method: Any) -> Any:
    """Make the object's folder when it turns out to be missing, then do it again: most writes need no look."""

    def retrying(self: LocalObjects, *args: Any) -> Any:
        try:
            return method(self, *args)
        except _FolderMissingError as missing:
            try:
                os.makedirs(missing.folder, exist_ok=True)
            except OSError as error:
                raise _write_error(error, self.url, missing.folder) from error
        try:
            return method(self, *args)
        except _FolderMissingError as missing:
            raise CacheError(f"The folder {missing.folder} vanished while it was written to.", where=self.url) from None

    retrying.__doc__ = method.__doc__
    return retrying


for _name in ("write", "create", "adopt"):
    setattr(LocalObjects, _name, _making_folder(getattr(LocalObjects, _name)))


def _write_file(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        written = file.write(data)
        while written is not None and written < len(data):  # a raw write may stop early, on a full disk for one
            written += file.write(data[written:]) or 0


def _write_error(error: OSError, url: str, name: str) -> CacheError:
    fixes = {
        errno.ENOSPC: "free space on that disk, or choose another cache with --cache",
        errno.EDQUOT: "free space within your quota, or choose another cache with --cache",
        errno.EFBIG: "the limit for the size of a file is reached: raise it (ulimit -f), or choose another cache",
        errno.EROFS: "it is mounted read-only: choose another cache with --cache, or read it with --dry-cache",
        errno.EACCES: "get the right to write there, choose another cache with --cache, or read it with --dry-cache",
        errno.EPERM: "get the right to write there, choose another cache with --cache, or read it with --dry-cache",
        errno.ENOTDIR: "a part of the path is a file: choose another folder with --cache",
        errno.EEXIST: "a part of the path is a file: choose another folder with --cache",
    }
    fix = fixes.get(error.errno or 0, "look at the disk of the cache, or choose another cache with --cache")
    reason = error.strerror or str(error)
    return CacheError(f"The cache cannot be written: {reason}.", where=f"{name} in {url}", fix=fix)


def _read_error(error: OSError, url: str, name: str) -> CacheError:
    return CacheError(
        f"The cache cannot be read: {error.strerror or error}.",
        where=f"{name} in {url}",
        fix="ask for the right to read there, or choose another cache with --cache",
    )


class FsspecObjects:
    """Objects of a file system that fsspec reaches by URL."""

    local_root: Path | None = None

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        import fsspec

        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        self.shared = protocol != "memory"
        settings: dict[str, Any] = {} if protocol == "memory" else {"use_listings_cache": False}
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url, **settings, **options)
        except ImportError as error:
            extra = EXTRAS.get(protocol, protocol)
            raise CacheError(
                f"No driver for {protocol}:// is installed.", where=self.url, fix=f"pip install {extra}"
            ) from error
        except ValueError as error:
            raise CacheError(
                f"{protocol}:// is no kind of cache: {error}", where=self.url, fix="use a folder, s3://, gs:// or az://"
            ) from error
        self._root = root.rstrip("/")

    def _path(self, name: str) -> str:
        check_object_name(name)
        return f"{self._root}/{name}"

    def list(self) -> Iterator[str]:
        """All objects below the root."""
        with self._explaining("listed", ""):
            try:
                found = self._fs.find(self._root)
            except FileNotFoundError:
                found = []
        start = len(self._fs._strip_protocol(self._root)) + 1
        yield from (path[start:] for path in found)

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        with self._explaining("read", name):
            return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """The object's content."""
        with self._explaining("read", name):
            return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Put the object in one request."""
        with self._explaining("written", name):
            self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put the object unless there is one."""
        with self._explaining("written", name):
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
            return True

    def adopt(self, path: Path, name: str) -> None:
        """Upload the file."""
        with self._explaining("written", name):
            self._fs.put_file(str(path), self._path(name))

    def fetch(self, name: str, path: Path) -> None:
        """Download the object."""
        with self._explaining("read", name):
            self._fs.get_file(self._path(name), str(path))

    def remove(self, name: str) -> None:
        """Remove the object."""
        with contextlib.suppress(ObjectMissingError), self._explaining("removed from", name):
            self._fs.rm_file(self._path(name))

    def work_folder(self, run: str) -> Path:
        """A temporary folder on this machine."""
        return Path(tempfile.mkdtemp(prefix=f"curidask-{run}-"))

    def clean(self, run: str) -> None:
        """Remove the run's temporary folders of this machine."""
        for folder in Path(tempfile.gettempdir()).glob(f"curidask-{run}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def check_writable(self) -> None:
        """Write and remove an object."""
        probe = f"probe-{uuid.uuid4().hex}"
        self.write(probe, b"probe")
        self.remove(probe)

    @contextlib.contextmanager
    def _explaining(self, done: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissingError(f"There is no object {name} in the cache.", where=self.url) from error
        except (CacheError, KeyboardInterrupt, FileExistsError):
            raise
        except Exception as error:  # drivers raise errors of their own, not all of them OSErrors
            raise CacheError(
                f"The cache cannot be {done}: {type(error).__name__}: {error}",
                where=f"{name} in {self.url}",
                fix="check the address, the credentials and the rights of the cache",
            ) from error


def existing(objects: ObjectStore, names: Iterable[str]) -> set[str]:
    """Those of a few names that are there, by one look each."""
    return {name for name in names if objects.exists(name)}
