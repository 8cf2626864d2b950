"""Named bytes in a folder or behind a URL: the smallest interface that artifacts need.

Names are relative, with ``/`` between components. Writing is atomic: an object is there whole, or it is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from curidask.errors import CacheError, ConfigurationError
from curidask.store.backends.addresses import check_address
from curidask.store.backends.entries import Entry, Stored
from curidask.store.backends.local import LocalObjects
from curidask.store.backends.options import CLIENT_VARIABLE, CLIENTS, SERVICES, StorageOptions, refuse_password

LOCAL_PROTOCOLS = ("file", "local")

__all__ = ["Entry", "ObjectStore", "Stored", "open_objects"]


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

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """The same with sizes and times, as they come, so that a long listing need not be kept."""
        ...

    def tag_of(self, name: str, data: bytes) -> str:
        """The tag that a listing will show of an object that the caller has just written; empty where nobody knows.

        Where it is wrong, nothing is: what is said of the tag is then not found.
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
        """Write an object in one step. With `exclusive`, only when there is none: False says that there is one.

        An exclusive write is for small objects whose bytes only the caller writes (an owner id is among them): when the
        reply of a service is lost, that is how the caller's own object is known. After an error it may be there or not.
        """
        ...

    def probe_exclusive(self) -> bool:
        """Whether this place really creates exclusively: tried once, then remembered for this process and for others.

        Where it is False, an exclusive write raises. `CacheError` when it cannot be tried (no permission to write).
        """
        ...

    def adopt(self, local: str | Path, name: str) -> None:
        """Move a local file, or a folder with all in it, into the store, in place of what has the name now."""
        ...

    def adopt_many(self, moves: Mapping[str, str | Path]) -> dict[str, Stored]:
        """Move several files or folders, given by the names they are to have.

        Returns what was stored, by the names of all files, where the place reads the files on the way; a place that
        renames them returns nothing.
        """
        ...

    def fetch(self, name: str, target: str | Path, size_bytes: int | None = None) -> Stored:
        """Copy an object, of a size that may be known, into a local file; `ObjectMissingError` when it is not there.

        Returns the size and the digest of what was written.
        """
        ...

    def fetch_many(self, targets: Mapping[str, str | Path], sizes: Mapping[str, int]) -> dict[str, Stored]:
        """Copy several objects into local files, given by name, as `fetch` does."""
        ...

    def copy_from(self, other: ObjectStore, names: Iterable[str]) -> None:
        """Copy objects of another place to the same names here, without passing them through where that can be."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        ...

    def lock(self, name: str = "") -> AbstractContextManager[None]:
        """Keep others that ask for the same lock out, as far as the place can do that.

        `name` says what it is for; a place may keep out those with other names too.
        """
        ...

    def check_writable(self) -> None:
        """Raise a `CacheError` that says how to fix it, when objects cannot be written."""
        ...


def open_objects(url: str | Path, **options: Any) -> ObjectStore:
    """Open a place for objects.

    Parameters
    ----------
    url : str or Path
        A folder (it need not exist yet), or any URL that fsspec knows.
    **options
        How a place in the network is reached: see `curidask.store.backends.options.StorageOptions`. What it does not
        name goes to the file system behind the URL. Of a folder ``shared``: see `curidask.session.config.Config`.

    Raises
    ------
    CacheError
        When nothing is known under the URL's protocol, or a package is missing for it.
    ConfigurationError
        For an option that cannot be used.
    """
    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if not separator or protocol in LOCAL_PROTOCOLS:
        return LocalObjects(rest if separator else text, for_group=options.get("shared") == "group")
    refuse_password(text)
    check_address(text)
    return _open_remote(text, StorageOptions.of(options))


def _open_remote(url: str, options: StorageOptions) -> ObjectStore:
    # Imported here, since a folder needs none of it.
    from curidask.store.backends.fsspec import FsspecObjects
    from curidask.store.backends.obstore import ObstoreObjects, check_suits, installed, suits
    from curidask.store.backends.options import NotAlikeError

    client = options.client if options.client != "auto" else os.environ.get(CLIENT_VARIABLE, "auto")
    if client not in CLIENTS:
        raise ConfigurationError(
            f"The client for object stores is {client!r}.",
            where=CLIENT_VARIABLE,
            fix=f"use one of {', '.join(CLIENTS)}",
        )
    if client == "auto":
        client = "obstore" if installed() and suits(url, options) else "fsspec"
    if client == "fsspec" or SERVICES.get(url.partition("://")[0]) is None:
        return FsspecObjects(url, options)
    if not installed():
        raise CacheError("The package obstore is missing.", where=url, fix="pip install 'curidask[fast]'")
    try:
        check_suits(url, options)
    except NotAlikeError as error:
        raise CacheError(
            f"obstore is not known to do what is configured as fsspec does: {error}.",
            where=url,
            fix=f'leave the choice to curidask: object_client = "auto", and {CLIENT_VARIABLE} not set',
        ) from None
    return ObstoreObjects(url, options)
