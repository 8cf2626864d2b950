"""Manifests: what an artifact is, where it came from, and which bytes it consists of."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeGuard

from curidask.core.artifact_names import (
    FILES,
    HASH_BYTES,
    LAYOUT_SUFFIX,
    UNTRACKED,
    check_object_name,
    safe_part,
    stem_of,
)
from curidask.core.json_text import NotJsonError, to_json
from curidask.errors import ArtifactDamagedError, ArtifactNewerError

# --- what somebody else may have written, checked before anything is done with it ------------------------------------
# Its size, its depth, its types.
#
# Whatever lies in a cache or in the folder of a run may have been put there by anybody who can write there. It is
# parsed once, where it comes in; what has another form than we write counts as damaged, and is never used as a path,
# as markup or as a control sequence of the terminal.

SMALL_BYTES = 1 << 20
"""The most that a note may have: a claim, or what a stage reported."""
LARGE_BYTES = 1 << 28
"""The most that a description may have: a manifest, or the record of a run."""
MOST_DEPTH = 100
MOST_CHARACTERS = 100_000
MOST_BYTES = 1 << 62
LAST_SECOND = 1e11
"""A time in seconds since 1970 that no clock shows."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROLS = re.compile(r"\x1b\[[\d;]*m|[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE = re.compile(r"[/\\\0]|\A\.{0,2}\Z")


# --- JSON ------------------------------------------------------------------------------------------------------------
def parse_json(data: bytes | str, most_bytes: int = SMALL_BYTES) -> Any:
    """Parse JSON of a bounded size and depth.

    Raises
    ------
    ValueError
    """
    if len(data) > most_bytes:
        raise ValueError(f"it has {len(data)} bytes")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    brackets = (b"{", b"[") if isinstance(data, bytes) else ("{", "[")
    if sum(map(data.count, brackets)) > MOST_DEPTH and is_deep(value):  # type: ignore[arg-type]
        raise ValueError("it is nested too deeply")
    return value


def parse_object(data: bytes | str, most_bytes: int = SMALL_BYTES) -> dict[str, Any]:
    """Parse a JSON object; see `parse_json`."""
    value = parse_json(data, most_bytes)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and dicts are nested deeper than anybody needs."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list | tuple)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


# --- types -----------------------------------------------------------------------------------------------------------
def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text of a length that people write."""
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS


def is_digest(value: Any) -> TypeGuard[str]:
    """Whether it is a SHA-256 in 64 small hex digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_name(value: Any) -> TypeGuard[str]:
    """Whether it can be the name of a file in a folder: no separators, not ``.`` or ``..``."""
    return is_text(value) and _UNSAFE.search(value) is None


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a number of something, or of bytes."""
    return type(value) is int and 0 <= value < MOST_BYTES


def is_pid(value: Any) -> TypeGuard[int]:
    """Whether it can be the number of a process."""
    return is_count(value) and 0 < value < 1 << 31


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return type(value) in (int, float) and -MOST_BYTES < value < MOST_BYTES and math.isfinite(value)


def is_seconds(value: Any) -> TypeGuard[float]:
    """Whether it is a time: how long something took, or when it was, since 1970."""
    return is_number(value) and 0 <= value < LAST_SECOND


def is_map_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a dict with such values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a list of such items."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def is_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


is_named_texts = is_map_of(is_text)


# --- for people ------------------------------------------------------------------------------------------------------
def printable(text: object) -> str:
    """A text on one line without what moves the cursor, changes colours or turns the direction of what is written."""
    text = str(text)
    return text if text.isprintable() else _CONTROLS.sub("\ufffd", text)


def for_terminal(text: str) -> str:
    """The same for lines that may have colours of our own."""
    return text if text.isprintable() else _CONTROLS.sub(_but_colour, text)


def _but_colour(match: re.Match[str]) -> str:
    return match[0] if match[0] in "\n\t" or match[0].endswith("m") else "\ufffd"


# --- files -----------------------------------------------------------------------------------------------------------
def open_file(path: str) -> io.FileIO:
    """Open a plain file for reading, unbuffered; a pipe or a device in its place is never waited for.

    Raises
    ------
    IsADirectoryError
        For what is no plain file.
    OSError
    """
    _refuse_special(os.stat(path), path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_special(os.fstat(fd), path)  # it may have been replaced in between
        return io.FileIO(fd)  # as `open` without a buffer gives, at less cost
    except BaseException:
        os.close(fd)
        raise


def _refuse_special(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError(21, "It is no plain file", path)


def read_file(path: str | os.PathLike[str], most_bytes: int = LARGE_BYTES) -> bytes:
    """The bytes of a plain file of a bounded size.

    Raises
    ------
    OSError
    ValueError
        When it is larger.
    """
    with open_file(os.fspath(path)) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"it has {size} bytes")
        return file.read()


# --- manifest --------------------------------------------------------------------------------------------------------
VERSION = 1
_HEAD = b'{"checksum": "'
_TAIL = b'",\n'
_SIGNATURE = b'"signature": "'
REPORTED = ".reported/"
BROUGHT = "brought code"
"""What a manifest says beside the parts of the key of a value that may be another one with other code."""
_BESIDE = ("_", UNTRACKED, REPORTED, LAYOUT_SUFFIX)
"""What follows that name: a stage's own files, what it reported, and what its folders are like."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an artifact.

    Attributes
    ----------
    name : str
        For payload: what follows the stem in its name, so that it holds under another prefix too. For a tracked file:
        its whole name in the store.
    sha256 : str
        64 hex digits.
    """

    name: str
    size_bytes: int
    sha256: str


def content_digest(files: Iterable[FileEntry]) -> str:
    """Digest over the names and digests of files, in whatever order."""
    entries = sorted((entry.name, entry.sha256) for entry in files)
    text = "".join(f"{len(name)}:{name}{sha256}" for name, sha256 in entries)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact is, where it came from, and which files it consists of.

    Attributes
    ----------
    key : str
        The artifact key, 64 hex digits.
    stem, prefix, stage, output, params_hash, set_name : str
        Its name in the store and the parts of it.
    components : dict
        The parts of the key, to explain why two keys differ.
    files : tuple of FileEntry
        The payload.
    tracked : tuple of FileEntry
        Files that the stage wrote beside its outputs (``record.get_path``, ``record.get_dir``).
    cacher, preview : str
        Class that wrote the payload, and a short text about the value.
    params : dict
        The parameter set, for people to read.
    inputs : tuple of dict
        Name, key and digest of what the stage read: of its inputs, and without a name of what it got otherwise, such as
        through a stage that stores nothing. The digest is that of what the artifact said of itself then (`content`).
    call : str
        Identifies the call of the stage that made it: all outputs of one call have the same, and what has another does
        not belong to them. Empty in what was stored before there were such.
    run, user, host, created : str
        Which run, who, where and when (UTC, ISO 8601).
    seconds : float
        How long the stage's function took.
    packages : dict
        Versions of the packages that were loaded.
    extra_metadata : dict
        What the cacher kept.
    version : int
        Of the manifest's own form.
    """

    key: str
    stem: str
    prefix: str
    stage: str
    output: str
    params_hash: str
    set_name: str = ""
    components: dict[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    tracked: tuple[FileEntry, ...] = ()
    cacher: str = ""
    preview: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    call: str = ""
    run: str = ""
    user: str = ""
    host: str = ""
    created: str = ""
    seconds: float = 0.0
    packages: dict[str, str] = field(default_factory=dict)
    extra_metadata: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def digest(self) -> str:
        """Digest of the content: the payload's names and bytes, whatever the artifact is called."""
        return content_digest(self.files)

    @property
    def content(self) -> str:
        """Digest of all that a later stage may get of it.

        That is the payload, the files that the stage wrote beside it, and the code that the value brings along.
        """
        start = len(stem_of(self.tracked[0].name) or "") if self.tracked else 0
        beside = [FileEntry(e.name[start:], e.size_bytes, e.sha256) for e in self.tracked]
        own = [entry for entry in beside if not entry.name.startswith(REPORTED)]
        content = content_digest([*self.files, *own]) if own else self.digest
        brought = self.components.get(BROUGHT)
        return hashlib.sha256(f"{content}{brought}".encode()).hexdigest() if brought else content

    @property
    def made_from(self) -> dict[str, str]:
        """The contents that it was made from, by their keys."""
        return {row["key"]: row["digest"] for row in self.inputs if row.get("key") and row.get("digest")}

    @property
    def size_bytes(self) -> int:
        """Size of the payload."""
        return sum(entry.size_bytes for entry in self.files)

    def to_bytes(self) -> bytes:
        """Encode as JSON, one field a line, with a checksum over all that follows it.

        Raises
        ------
        NotJsonError
            Naming the cacher and the place, when `extra_metadata` (or another field) cannot be written.
        """
        lines = []
        for name in _FIELD_NAMES:
            value = getattr(self, name)
            if name in ("files", "tracked"):
                value = [[entry.name, entry.size_bytes, entry.sha256] for entry in value]
            what, where = f"The {name} of the artifact {self.output!r}", f"{self.cacher}, {self.stem}"
            lines.append(f'"{name}": {to_json(value, what, where=where)}')
            if name in _FREE and is_deep([value]):
                raise NotJsonError(f"{what} is nested too deeply.", where=where, fix="keep what is large in a file")
        text = ",\n".join(lines) + "}\n"
        try:
            body = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, out of a file name that is not UTF-8
            body = re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match.group()):04x}", text).encode()
        return _sealed(body)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "") -> Manifest:
        """Decode what `to_bytes` gave.

        Raises
        ------
        ArtifactDamagedError
            For anything that is not, byte for byte, what `to_bytes` or `with_signature` gives.
        ArtifactNewerError
            When a later version of curidask wrote it.
        """
        if not data.startswith(_HEAD) and (version := _version_of(data)) > VERSION:
            raise _newer(version, where)
        _, body = split_signature(data, where)
        try:
            values = parse_object(b"{" + body, LARGE_BYTES)
        except ValueError as error:
            raise _damaged(f"cannot be read ({error})", where) from error
        return _checked(values, where)


def with_signature(data: bytes, signature: str) -> bytes:
    """An encoded manifest with another signature, of letters, digits, colons and spaces."""
    _, body = split_signature(data)
    return _sealed(_SIGNATURE + signature.encode() + _TAIL + body)


def split_signature(data: bytes, where: str = "") -> tuple[str, bytes]:
    """The signature of an encoded manifest, empty where there is none, and what it is about: all the rest.

    Raises
    ------
    ArtifactDamagedError
        When the checksum is not right.
    """
    start = len(_HEAD) + 64
    body = data[start + len(_TAIL) :]
    whole = data.startswith(_HEAD) and data[start : start + len(_TAIL)] == _TAIL
    if not whole or hashlib.sha256(body).hexdigest().encode() != data[len(_HEAD) : start]:
        raise _damaged("is cut off or changed", where)
    if not body.startswith(_SIGNATURE):
        return "", body
    signature, _, body = body[len(_SIGNATURE) :].partition(_TAIL)
    return signature.decode("ascii", "replace"), body


def _sealed(body: bytes) -> bytes:
    return b"".join([_HEAD, hashlib.sha256(body).hexdigest().encode(), _TAIL, body])


_FIELD_NAMES = tuple(sorted(f.name for f in fields(Manifest)))
_FREE = ("components", "params", "extra_metadata")
"""What users or their code put there."""
_FOR_PEOPLE = ("cacher", "preview", "run", "user", "host", "created")
"""What we write ourselves, without control characters; what is known by names of the user's stays as it is."""
_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_FIELD_NAMES, is_text),
    **dict.fromkeys(_FREE, lambda value: isinstance(value, dict)),
    **dict.fromkeys(("files", "tracked"), lambda value: isinstance(value, list)),
    "inputs": is_list_of(is_named_texts),
    "key": is_digest,
    "packages": is_named_texts,
    "seconds": is_seconds,
    "version": lambda value: type(value) is int,
}


def _checked(values: dict[str, Any], where: str) -> Manifest:
    version = _version(values)
    if version != VERSION:
        raise _newer(version, where) if version > VERSION else _damaged("is of another version", where)
    values.setdefault("call", "")
    for name in _FIELD_NAMES:
        if name not in values or not _IS_RIGHT[name](values[name]):
            raise _damaged(f"has no {name!r} of the right type", where)
    try:
        values["files"] = tuple(_entry(item, "x") for item in values["files"])
        values["tracked"] = tuple(_entry(item, "") for item in values["tracked"])
        values["inputs"] = tuple(values["inputs"])
        values |= {name: printable(values[name]) for name in _FOR_PEOPLE}
        manifest = Manifest(**values)
    except (TypeError, ValueError) as error:  # UnsafeNameError is a ValueError
        raise _damaged(f"has fields that do not belong ({error})", where) from error
    _check_tracked(manifest, where)
    return manifest


def _entry(item: Any, before: str) -> FileEntry:
    name, size_bytes, sha256 = item
    if not (is_text(name) and is_count(size_bytes) and is_digest(sha256)):
        raise ValueError(f"file {name!r:.200}")
    # A manifest may come from anybody who can write to the store; it must not name files outside it.
    check_object_name(before + name)
    return FileEntry(name, size_bytes, sha256)


def _check_tracked(manifest: Manifest, where: str) -> None:
    """Refuse files beside the outputs that are not named as those of this stage: they may be another artifact's.

    The name of the artifact itself is what the reader has asked for. It ends in hash and stage, and so does the name
    with which all files of the stage begin; only the prefix may be another, since a cacher may have its own.
    """
    if not manifest.tracked:
        return
    stems = [stem_of(entry.name) or "" for entry in manifest.tracked]
    about = f"_{safe_part(manifest.params_hash, HASH_BYTES)}_{safe_part(manifest.stage)}_"
    right = (
        len(set(stems)) == 1
        and _is_of(manifest.stem, about + safe_part(manifest.output or FILES))
        and (_is_of(stems[0], about + FILES) if manifest.output else stems[0] == manifest.stem)
        and all(e.name[len(stem) :].startswith(_BESIDE) for e, stem in zip(manifest.tracked, stems, strict=True))
    )
    if not right:
        raise _damaged("names files of another stage", where)


def _is_of(stem: str, readable: str) -> bool:
    return stem[:-13].endswith(readable)


def _version_of(data: bytes) -> int:
    """The version that a manifest says which is in another form than ours; 0 for what says none."""
    try:
        return _version(parse_object(data, LARGE_BYTES))
    except ValueError:
        return 0


def _version(values: dict[str, Any]) -> int:
    version = values.get("version")
    return version if type(version) is int else 0


def _newer(version: int, where: str) -> ArtifactNewerError:
    return ArtifactNewerError(
        f"An artifact was stored by a newer curidask (its manifest has the form {version}, this one reads {VERSION}).",
        where=where,
        fix="update curidask, or choose another cache with --cache; nothing of it was changed",
    )


def _damaged(problem: str, where: str) -> ArtifactDamagedError:
    return ArtifactDamagedError(
        f"A manifest {problem}.", where=where, fix="nothing is needed: the artifact counts as missing and is made again"
    )
