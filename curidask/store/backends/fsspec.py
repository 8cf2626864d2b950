"""Objects behind any URL that fsspec knows; those of S3 with requests of our own choice."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from curidask.errors import CacheError
from curidask.store.backends.entries import Entry, plain_tag
from curidask.store.backends.errors import classify
from curidask.store.backends.options import S3_PROTOCOLS, SERVICES, StorageOptions, client_settings, request_payer
from curidask.store.backends.remote import RemoteObjects, checked_key
from curidask.store.backends.requests import TOKEN, Ask, Client, thread_pool
from curidask.store.backends.transfer import COPY_BYTES, PART_BYTES, PARTS_AT_ONCE

EXTRAS = {"s3": "s3", "gs": "gs", "az": "az"}


class FsspecObjects(RemoteObjects):
    """Objects behind a URL that fsspec knows.

    Parameters
    ----------
    options : StorageOptions or mapping, optional
        What `StorageOptions` does not know goes to the file system as it is.
    """

    def _make_client(self) -> Client:
        self.shared = not self.url.startswith("memory://")
        return make_client(self.url, self.options)

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object with one request; see `RemoteObjects.write`."""
        if exclusive and not self.shared:
            return self.create(name, data)
        return super().write(name, data, exclusive=exclusive)

    def create(self, name: str, data: bytes) -> bool:
        """Create an object exclusively; within this process a lock does for that."""
        if self.shared:
            return super().create(name, data)
        key, client = checked_key(name), self._requests().client
        with self.lock():
            if client.has(key):
                return False
            client.put(key, data)
            return True

    def probe_exclusive(self) -> bool:
        """Whether this place creates objects exclusively; what only this process sees, it does."""
        return not self.shared or super().probe_exclusive()


def make_client(url: str, options: StorageOptions) -> FsspecClient:
    """Open the file system behind a URL.

    Raises
    ------
    CacheError
        When nothing is known under the URL's protocol, or a package is missing for it.
    """
    protocol = url.partition("://")[0]
    fs, root = _file_system(url, protocol, options)
    kind = S3Client if protocol in S3_PROTOCOLS else FsspecClient
    return kind(fs, root.rstrip("/"), options)


class FsspecClient:
    """The requests of a file system of fsspec; see `curidask.store.backends.requests.Client`."""

    repeats = True

    def __init__(self, fs: Any, root: str, options: StorageOptions) -> None:
        self.fs = fs
        self.root = root
        # Only those that are made of coroutines promise to be safe to use from several threads.
        self.parallel = options.parallel_requests if fs.async_impl else 1
        self._by_prefix = "prefix" in inspect.signature(fs._find if fs.async_impl else fs.find).parameters

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        folder, _, start = prefix.rpartition("/")
        where = f"{self.root}/{folder}" if folder else self.root
        chosen = {"prefix": start} if self._by_prefix and start else {}
        found = self.fs.find(where, detail=True, **chosen)
        skip = len(self.root) + 1
        yield [Entry(path[skip:], info.get("size") or 0, _modified(info), _tag(info)) for path, info in found.items()]

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        return bool(self.fs.isfile(self._path(key)))

    def get(self, key: str) -> bytes:
        """Its bytes."""
        data: bytes = self.fs.cat_file(self._path(key))
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Some of its bytes."""
        data: bytes = self.fs.cat_file(self._path(key), start=start, end=end)
        return data

    def size(self, key: str) -> int:
        """Its size in bytes."""
        return int(self.fs.info(self._path(key))["size"])

    def put(self, key: str, data: bytes) -> None:
        """Write it in one step."""
        self.fs.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes, token: str) -> bool:
        """Write it on the condition that it is not there."""
        # fsspec's own `mode="create"` looks and then writes. One of a service may be right, or ignore it, which shows.
        from fsspec.asyn import AsyncFileSystem

        if not self.fs.async_impl or type(self.fs)._pipe_file is AsyncFileSystem._pipe_file:
            raise NotImplementedError(f"{type(self.fs).__name__} cannot create a file exclusively")
        try:
            self.fs.pipe_file(self._path(key), data, mode="create")
        except Exception as error:
            if classify(error).kind == "exists":
                return False
            raise
        return True

    def creator(self, key: str) -> str:
        """The token it was created with; empty where that is not known."""
        return ""

    def upload(self, key: str, blocks: Callable[[], Iterator[bytes]], size: int, ask: Ask) -> None:
        """Write a large one from blocks."""

        def send() -> None:
            with self.fs.open(self._path(key), "wb", block_size=PART_BYTES) as file:
                for block in blocks():
                    file.write(block)

        ask(send)

    def delete(self, keys: list[str]) -> None:
        """Remove some."""
        for key in keys:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self._path(key))

    def copy(self, source: Any, source_key: str, key: str) -> bool:
        """Let the service copy an object."""
        if not isinstance(source, FsspecClient):
            return False
        self.fs.cp_file(source._path(source_key), self._path(key))
        return True

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


class S3Client(FsspecClient):
    """The requests of s3fs, one for each thing that is done."""

    def __init__(self, fs: Any, root: str, options: StorageOptions) -> None:
        super().__init__(fs, root, options)
        self.bucket, _, below = root.partition("/")
        self._below = f"{below}/" if below else ""
        self._payer = request_payer(options)

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        more: dict[str, str] = {}
        skip = len(self._below)
        while True:
            page = self._call("list_objects_v2", Prefix=self._below + prefix, **more)
            yield [
                Entry(item["Key"][skip:], item["Size"], item["LastModified"].timestamp(), plain_tag(item.get("ETag")))
                for item in page.get("Contents", ())
                if not item["Key"].endswith("/")
            ]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        try:
            self._call("head_object", Key=self._below + key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Its size in bytes."""
        return int(self._call("head_object", Key=self._below + key)["ContentLength"])

    def put(self, key: str, data: bytes) -> None:
        """Write it in one step."""
        self._call("put_object", Key=self._below + key, Body=data)

    def create(self, key: str, data: bytes, token: str) -> bool:
        """Write it on the condition that it is not there."""
        try:
            metadata = {TOKEN: token}
            self._call("put_object", Key=self._below + key, Body=data, IfNoneMatch="*", Metadata=metadata)
        except Exception as error:
            if classify(error).kind == "exists":
                return False
            raise
        return True

    def creator(self, key: str) -> str:
        """The token it was created with; empty where that is not known."""
        return str(self._call("head_object", Key=self._below + key).get("Metadata", {}).get(TOKEN, ""))

    def upload(self, key: str, blocks: Callable[[], Iterator[bytes]], size: int, ask: Ask) -> None:
        """Upload in parts, each of which is repeated by itself; what fails leaves no parts behind."""
        where = {"Key": self._below + key}
        upload = ask(lambda: self._call("create_multipart_upload", **where))["UploadId"]
        where["UploadId"] = upload
        try:
            parts = self._send_parts(blocks, where, ask)
            ask(lambda: self._complete(where, parts, size))
        except BaseException:
            with suppress(Exception):
                self._call("abort_multipart_upload", **where)
            raise

    def _send_parts(self, blocks: Callable[[], Iterator[bytes]], where: dict[str, str], ask: Ask) -> list[Any]:
        def send(number: int, block: bytes) -> dict[str, Any]:
            reply = ask(lambda: self._call("upload_part", PartNumber=number, Body=block, **where))
            return {"PartNumber": number, "ETag": reply["ETag"]}

        pool = thread_pool(self.parallel)
        pending: list[Any] = []
        parts: list[Any] = []
        try:
            for number, block in enumerate(blocks(), 1):
                pending.append(pool.submit(send, number, block))
                if len(pending) >= PARTS_AT_ONCE:  # no more than these are kept in memory
                    parts.append(pending.pop(0).result())
            parts += [future.result() for future in pending]
        finally:
            for future in pending:
                future.cancel()
        return parts

    def _complete(self, where: dict[str, str], parts: list[Any], size: int) -> None:
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": parts}, **where)
        except FileNotFoundError as error:
            # The reply to an earlier attempt was lost: then there is no such upload any more, but the object.
            head = self._call("head_object", Key=where["Key"])
            if head["ContentLength"] != size:
                raise ConnectionResetError("the upload was lost") from error

    def delete(self, keys: list[str]) -> None:
        """Remove some."""
        if len(keys) == 1:
            self._call("delete_object", Key=self._below + keys[0])
            return
        wanted = {"Objects": [{"Key": self._below + key} for key in keys], "Quiet": True}
        for refused in self._call("delete_objects", Delete=wanted).get("Errors", ()):
            if refused.get("Code") not in ("NoSuchKey", "NotFound"):
                raise RefusedError(refused.get("Message", ""), refused.get("Code", ""))

    def copy(self, source: Any, source_key: str, key: str) -> bool:
        """Let the service copy an object."""
        if not isinstance(source, S3Client) or source.size(source_key) > COPY_BYTES:
            return False
        where = {"Bucket": source.bucket, "Key": source._below + source_key}
        self._call("copy_object", Key=self._below + key, CopySource=where)
        return True

    def _call(self, request: str, **values: Any) -> Any:
        # Older s3fs accepts to pay for some kinds of requests only.
        return self.fs.call_s3(request, self._payer, Bucket=self.bucket, **values)


class RefusedError(Exception):
    """A part of a request for many objects was refused."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message or code)
        self.code = code


# --- opening ---------------------------------------------------------------------------------------------------------
_open: dict[tuple[int, str, str], Any] = {}


@functools.cache
def _fsspec() -> Any:
    import fsspec.asyn

    # A child has its parent's event loop, and no thread that runs it. fsspec does this by itself from 2025.3.1 on.
    os.register_at_fork(after_in_child=fsspec.asyn.reset_lock)
    return fsspec


def _file_system(url: str, protocol: str, options: StorageOptions) -> tuple[Any, str]:
    """The file system, one for each process and way to reach it, and the path of the root in it."""
    fsspec = _fsspec()
    arguments = _arguments(protocol, options)
    try:
        chain, root = fsspec.core.url_to_fs(url, **arguments) if "::" in url else (None, "")
        if chain is not None:
            return chain, root
        cls = fsspec.get_filesystem_class(protocol)
        root = cls._strip_protocol(url)
        if protocol not in S3_PROTOCOLS:  # there it is a version at most, and older ones stumble over access points
            arguments = {**cls._get_kwargs_from_urls(url), **arguments}
        key = (os.getpid(), protocol, options.token() + repr(sorted(arguments)))
        if key not in _open:
            _open[key] = cls(**arguments)
            _tune(_open[key], protocol)
    except ImportError as error:
        extra = EXTRAS.get(SERVICES.get(protocol, ""))
        fix = f"pip install 'curidask[{extra}]'" if extra else f"install what it needs: {error}"
        raise CacheError(f"A package for {protocol}:// is missing.", where=url, fix=fix) from error
    except (ValueError, TypeError) as error:
        if "rotocol" not in str(error):
            raise CacheError(
                f"The address or its options cannot be used: {_said(error, options)}.", where=url, fix="correct them"
            ) from None
        known = "a folder, s3://bucket/path, gs://bucket/path, az://container/path or another protocol of fsspec"
        raise CacheError(f"The protocol {protocol}:// is not known.", where=url, fix=f"use {known}") from error
    return _open[key], root


def _arguments(protocol: str, options: StorageOptions) -> dict[str, Any]:
    arguments: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if SERVICES.get(protocol) == "s3":
        arguments |= _s3_arguments(options)
    elif options.anon and SERVICES.get(protocol) == "gs":
        arguments["token"] = "anon"
    elif options.endpoint_url and SERVICES.get(protocol) == "gs":
        arguments["endpoint_url"] = options.endpoint_url
    return {**arguments, **options.driver, **options.resolved()}


def _s3_arguments(options: StorageOptions) -> dict[str, Any]:
    settings, config = client_settings(options)
    own = {name: settings.pop(name) for name in ("endpoint_url",) if name in settings}
    if options.profile:
        own["profile"] = options.profile
    return {
        "anon": options.anon,
        "requester_pays": options.requester_pays,
        "max_concurrency": 1,
        "config_kwargs": config,
        "client_kwargs": settings,
        **own,
    }


def configured_for_fsspec(protocol: str) -> bool:
    """Whether fsspec has settings of its own for a protocol, from its files or variables."""
    folder = os.environ.get("FSSPEC_CONFIG_DIR") or os.path.expanduser("~/.config/fsspec")
    if not os.path.isdir(folder) and not any(name.startswith("FSSPEC_") for name in os.environ):
        return False  # known without the time that an import takes
    from fsspec.config import conf

    return bool(conf.get(protocol))


def _tune(fs: Any, protocol: str) -> None:
    if protocol in S3_PROTOCOLS:
        fs.retries = 1


def _said(error: BaseException, options: StorageOptions) -> str:
    from curidask.store.backends.errors import redact

    return redact(str(error).rstrip("."), options.secrets())


def _tag(info: dict[str, Any]) -> str:
    for name in ("ETag", "etag", "md5Hash", "content_md5"):
        if isinstance(info.get(name), str):
            return plain_tag(info[name])
    return f"{_modified(info)}-{info.get('size')}" if _modified(info) else ""


def _modified(info: dict[str, Any]) -> float:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created", "modified"):
        value = info.get(name)
        if isinstance(value, int | float):
            return float(value)
        if value is not None and hasattr(value, "timestamp"):
            return float(value.timestamp())
    return 0.0
