"""Manifests: what says that an artifact is whole, what it is made of and where it came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote, unquote

from curidask.errors import ArtifactDamagedError, CacheError

VERSION = 1
MANIFEST_SUFFIX = "_metadata.json"
KEY_DIGITS = 12
MAX_PART = 80
"""Characters a user-made part of a name may have before it is shortened; stores refuse components over 255 bytes."""

_STEM = re.compile(rf"^(?P<stem>.+?\.[0-9a-f]{{{KEY_DIGITS}}})(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """The parts of an artifact's name in the store.

    Attributes
    ----------
    prefix, params_hash, stage, output : str
        As the user knows them.
    key : str
        The artifact key; its first 12 digits keep variants of one artifact apart.
    subdir : str
        Folders to put it under, separated by ``/``.
    """

    prefix: str
    params_hash: str
    stage: str
    output: str
    key: str
    subdir: str = ""

    @property
    def stem(self) -> str:
        """What the names of all its files begin with."""
        parts = (self.prefix, self.params_hash, self.stage, self.output)
        folders = "".join(f"{safe_part(part)}/" for part in self.subdir.split("/") if part)
        return f"{folders}{'_'.join(map(safe_part, parts))}.{self.key[:KEY_DIGITS]}"


def safe_part(text: str) -> str:
    """A user-made text as part of a file name: no separators, no leading dot; `unsafe_part` gives the text back.

    Beyond 80 characters it is shortened, with a digest that keeps it unique (and is then not reversible).
    """
    safe = quote(text, safe="+,=@")
    safe = "%2E" + safe[1:] if safe.startswith(".") else safe
    # A dot before twelve hexadecimal digits would look like the end of a stem.
    safe = re.sub(rf"\.(?=[0-9a-f]{{{KEY_DIGITS}}})", "%2E", safe)
    if len(safe) > MAX_PART:
        safe = f"{safe[: MAX_PART - 13]}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return safe


def unsafe_part(safe: str) -> str:
    """The text that `safe_part` was given."""
    return unquote(safe)


def stem_of(name: str) -> str | None:
    """The stem that the name of an object begins with; None for an object that is no part of an artifact."""
    match = _STEM.match(name)
    return match["stem"] if match else None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact.

    Attributes
    ----------
    name : str
        Its name in the store.
    size_bytes : int
    sha256 : str
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of one artifact, stored beside it; without it there is no artifact.

    Attributes
    ----------
    key, stem : str
        Identity, and the beginning of its files' names.
    prefix, stage, output, params_hash, set_name : str
        Where it belongs.
    components : mapping
        What the key was made of.
    files : tuple of FileEntry
        The payload, written by the cacher.
    tracked : tuple of FileEntry
        Files the stage wrote to paths of its record.
    cacher, preview : str
        What wrote it, and a short text about the value.
    params : mapping
        The parameter set, for people.
    inputs : tuple of mapping
        Name, key and digest of each input.
    run, user, host, created : str
        Who made it, where and when (UTC).
    seconds : float
        How long the stage's function took.
    packages : mapping
        Versions of what was loaded.
    extra_metadata : mapping
        What the cacher keeps beside the payload.
    """

    key: str
    stem: str
    prefix: str
    stage: str
    output: str
    params_hash: str
    set_name: str = ""
    components: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    tracked: tuple[FileEntry, ...] = ()
    cacher: str = ""
    preview: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Mapping[str, Any], ...] = ()
    run: str = ""
    user: str = ""
    host: str = ""
    created: str = ""
    seconds: float = 0.0
    packages: Mapping[str, str] = field(default_factory=dict)
    extra_metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def digest(self) -> str:
        """Digest of the payload: the same for equal content, under whatever prefix it lies."""
        relative = [(entry.name.removeprefix(self.stem), entry.sha256) for entry in self.files]
        return hashlib.sha256(json.dumps(sorted(relative)).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The manifest as JSON, with a checksum of its own.

        Raises
        ------
        CacheError
            When the cacher's extra metadata are no JSON.
        """
        body = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("files", "tracked"):
            body[name] = [[entry.name, entry.size_bytes, entry.sha256] for entry in body[name]]
        try:
            text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise CacheError(
                f"The metadata of an artifact cannot be written as JSON: {error}",
                where=f"{self.cacher}, artifact {self.output!r} of stage {self.stage!r}",
                fix="keep plain JSON values in `extra_metadata`",
            ) from error
        return _sealed(text).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises
        ------
        ArtifactDamagedError
            For anything but a whole manifest of this version.
        """
        try:
            text = data.decode()
            body = json.loads(text)
            del body["checksum"]
            if _sealed(json.dumps(body, sort_keys=True, separators=(",", ":"))) != text:
                raise ValueError("its checksum does not match")
            if body["version"] != VERSION:
                raise ValueError(f"it has version {body['version']}, this program reads {VERSION}")
            for name in ("files", "tracked"):
                body[name] = tuple(FileEntry(*entry) for entry in body[name])
            body["inputs"] = tuple(body["inputs"])
            return cls(**body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactDamagedError(f"A manifest is damaged: {error}") from None


def _sealed(text: str) -> str:
    """The JSON object with the checksum of its text as first member."""
    return f'{{"checksum":"{hashlib.sha256(text.encode()).hexdigest()}",\n{text[1:]}'


def manifest_name(stem: str) -> str:
    """The name of an artifact's manifest."""
    return stem + MANIFEST_SUFFIX
