"""Named bytes in a folder or behind an fsspec URL: the smallest interface that artifacts need.

Names are relative, with ``/`` between components. Writing is atomic: an object is there whole, or it is not there.
This is the only module that knows fsspec.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from curidask.errors import CacheError, ObjectMissingError, UnsafeNameError
from curidask.store.local import LocalObjects, explain
from curidask.store.manifests import check_object_name

LOCAL_PROTOCOLS = ("file", "local")
SINGLE_WRITE_BYTES = 32 << 20
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "adl": "az"}


class ObjectStore(Protocol):
    """What a place for objects can do.

    All methods raise `CacheError` when the place fails, and `UnsafeNameError` for a name that could lead out of it.
    """

    @property
    def url(self) -> str:
        """Where it is; `open_objects` with it gives the same place in another process."""
        ...

    @property
    def local_root(self) -> Path | None:
        """The folder that holds the objects as files of their names, if there is one."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes see the same objects."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with a prefix, in no order, never from a cached listing.

        Those that begin with a dot are hidden: only a prefix that begins with one finds them.
        """
        ...

    def exists(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are there."""
        ...

    def read(self, name: str) -> bytes:
        """Return an object's bytes; `ObjectMissingError` when it is not there."""
        ...

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those that are there, with as few requests as possible."""
        ...

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object in one step. With `exclusive`, only when there is none: False says that there is one."""
        ...

    def adopt(self, local: str | Path, name: str) -> None:
        """Move a local file, or a folder with all in it, into the store, in place of what has the name now."""
        ...

    def fetch(self, name: str, target: str | Path) -> None:
        """Copy an object into a local file; `ObjectMissingError` when it is not there."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep others that ask for the lock out, as far as the place can do that."""
        ...

    def check_writable(self) -> None:
        """Raise a `CacheError` that says how to fix it, when objects cannot be written."""
        ...

    def probe_exclusive(self) -> bool:
        """Whether writing with `exclusive` can be relied on here; tried out once where it is not known."""
        ...


def open_objects(url: str | Path, **options: Any) -> ObjectStore:
    """Open a place for objects.

    Parameters
    ----------
    url : str or Path
        A folder (it need not exist yet), or any URL that fsspec knows.
    **options
        For the file system behind the URL.

    Raises
    ------
    CacheError
        When nothing is known under the URL's protocol, or a package is missing for it.
    """
    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if not separator:
        return LocalObjects(text)
    if protocol in LOCAL_PROTOCOLS:
        return LocalObjects(rest)
    return FsspecObjects(text, options)


# --- any other URL ---------------------------------------------------------------------------------------------------
class FsspecObjects:
    """Objects behind a URL that fsspec knows.

    Parameters
    ----------
    url : str
    options : dict
        For the file system; they may hold secrets, so they are never shown.

    Notes
    -----
    The file system is opened anew in each process and after a fork (its connections must not be shared), and never with
    a cache of listings, which would hide what other processes do.
    """

    local_root = None

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self.url = url.rstrip("/")
        self._options = dict(options or {})
        self.shared = not self.url.startswith("memory://")
        self._opened: tuple[int, Any, str] | None = None
        self._fs()

    def __reduce__(self) -> tuple[Any, ...]:
        return (FsspecObjects, (self.url, self._options))

    def __repr__(self) -> str:
        return f"<FsspecObjects {self.url}>"

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with a prefix."""
        below = check_object_name(prefix + "x").rpartition("/")[0]
        with self._explained("list", below or self.url):
            found = self._fs().find(self._path(below) if below else self._root)
        start = len(self._root) + 1
        names = (path[start:] for path in found)
        return [name for name in names if name.startswith(prefix) and (name[:1] != "." or prefix[:1] == ".")]

    def exists(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are there."""
        found = set()
        for name in names:
            with self._explained("look for", name):
                if self._fs().isfile(self._path(name)):
                    found.add(name)
        return found

    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        with self._explained("read", name):
            data: bytes = self._fs().cat_file(self._path(name))
        return data

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those that are there, requested together."""
        paths = {self._path(name): name for name in names}
        if not paths:
            return {}
        with self._explained("read", self.url):
            got = self._fs().cat(list(paths), on_error="return")
        found: dict[str, bytes] = {}
        for path, data in got.items():
            if isinstance(data, bytes):
                found[paths[path]] = data
            elif not isinstance(data, FileNotFoundError):
                with self._explained("read", paths[path]):
                    raise data
        return found

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object with one request."""
        path = self._path(name)
        with self._explained("write", name):
            if not exclusive:
                self._fs().pipe_file(path, data)
                return True
            if self.shared:
                raise CacheError(f"{self.url} is not known to create an object exclusively.", where=self.url)
            with self.lock():
                if self._fs().exists(path):
                    return False
                self._fs().pipe_file(path, data)
                return True

    def adopt(self, local: str | Path, name: str) -> None:
        """Upload a local file, or all files of a folder, and remove them locally."""
        source = os.fspath(local)
        if not os.path.isdir(source):
            with self._explained("write", name):
                self._upload(source, self._path(name))
                os.unlink(source)
            return
        for entry in sorted(os.listdir(source)):
            self.adopt(f"{source}/{entry}", f"{name}/{entry}")

    def fetch(self, name: str, target: str | Path) -> None:
        """Download an object into a local file."""
        with self._explained("read", name):
            self._fs().get_file(self._path(name), os.fspath(target))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        for name in names:
            with self._explained("remove", name), suppress(FileNotFoundError):
                self._fs().rm_file(self._path(name))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep this process's other threads out; a store in the network has no lock for other processes."""
        with _process_locks[self.url]:
            yield

    def check_writable(self) -> None:
        """Write something and remove it."""
        probe = f".probe-{os.getpid()}-{os.urandom(4).hex()}"
        self.write(probe, b"writable")
        self.remove([probe])

    def probe_exclusive(self) -> bool:
        """Within a process the lock does it; for a store in the network it is not known."""
        return not self.shared

    def _upload(self, source: str, path: str) -> None:
        # In one request, which is one step, where that is possible; put_file makes a memory object grow in place.
        if os.path.getsize(source) > SINGLE_WRITE_BYTES and self.shared:
            self._fs().put_file(source, path)
            return
        with open(source, "rb") as file:
            self._fs().pipe_file(path, file.read())

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_object_name(name)}"

    @property
    def _root(self) -> str:
        self._fs()
        return self._opened[2] if self._opened else ""

    def _fs(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            fs, root = _open_file_system(self.url, self._options)
            self._opened = (os.getpid(), fs, root.rstrip("/"))
        return self._opened[1]

    @contextmanager
    def _explained(self, action: str, name: str) -> Iterator[None]:
        # Drivers raise whatever they like (aiohttp's, botocore's errors), and not only OSErrors.
        try:
            yield
        except (CacheError, UnsafeNameError):
            raise
        except FileNotFoundError as error:
            raise ObjectMissingError(f"There is no object {name!r}.", where=self.url) from error
        except OSError as error:
            raise explain(error, action, name, self.url) from error
        except Exception as error:
            what = f"The cache could not {action} {name!r}: {type(error).__name__}: {error}."
            raise CacheError(what, where=self.url, fix="check the network, the address and the credentials") from error


_process_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)


def _open_file_system(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    protocol = url.partition("://")[0]
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        fix = f"pip install 'curidask[{extra}]'" if extra else f"install what it needs: {error}"
        raise CacheError(f"A package for {protocol}:// is missing.", where=url, fix=fix) from error
    except ValueError as error:
        if "rotocol" not in str(error):
            raise CacheError(f"The address cannot be used: {error}.", where=url, fix="correct the address") from error
        known = "a folder, s3://bucket/path, gs://bucket/path, az://container/path or another protocol of fsspec"
        raise CacheError(f"The protocol {protocol}:// is not known.", where=url, fix=f"use {known}") from error
    return fs, root
