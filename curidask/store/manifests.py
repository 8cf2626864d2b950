"""Names of stored artifacts, and the manifest that says what an artifact is and which bytes it consists of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from curidask.errors import ArtifactDamagedError, UnsafeNameError
from curidask.store.jsontext import to_json

VERSION = 1
MANIFEST_SUFFIX = "_metadata.json"
PART_BYTES = 48
HASH_BYTES = 40
SUBDIR_BYTES = 200

UNTRACKED = "-"
"""Begins the names of files that full copies of a run leave out."""

_UNSAFE_NAME = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|[\\\0]")
_PLAIN_PART = re.compile(r"(?!\.)[A-Za-z0-9._-]+")
_KEY_LOOKALIKE = re.compile(r"\.(?=[0-9a-f]{12})")
_STEM = re.compile(r"(?!\.)(?:.*?/)??[^/.][^/]*?\.[0-9a-f]{12}")
_HEAD = b'{"checksum": "'
_TAIL = b'",\n'
_SIGNATURE = b'"signature": "'


# --- names -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ArtifactName:
    """The parts of the name under which an artifact lies in the store.

    Attributes
    ----------
    prefix, params_hash, stage, output : str
        Parts for people to read; whatever a file name cannot hold is percent-encoded.
    key : str
        The artifact key, of which the name shows the first 12 digits.
    subdir : str
        Folders within the store, separated by ``/``.
    """

    prefix: str
    params_hash: str
    stage: str
    output: str
    key: str
    subdir: str = ""

    @property
    def readable(self) -> str:
        """The parts for people, without the key."""
        return (
            f"{safe_part(self.prefix)}_{safe_part(self.params_hash, HASH_BYTES)}_{safe_part(self.stage)}"
            f"_{safe_part(self.output)}"
        )

    @property
    def stem(self) -> str:
        """The name without suffix and extension; its last component has 200 bytes at most."""
        base = f"{self.readable}.{self.key[:12]}"
        if not self.subdir:
            return base
        folders = [safe_part(part, SUBDIR_BYTES) for part in self.subdir.split("/") if part]
        return "/".join([*folders, base])


def output_stem(
    prefix: str, params_hash: str, stage: str, output: str, key: str, own_prefix: str | None, subdir: str | None
) -> str:
    """The store name of an output, whose cacher may have a prefix of its own and a subdir."""
    return ArtifactName(own_prefix or prefix, params_hash, stage, output, key, subdir or "").stem


def files_stem(prefix: str, params_hash: str, stage: str, key: str) -> str:
    """How the names begin of the files that a stage writes beside its outputs."""
    return ArtifactName(prefix, params_hash, stage, "files", key).stem


@lru_cache(maxsize=4096)
def safe_part(text: str, limit: int = PART_BYTES) -> str:
    """Make one part of a name safe: no separator, no leading dot, at most `limit` bytes.

    Two different texts never give the same part. `original_part` reverses it, save for texts that were too long: those
    keep their beginning and get a digest.
    """
    part = text if _PLAIN_PART.fullmatch(text) else _encode(text)
    # Only the key may look like ".<12 hex digits>", so that the first such place in a name ends its stem.
    part = _KEY_LOOKALIKE.sub("%2E", part)
    if len(part) <= limit:
        return part
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    # "%-" cannot come from encoding, so a shortened part is no other text's part; an escape cut in two is dropped.
    return re.sub(r"%.?\Z", "", part[: limit - 18]) + "%-" + digest


def original_part(part: str) -> str:
    """The text that `safe_part` encoded (of a shortened one, what is left of it)."""
    return unquote(part.partition("%-")[0], errors="surrogatepass")


def _encode(text: str) -> str:
    encoded = quote(text, safe="", errors="surrogatepass").replace("~", "%7E") or "%-"
    dots = len(encoded) - len(encoded.lstrip("."))
    return "%2E" * dots + encoded[dots:]


def manifest_name(stem: str) -> str:
    """The object that holds the manifest of an artifact."""
    return stem + MANIFEST_SUFFIX


def stem_of(name: str) -> str | None:
    """The artifact that an object belongs to, by the object's name; None for an object that is part of no artifact."""
    match = _STEM.match(name)
    return match.group() if match else None


def payload_name(basename: str, suffix: str | None, extension: str) -> str:
    """The name of a payload file.

    Parameters
    ----------
    basename : str
        The last component of the artifact's stem.
    suffix : str or None
        Tells several files apart; see `suffixed`.
    extension : str
        Appended where there is no suffix, with its dot.

    Raises
    ------
    UnsafeNameError
        For a suffix with separators, and for one that would name the manifest.
    """
    if not suffix:
        return basename + extension
    name = suffixed(basename, suffix)
    if name == basename + MANIFEST_SUFFIX:
        raise UnsafeNameError(
            f"{suffix!r} is the name of the artifact's own metadata.",
            fix="use another suffix; what a cacher puts into `extra_metadata` is kept there",
        )
    return name


def suffixed(base: str, suffix: str) -> str:
    """A name or path with a suffix, before which an underscore is put where it begins with neither ``_`` nor ``.``.

    Raises
    ------
    UnsafeNameError
        For a suffix with separators.
    """
    if "/" in suffix or "\\" in suffix or "\0" in suffix:
        raise UnsafeNameError(
            f"{suffix!r} cannot be part of a file name.",
            fix="use a text without separators; get_dir(name) gives a folder for files with names of their own",
        )
    return base + (suffix if suffix[0] in "_." else f"_{suffix}")


def beside_name(
    obj_name: str,
    subdir: str | None = None,
    prefix: str | None = None,
    stage_name: str | None = None,
    track: bool = True,
) -> str:
    """What follows the store name of a stage's own files in the name of one of them.

    Parameters
    ----------
    obj_name : str
        The name the stage gave it.
    subdir : str, optional
        Folders to put it into, separated by ``/``.
    prefix, stage_name : str, optional
        Put before the name, so that files of one name can be told apart.
    track : bool
        Whether a full copy of a run gets it; the name says so.
    """
    if not isinstance(obj_name, str) or not obj_name:
        raise UnsafeNameError(f"{obj_name!r} cannot be the name of a file.", fix="give a text, as in get_path('model')")
    folders = [safe_part(part, SUBDIR_BYTES) for part in (subdir or "").split("/") if part]
    last = "_".join(safe_part(part) for part in (prefix, stage_name, obj_name) if part)
    return ("_" if track else UNTRACKED) + "/".join([*folders, last])


def check_object_name(name: str) -> str:
    """Return the name unless it could lead out of the store.

    Raises
    ------
    UnsafeNameError
        For an absolute name, an empty or a dotted component, a backslash or a NUL.
    """
    if _UNSAFE_NAME.search(name):
        raise UnsafeNameError(
            f"{name!r} cannot be the name of an object.",
            fix="use relative names with '/' between components, without '..', backslash or NUL",
        )
    return name


# --- manifests -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an artifact.

    Attributes
    ----------
    name : str
        For payload: what follows the stem in its name, so that it holds under another prefix too. For a tracked file:
        its whole name in the store.
    size_bytes : int
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
        Name, key and digest of what the stage read.
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
            what = f"The {name} of the artifact {self.output!r}"
            lines.append(f'"{name}": {to_json(value, what, where=f"{self.cacher}, {self.stem}")}')
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
        """
        _, body = split_signature(data, where)
        try:
            values = json.loads(b"{" + body)
        except (ValueError, RecursionError) as error:
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
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("components", "params", "packages", "extra_metadata"), dict),
    **dict.fromkeys(("files", "tracked", "inputs"), list),
    "seconds": (int, float),
    "version": int,
}


def _checked(values: Any, where: str) -> Manifest:
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise _damaged("is of another version", where)
    values.setdefault("call", "")
    for name in _FIELD_NAMES:
        if name not in values or not isinstance(values[name], _TYPES.get(name, str)):
            raise _damaged(f"has no {name!r} of the right type", where)
    try:
        values["files"] = tuple(_entry(item, "x") for item in values["files"])
        values["tracked"] = tuple(_entry(item, "") for item in values["tracked"])
        values["inputs"] = tuple(values["inputs"])
        return Manifest(**values)
    except (TypeError, ValueError) as error:  # UnsafeNameError is a ValueError
        raise _damaged(f"has fields that do not belong ({error})", where) from error


def _entry(item: Any, before: str) -> FileEntry:
    name, size_bytes, sha256 = item
    if type(size_bytes) is not int or len(sha256) != 64:
        raise ValueError(f"file {name!r}")
    # A manifest may come from anybody who can write to the store; it must not name files outside it.
    check_object_name(before + name)
    return FileEntry(name, size_bytes, sha256)


def _damaged(problem: str, where: str) -> ArtifactDamagedError:
    return ArtifactDamagedError(
        f"A manifest {problem}.", where=where, fix="nothing is needed: the artifact counts as missing and is made again"
    )
