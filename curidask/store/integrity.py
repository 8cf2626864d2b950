"""Whether files are what was committed: sizes and digests, of local files and of those that are fetched."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from curidask.core.artifact_names import stem_of
from curidask.errors import ArtifactDamagedError, ConfigurationError, ObjectMissingError, ObjectUnreadableError
from curidask.store.backends.entries import Stored
from curidask.store.manifest import FileEntry, open_file

T = TypeVar("T")

Verify = Literal["digest", "size", "off"]

Fetch = Callable[[str, str, int], Stored]
"""Brings the file of a name, which should be so large, to a path; `ObjectMissingError` when there is none."""

BLOCK_BYTES = 1 << 20


def hash_file(path: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    size = 0
    with open_file(path) as file:
        block_bytes = min(BLOCK_BYTES, os.fstat(file.fileno()).st_size + 1)
        while block := file.read(block_bytes):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def checked_verify(verify: str) -> Verify:
    """Return the setting when it is one.

    Raises
    ------
    ConfigurationError
    """
    settings: dict[str, Verify] = {"digest": "digest", "size": "size", "off": "off"}
    if verify in settings:
        return settings[verify]
    raise ConfigurationError(f"`verify` is {verify!r}.", fix="use 'digest', 'size' or 'off'")


def check_file(path: str, name: str, entry: FileEntry, verify: Verify) -> None:
    """Raise `ArtifactDamagedError` when a local file is not what a manifest says."""
    if verify == "off":
        return
    try:
        size, sha256 = look_twice(lambda: _look(path, entry, verify))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise damaged(name, "is gone") from error
    except OSError as error:
        raise damaged(name, f"cannot be read ({error.strerror or error})") from error
    if size != entry.size_bytes:
        raise damaged(name, f"has {size} bytes instead of {entry.size_bytes}")
    if sha256 != entry.sha256:
        raise damaged(name, "was changed")


def _look(path: str, entry: FileEntry, verify: Verify) -> tuple[int, str]:
    return hash_file(path) if verify == "digest" else (os.stat(path).st_size, entry.sha256)


def look_twice(look: Callable[[], T]) -> T:
    """What a look at a file gives; once more where a file server says that what it knew of the file is out of date."""
    try:
        return look()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return look()


def check_files(folder: str, files: Mapping[str, FileEntry], verify: Verify) -> None:
    """Raise `ArtifactDamagedError` when one of the files in a folder, by their paths there, is not what it was."""
    for path, entry in files.items():
        check_file(f"{folder}/{path}", entry.name, entry, verify)


def difference(stored: Stored, entry: FileEntry, verify: Verify) -> str:
    """How what was stored, or fetched, differs from what was committed; empty when it does not."""
    if verify != "off" and stored.size_bytes != entry.size_bytes:
        return f"has {stored.size_bytes} bytes instead of {entry.size_bytes}"
    return "was changed" if verify == "digest" and stored.sha256 != entry.sha256 else ""


def fetch_verified(fetch: Fetch, entry: FileEntry, path: str, verify: Verify) -> None:
    """Fetch a file and check it by the digest that is taken on the way; what is wrong is fetched once more.

    Bytes may be changed on their way too, which some clients do not notice.

    Raises
    ------
    ArtifactDamagedError
    """
    try:
        problem = difference(fetch(entry.name, path, entry.size_bytes), entry, verify)
        if problem:
            problem = difference(fetch(entry.name, path, entry.size_bytes), entry, verify)
    except ObjectMissingError as error:
        is_there = isinstance(error, ObjectUnreadableError)
        raise damaged(entry.name, "cannot be read" if is_there else "is gone") from error
    if problem:
        raise damaged(entry.name, problem)


def damaged(name: str, problem: str) -> ArtifactDamagedError:
    """The error for a file that is not what was committed."""
    return ArtifactDamagedError(
        f"An artifact is damaged: {name!r} {problem}.",
        where=stem_of(name) or "",
        fix="nothing is needed: it counts as missing and is made again",
    )
