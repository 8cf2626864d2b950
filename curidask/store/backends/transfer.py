"""Files into and out of a place in the network: in parallel parts, with the digest taken on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curidask.errors import CacheError
from curidask.store.backends.entries import Stored
from curidask.store.backends.errors import ShortBodyError, explain
from curidask.store.backends.requests import Client, RetryingClient

PART_BYTES = 8 << 20
WHOLE_BYTES = 2 * PART_BYTES
"""Files up to this size travel in one request."""

COPY_BYTES = 5 << 30
"""A service copies an object up to this size with one request."""

MAX_PARTS = 10_000
PARTS_AT_ONCE = 8

LocalPath = str | Path


def files_in(local: str, name: str) -> dict[str, str]:
    """The paths of a file, or of all files in a folder, by the names they are to have."""
    if not os.path.isdir(local):
        return {name: local}
    found: dict[str, str] = {}
    for entry in sorted(os.listdir(local)):
        found |= files_in(f"{local}/{entry}", f"{name}/{entry}")
    return found


def upload_all(requests: RetryingClient, files: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, Stored]:
    """Upload files, given by name: small ones at the same time, large ones in parts."""
    sizes = {}
    for name, path in files.items():
        with local_errors(name, path):
            sizes[name] = os.path.getsize(path)
    small = [name for name in files if sizes[name] <= WHOLE_BYTES]
    done = requests.parallel(lambda name: _put(requests, name, keys[name], files[name]), small)
    stored = dict(zip(small, done, strict=True))
    for name in files:
        if name not in stored:
            stored[name] = _upload(requests, name, keys[name], files[name], sizes[name])
    return stored


def _put(requests: RetryingClient, name: str, key: str, path: str) -> Stored:
    with local_errors(name, path), open(path, "rb", buffering=0) as file:
        data = file.readall()
    requests.ask("write", name, lambda: requests.client.put(key, data))
    return Stored(len(data), hashlib.sha256(data).hexdigest())


def _upload(requests: RetryingClient, name: str, key: str, path: str, size: int) -> Stored:
    part_bytes = max(PART_BYTES, -(-size // (MAX_PARTS - 1)))
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        nonlocal digest
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            while block := _read_block(file, part_bytes):
                digest.update(block)
                yield block

    def upload(client: Client) -> None:
        with local_errors(name, path):
            client.upload(key, blocks, size, lambda request: requests.ask("write", name, request))

    client = requests.client
    try:
        upload(client)
    except CacheError:
        if requests.client is client:
            raise
        upload(requests.client)  # the place turned out to be one for the other client
    return Stored(size, digest.hexdigest())


def download_all(
    requests: RetryingClient, targets: Mapping[str, LocalPath], keys: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, Stored]:
    """Download objects of known sizes into files, given by name."""
    small = [name for name in targets if sizes[name] <= WHOLE_BYTES]
    done = requests.parallel(lambda name: _get(requests, name, keys[name], targets[name]), small)
    stored = dict(zip(small, done, strict=True))
    for name, target in targets.items():
        if name not in stored:
            stored[name] = _download(requests, name, keys[name], target)
    return stored


def _get(requests: RetryingClient, name: str, key: str, target: LocalPath) -> Stored:
    data = requests.ask("read", name, lambda: requests.client.get(key))
    with _writing(name, target) as file, local_errors(name, target):
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
    return Stored(len(data), hashlib.sha256(data).hexdigest())


def _download(requests: RetryingClient, name: str, key: str, target: LocalPath) -> Stored:
    # Its own size: it may have been damaged, and is then to be found so by its digest.
    size = requests.ask("read", name, lambda: requests.client.size(key))
    ranges = [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]
    digest = hashlib.sha256()
    with _writing(name, target) as file:

        def part(bounds: tuple[int, int]) -> Any:
            data = requests.ask("read", name, lambda: _whole(requests.client.get_range(key, *bounds), bounds))
            with local_errors(name, target):
                os.pwrite(file, data, bounds[0])
            return data

        # The parts come at the same time; they are hashed here in their order while the next ones are on their way.
        for data in requests.parallel(part, ranges, window=PARTS_AT_ONCE):
            digest.update(data)
    return Stored(size, digest.hexdigest())


def _whole(data: Any, bounds: tuple[int, int]) -> Any:
    if len(data) != bounds[1] - bounds[0]:
        raise ShortBodyError(f"{len(data)} bytes instead of {bounds[1] - bounds[0]}")
    return data


def _read_block(file: Any, size: int) -> bytes:
    block = bytes(file.read(size))
    while len(block) < size and (more := file.read(size - len(block))):
        block += more
    return block


@contextmanager
def local_errors(name: str, path: LocalPath) -> Iterator[None]:
    """What goes wrong with a local file is told as that, not as a failure of the place."""
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        raise explain(error, "copy", name, os.fspath(path)) from error


@contextmanager
def _writing(name: str, target: LocalPath) -> Iterator[int]:
    with local_errors(name, target):
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        try:
            yield file
        finally:
            os.close(file)
