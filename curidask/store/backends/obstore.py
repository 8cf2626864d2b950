"""Objects in S3, Google's or Azure's storage through obstore, which is several times faster than fsspec.

Places hold the same bytes under the same keys whichever of the two is used. obstore is used where all that is
configured is known to mean the same to it, which each process decides for itself. It cannot be used in a process that
was forked after its first use (its threads are not there, and every request would wait for ever). There, and where it
is not installed, the same objects go on through fsspec; so do those of a bucket that turns out to be elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

from curidask.store.backends.addresses import split_address
from curidask.store.backends.entries import Entry, plain_tag
from curidask.store.backends.errors import ShortBodyError, classify
from curidask.store.backends.fsspec import make_client
from curidask.store.backends.obstore_clients import Hidden, installed, store_maker, suits, uses_threads
from curidask.store.backends.options import StorageOptions
from curidask.store.backends.remote import RemoteObjects
from curidask.store.backends.requests import TOKEN, Ask, Client
from curidask.store.backends.transfer import COPY_BYTES, PART_BYTES, PARTS_AT_ONCE, WHOLE_BYTES

PAGE = 1000
SLOWEST_BYTES_PER_SECOND = 1 << 16
SMALL_BYTES = 1 << 17
# Just below each character that a name may end in, without the separator, so that a listing can begin there.
_ORDER = sorted("-._" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ")

NO_NAMES = ("", ".", "..")
"""What obstore does not take as a part of a path."""


class ObstoreObjects(RemoteObjects):
    """Objects of a service that obstore knows.

    Parameters
    ----------
    url : str
    options : StorageOptions or mapping, optional
    """

    def _make_client(self) -> Client:
        if installed() and suits(self.url, self.options):
            return _client(os.getpid(), self.url, self.options.token(), Hidden(self.options))
        return self._make_other()

    def _make_other(self) -> Client:
        return make_client(self.url, self.options)


class ObstoreClient:
    """The requests of obstore; see `curidask.store.backends.requests.Client`."""

    repeats = False

    def __init__(self, url: str, options: StorageOptions) -> None:
        address = split_address(url)
        self.parallel = options.parallel_requests
        self.root = address.path
        self._prefix = f"{self.root}/" if self.root else ""
        self.container = address.container
        self._other: Callable[[], Client] = partial(make_client, url, options)
        self._lists: Client = self
        make = store_maker(address, options)
        silence = options.read_timeout_seconds
        # While a body is sent nothing is read, so a large one needs more patience than silence would get.
        sending = WHOLE_BYTES / SLOWEST_BYTES_PER_SECOND
        self._once = make(silence, 0.0)
        self._transfer = make(silence + sending, options.retry_seconds)
        uses_threads()

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        if self._lists is self:
            try:
                yield from self._own_pages(prefix)
                return
            except Exception as error:
                if not _is_foreign_key(error):
                    raise
            self._lists = self._other()  # somebody else's key, which obstore cannot pass over
        yield from self._lists.pages(prefix)

    def _own_pages(self, prefix: str) -> Iterator[list[Entry]]:
        import obstore

        whole = self._prefix + prefix
        folder, _, start = whole.rpartition("/")
        begin = before(whole) if start else None
        skip = len(self._prefix)
        for chunk in obstore.list(self._once, folder or None, offset=begin, chunk_size=PAGE):
            yield [
                Entry(item["path"][skip:], item["size"], item["last_modified"].timestamp(), plain_tag(item["e_tag"]))
                for item in chunk
                if item["path"].startswith(whole)
            ]
            if begin is not None and is_past(chunk[-1]["path"], whole):
                return

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        import obstore

        try:
            obstore.head(self._once, self._prefix + key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Its size in bytes."""
        import obstore

        return int(obstore.head(self._once, self._prefix + key)["size"])

    def get(self, key: str) -> bytes:
        """Its bytes."""
        import obstore

        result = obstore.get(self._once, self._prefix + key)
        data = bytes(result.bytes())
        if len(data) != result.meta["size"]:
            raise ShortBodyError(f"{len(data)} bytes instead of {result.meta['size']}")
        return data

    def get_range(self, key: str, start: int, end: int) -> Any:
        """Some of its bytes."""
        import obstore

        return memoryview(obstore.get_range(self._once, self._prefix + key, start=start, end=end))

    def put(self, key: str, data: bytes) -> None:
        """Write it in one step."""
        import obstore

        obstore.put(self._transfer_for(len(data)), self._prefix + key, data, use_multipart=False)

    def create(self, key: str, data: bytes, token: str) -> bool:
        """Write it on the condition that it is not there."""
        import obstore

        # Never repeated by obstore itself: a repetition could not tell its own object from another's.
        try:
            attributes: Any = {TOKEN: token}
            obstore.put(self._once, self._prefix + key, data, mode="create", use_multipart=False, attributes=attributes)
        except Exception as error:
            if classify(error).kind == "exists":
                return False
            raise
        return True

    def creator(self, key: str) -> str:
        """The token it was created with; empty where that is not known."""
        import obstore

        attributes: Any = obstore.get(self._once, self._prefix + key, options={"head": True}).attributes
        return str(attributes.get(TOKEN, ""))

    def upload(self, key: str, blocks: Callable[[], Iterator[bytes]], size: int, ask: Ask) -> None:
        """Write a large one from blocks."""
        import obstore

        part_bytes = max(PART_BYTES, -(-size // 9_000))
        ask(
            lambda: obstore.put(
                self._transfer,
                self._prefix + key,
                blocks(),
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    def delete(self, keys: list[str]) -> None:
        """Remove some."""
        import obstore

        try:
            obstore.delete(self._once, [self._prefix + key for key in keys])
        except FileNotFoundError as error:
            if classify(error).kind != "missing":
                raise
            for key in keys if len(keys) > 1 else ():  # not every service passes over what is not there
                self.delete([key])

    def copy(self, source: Any, source_key: str, key: str) -> bool:
        """Let the service copy an object."""
        import obstore

        if not isinstance(source, ObstoreClient) or source.container != self.container:
            return False
        if source.size(source_key) > COPY_BYTES:
            return False
        obstore.copy(self._transfer, source._prefix + source_key, self._prefix + key)
        return True

    def _transfer_for(self, size: int) -> Any:
        """The store with more patience for a request that carries much."""
        return self._once if size < SMALL_BYTES else self._transfer


def _is_foreign_key(error: Exception) -> bool:
    """Whether a listing has a key that obstore takes for no path, or that XML cannot hold."""
    kind = type(error).__name__
    return kind == "InvalidPathError" or re.search(r"invalid path|invalid list response", str(error), re.I) is not None


# --- listing from the middle ------------------------------------------------------------------------------------------
def before(prefix: str) -> str | None:
    """A name just below all that begin with a prefix, None where there is no safe one.

    obstore lists folders, and what a name begins with is no folder; but a listing may begin after a name.
    """
    folder, slash, start = prefix.rpartition("/")
    below = [character for character in _ORDER if character < start[-1]]
    name = start[:-1] + (below[-1] + "~" if below else "")
    return folder + slash + name if name not in NO_NAMES else None


def is_past(name: str, prefix: str) -> bool:
    """Whether no name that begins with the prefix can follow in a listing.

    Services order names by their bytes, or folder by folder; it must be past in both.
    """
    return not name.startswith(prefix) and name > prefix and name.split("/") > prefix.split("/")


# --- opening ---------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=16)
def _client(pid: int, url: str, token: str, hidden: Hidden) -> ObstoreClient:
    return ObstoreClient(url, hidden.options)
