"""Names of stored artifacts and of the files they consist of: readable, safe, and never outside of their store."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from curidask.errors import UnsafeNameError

MANIFEST_SUFFIX = "_metadata.json"
LAYOUT_SUFFIX = ".layout.json"

CODE = ".code/"
"""Begins the names of what is kept of the code that made artifacts; see `curidask.session.explain.code_store`."""

LINEAGE = ".lineage/"
"""Begins the names of what is kept of the contents that artifacts were made from; see `curidask.store.lineage`."""

KEY_DIGITS = 13
"""How many characters of a store name are its key, with the point before it."""

PART_BYTES = 48
HASH_BYTES = 40
SUBDIR_BYTES = 200

UNTRACKED = "-"
"""Begins the names of files that full copies of a run leave out."""

FILES = "files"
"""Stands for the output in the names of files that a stage writes beside its outputs."""

_UNSAFE_NAME = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|[\\\0]")
_PLAIN_PART = re.compile(r"(?!\.)[A-Za-z0-9._-]+")
_KEY_LOOKALIKE = re.compile(r"\.(?=[0-9a-f]{12})")
_TEMPORARY = re.compile(r"\.tmp-\d+-\d+-[0-9a-f]{8}")
_STEM = re.compile(r"(?!\.)(?:.*?/)??[^/.][^/]*?\.[0-9a-f]{12}")


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
    return ArtifactName(prefix, params_hash, stage, FILES, key).stem


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
        For a suffix with separators, and for what would name the manifest or the like.
    """
    name = suffixed(basename, suffix) if suffix else basename + extension
    if name in (basename + MANIFEST_SUFFIX, basename + LAYOUT_SUFFIX):
        raise UnsafeNameError(
            f"{suffix or extension!r} is the name of the artifact's own metadata.",
            fix="use another suffix or extension; what a cacher puts into `extra_metadata` is kept there",
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


def is_object_name(name: str) -> bool:
    """Whether it is a name that does not lead out of the store."""
    return _UNSAFE_NAME.search(name) is None


def check_object_name(name: str) -> str:
    """Return the name unless it could lead out of the store.

    Raises
    ------
    UnsafeNameError
        For an absolute name, an empty or a dotted component, a backslash or a NUL.
    """
    if not is_object_name(name):
        raise UnsafeNameError(
            f"{name!r} cannot be the name of an object.",
            fix="use relative names with '/' between components, without '..', backslash or NUL",
        )
    return name


def is_temporary(name: str) -> bool:
    """Whether a file or folder of that name is what a write is to put in another's place."""
    return _TEMPORARY.fullmatch(name) is not None
