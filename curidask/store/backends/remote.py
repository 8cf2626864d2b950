"""Objects in a place that is reached through requests: what is alike for all clients.

What differs between them is in `curidask.store.backends.requests.Client`; `fsspec` and `obstore` have one each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import LAYOUT_SUFFIX, check_object_name, is_object_name
from curidask.errors import CacheError, ObjectMissingError, UnsafeNameError
from curidask.store.backends import conditional_put
from curidask.store.backends.addresses import check_address
from curidask.store.backends.entries import Entry, Stored
from curidask.store.backends.options import StorageOptions, refuse_password
from curidask.store.backends.requests import Client, RetryingClient
from curidask.store.backends.transfer import WHOLE_BYTES, download_all, files_in, upload_all
from curidask.store.interrupts import held_back
from curidask.store.manifest import LARGE_BYTES, is_texts, parse_object, read_file

# --- names of objects as keys in a place in the network --------------------------------------------------------------
# Some clients refuse control characters, text that is not Unicode cannot be sent, and ``?`` begins a version in the
# addresses of one client. These take a detour through characters of private use, so that a file name which a folder
# can keep, an object store can keep too, and every client finds it under the same key.

_CONTROLS = [*range(32), 127, ord("?")]
_TO_KEY = {code: 0xF000 + code for code in _CONTROLS} | {code: code + 0x1000 for code in range(0xD800, 0xE000)}
_TO_NAME = {to: code for code, to in _TO_KEY.items()}


def to_key(name: str) -> str:
    """The key for a name, or for the beginning of one."""
    return name if name.isascii() and name.isprintable() and "?" not in name else name.translate(_TO_KEY)


def to_name(key: str) -> str:
    """The name for a key."""
    return key if key.isascii() else key.translate(_TO_NAME)


def is_own_key(key: str, name: str) -> bool:
    """Whether a name that was made of a listed key leads back to it; others may have put anything there."""
    return is_object_name(name) and to_key(name) == key


def checked_key(name: str) -> str:
    """The key for a whole name.

    Raises
    ------
    UnsafeNameError
        For a name that could lead out of the place, or that another name's key would be equal to.
    """
    key = to_key(check_object_name(name))
    if not name.isascii() and to_name(key) != name:
        raise UnsafeNameError(
            f"{name!r} cannot be the name of an object: it has characters of private use.", fix="use other characters"
        )
    return key


def common_beginning(names: Iterable[str]) -> str:
    """What all names begin with."""
    first, last = min(names, default=""), max(names, default="")
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


# --- what files alone do not tell of a folder ------------------------------------------------------------------------
# Which of them can be run, and which folders in it are empty.
#
# An object store keeps neither. So where there is any, a small file beside the others says it; it is one of the
# artifact's files as they are, so it is verified, signed, copied and removed with them.

_RUN = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Layout:
    """What to keep of folders beside their files.

    Attributes
    ----------
    executable : tuple of str
        Files that their owner may run.
    folders : tuple of str
        Folders in which nothing is.
    """

    executable: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def write(self, path: str, start: str) -> bool:
        """Write it into a file, names without the `start` they have in common; False when there is nothing to say."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        if not self.executable and not self.folders:
            return False
        executable, folders = (
            [name.removeprefix(start) for name in names] for names in (self.executable, self.folders)
        )
        with open(path, "x", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & _RUN:  # here everything seems so: this file system does not keep it
                executable = []
            json.dump({"executable": sorted(executable), "folders": sorted(folders)}, file)
        if executable or folders:
            return True
        os.unlink(path)
        return False


def is_executable(path: str) -> bool:
    """Whether its owner may run a file."""
    return bool(os.stat(path).st_mode & stat.S_IXUSR)


def layout_of(folder: str, name: str) -> Layout:
    """What such a file in a folder says, with whole names; nothing when it is not of the right form.

    Parameters
    ----------
    name : str
        Of the file, with ``/`` between folders.
    """
    start = name.removesuffix(LAYOUT_SUFFIX)
    try:
        said = parse_object(read_file(f"{folder}/{name}", LARGE_BYTES), LARGE_BYTES)
    except (OSError, ValueError):
        return Layout()
    lists = [said.get(each) for each in ("executable", "folders")]
    found = [tuple(start + rest for rest in each if is_object_name(start + rest)) for each in lists if is_texts(each)]
    return Layout(*found) if len(found) == len(lists) else Layout()


def lay_out(folder: str, names: Collection[str]) -> Iterator[str]:
    """Give files in a folder, and the folders beside them, the form that they had; the names of those folders.

    Parameters
    ----------
    names : collection of str
        The files, verified.
    """
    for layout in [layout_of(folder, name) for name in names if name.endswith(LAYOUT_SUFFIX)]:
        for name in set(names).intersection(layout.executable):
            with suppress(PermissionError):  # another user's: he has made it so himself
                _let_run(f"{folder}/{name}")
        for name in layout.folders:
            if _make_folder(folder, name):
                yield name


def without_layout(names: Iterable[str]) -> Iterator[str]:
    """The names of files that somebody wrote."""
    return (name for name in names if not name.endswith(LAYOUT_SUFFIX))


def _let_run(path: str) -> None:
    found = os.stat(path)
    if found.st_mode & stat.S_IXUSR:
        return
    mode = stat.S_IMODE(found.st_mode) | (found.st_mode & 0o444) >> 2
    if found.st_nlink == 1:
        os.chmod(path, mode)
        return
    # The content has other names, which are nobody's to run.
    own = f"{path}.{os.urandom(4).hex()}"
    shutil.copyfile(path, own)
    os.chmod(own, mode)
    os.replace(own, path)


def _make_folder(folder: str, name: str) -> bool:
    path, root = Path(folder, name), Path(folder).resolve()
    if not path.parent.resolve().is_relative_to(root):
        return False
    with suppress(PermissionError, FileExistsError, NotADirectoryError):
        path.mkdir(parents=True, exist_ok=True)
    return path.is_dir() and not path.is_symlink()


# --- remote ----------------------------------------------------------------------------------------------------------
EXCLUSIVE_BYTES = 1 << 20
FEW_NAMES = 64
PAGE = 1000


class RemoteObjects:
    """Objects behind a URL, reached through a client; see the subclasses for which.

    Parameters
    ----------
    options : StorageOptions or mapping, optional
        How it is reached; they may hold secrets, so they are never shown.

    Notes
    -----
    Connections are opened anew in each process and after a fork, and shared by all objects of a process that reach the
    same place with the same options. Listings are never cached: they would hide what other processes do. It pickles as
    its address and options; see `StorageOptions.to_send` for secrets.
    """

    local_root: Path | None = None
    shared = True

    def __init__(self, url: str, options: StorageOptions | Mapping[str, Any] | None = None) -> None:
        refuse_password(url)
        check_address(url)
        self.url = url.rstrip("/")
        self.options = options if isinstance(options, StorageOptions) else StorageOptions.of(options or {})
        self._opened: tuple[int, RetryingClient] | None = None
        self._requests()  # a wrong address and a missing package show here

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.url, self.options.to_send(self.url)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def _make_client(self) -> Client:
        raise NotImplementedError

    def _make_other(self) -> Client | None:
        """Another client, for a bucket that the first one does not find."""
        return None

    def _requests(self) -> RetryingClient:
        if self._opened is None or self._opened[0] != os.getpid():
            with held_back():  # it imports what the next try needs whole
                client = self._make_client()
            self._opened = (os.getpid(), RetryingClient(client, self.options, self.url, self._make_other))
        return self._opened[1]

    # --- looking -----------------------------------------------------------------------------------------------------
    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """The objects whose names begin with a prefix, page by page as the place gives them."""
        check_object_name(prefix + "x")
        requests = self._requests()
        seen: set[str] = set()
        pages: Iterator[list[Entry]] | None = None

        def next_page() -> list[Entry] | None:
            nonlocal pages
            pages = pages if pages is not None else requests.client.pages(to_key(prefix))
            try:
                return next(pages, None)
            except Exception:
                pages = None  # again from the beginning
                raise

        while (page := requests.ask("list", prefix or self.url, next_page)) is not None:
            for key, size_bytes, modified, tag in page:
                name = to_name(key)
                hidden = name[:1] == "." and prefix[:1] != "."
                if not hidden and name.startswith(prefix) and name not in seen and is_own_key(key, name):
                    seen.add(name)
                    yield Entry(name, size_bytes, modified, tag)

    def tag_of(self, name: str, data: bytes) -> str:
        """See `ObjectStore.tag_of`: what most services show of an object that was written with one request."""
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with a prefix."""
        return [entry.name for entry in self.entries(prefix)]

    def exists(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are there: one question for each, in parallel, or a listing where that is less."""
        keys = {name: checked_key(name) for name in names}
        requests = self._requests()
        found: set[str] = set()
        if len(keys) > FEW_NAMES and not any(name.startswith(".") for name in keys):  # those are not listed
            complete, found = self._found_in_listing(set(keys))
            if complete:
                return found
        rest = [name for name in keys if name not in found]

        def there(name: str) -> bool:
            return requests.ask("look for", name, lambda: requests.client.has(keys[name]))

        answers = zip(rest, requests.parallel(there, rest), strict=True)
        return found.union(name for name, answer in answers if answer)

    def _found_in_listing(self, wanted: set[str]) -> tuple[bool, set[str]]:
        """Look through a listing while it is no longer than the questions would take, and say whether that was all."""
        found: set[str] = set()
        budget = PAGE * max(1, len(wanted) // self._requests().client.parallel)
        for entry in self.entries(common_beginning(wanted)):
            if entry.name in wanted:
                found.add(entry.name)
            budget -= 1
            if budget < 0:
                return False, found
        return True, found

    # --- reading -----------------------------------------------------------------------------------------------------
    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        key, requests = checked_key(name), self._requests()
        return requests.ask("read", name, lambda: requests.client.get(key))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those that are there, requested in parallel."""
        names = list(names)

        def read(name: str) -> bytes | None:
            with suppress(ObjectMissingError):
                return self.read(name)
            return None

        got = zip(names, self._requests().parallel(read, names), strict=True)
        return {name: data for name, data in got if data is not None}

    def fetch(self, name: str, target: str | Path, size_bytes: int | None = None) -> Stored:
        """Download an object into a local file, a large one in parallel parts, and take its digest on the way."""
        if size_bytes is None:
            key, requests = checked_key(name), self._requests()
            size_bytes = requests.ask("read", name, lambda: requests.client.size(key))
        return self.fetch_many({name: target}, {name: size_bytes})[name]

    def fetch_many(self, targets: Mapping[str, str | Path], sizes: Mapping[str, int]) -> dict[str, Stored]:
        """Download several objects into local files, in parallel; `sizes` are those they should have."""
        return download_all(self._requests(), targets, {name: checked_key(name) for name in targets}, sizes)

    # --- writing -----------------------------------------------------------------------------------------------------
    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object with one request; exclusively with the condition that it is not there."""
        key, requests = checked_key(name), self._requests()
        if exclusive:
            self._refuse_to_create(name, len(data))
            return self.create(name, data)
        if len(data) > WHOLE_BYTES:
            with tempfile.TemporaryDirectory(prefix="curidask-up-") as folder:
                Path(folder, "data").write_bytes(data)
                self.adopt(f"{folder}/data", name)
            return True
        requests.ask("write", name, lambda: requests.client.put(key, data))
        return True

    def create(self, name: str, data: bytes) -> bool:
        """Ask for an object to be created exclusively, whether the place is known to do so or not."""
        return conditional_put.create(self._requests(), name, checked_key(name), data)

    def probe_exclusive(self) -> bool:
        """Whether this place creates objects exclusively; tried once, then remembered here and in the place itself."""
        return conditional_put.probe(self, self.options.token())

    def _refuse_to_create(self, name: str, size_bytes: int) -> None:
        if size_bytes > EXCLUSIVE_BYTES:
            raise CacheError(f"{name!r} is too large to be created exclusively ({size_bytes} bytes).", where=self.url)
        if not self.probe_exclusive():
            raise CacheError(
                f"{name!r} cannot be created exclusively: this place would overwrite what others created.",
                where=self.url,
                fix="use a service that honours the condition `If-None-Match: *`, or do without claims",
            )

    def adopt(self, local: str | Path, name: str) -> None:
        """Upload a local file, or all files of a folder, and remove them locally."""
        self.adopt_many({name: local})

    def adopt_many(self, moves: Mapping[str, str | Path]) -> dict[str, Stored]:
        """Upload files, and folders with all in them, in parallel, and remove them locally."""
        files: dict[str, str] = {}
        for name, local in moves.items():
            files |= files_in(os.fspath(local), name)
        stored = upload_all(self._requests(), files, {name: checked_key(name) for name in files})
        for path in files.values():
            with suppress(FileNotFoundError):
                os.unlink(path)
        return stored

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, many with one request where the place can do that."""
        keys = [checked_key(name) for name in names]
        for start in range(0, len(keys), PAGE):
            self._remove(keys[start : start + PAGE])

    def _remove(self, keys: Sequence[str]) -> None:
        requests, first = self._requests(), to_name(keys[0])
        what = first if len(keys) == 1 else f"{first} and others"
        requests.ask("remove", what, lambda: requests.client.delete(list(keys)))

    def copy_from(self, other: Any, names: Iterable[str]) -> None:
        """Copy objects of another place to the same names here: by the service itself where both are the same one."""
        names = list(names)
        requests = self._requests()
        source = other._requests().client if self._is_one_service_with(other) else None

        def by_service(name: str) -> bool:
            key = checked_key(name)
            if source is None:
                return False
            return requests.ask("copy", name, lambda: requests.client.copy(source, key, key))

        for name, done in zip(names, requests.parallel(by_service, names), strict=True):
            if not done:
                with tempfile.TemporaryDirectory(prefix="curidask-copy-") as folder:
                    other.fetch(name, f"{folder}/data")
                    self.adopt(f"{folder}/data", name)

    def _is_one_service_with(self, other: Any) -> bool:
        if type(self) is not type(other) or self.options.token() != other.options.token():
            return False
        return bool(self.url.partition("://")[0] == other.url.partition("://")[0])

    @contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Keep this process's other threads out; there is no lock that other processes would see."""
        with _locks[hash((self.url, name)) % len(_locks)]:
            yield

    def check_writable(self) -> None:
        """Write something. It stays, always the same, since to remove it would cost each run a request more."""
        self.write(".writable", b"writable")


_locks = [threading.RLock() for _ in range(64)]
