"""What somebody, or a disk, may have done to the files of a cache and of a project's runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from curidask.core.artifact_names import FILES, MANIFEST_SUFFIX, stem_of
from curidask.store.claims import Owner, claim_name
from tests.faults.randomly.odd_files import cleared, special

SECRET = "what-nobody-else-may-see"
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b1A\r\u202e"
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Place:
    """Folders of a scenario.

    Attributes
    ----------
    root : Path
    cache : Path
        The one that is damaged.
    older : Path
        What the cache held before everything was computed once more.
    """

    root: Path
    cache: Path
    older: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def outside(self) -> Path:
        """What nobody has a right to touch."""
        return self.root / "outside"

    def files(self, end: str = "") -> list[Path]:
        """Files of artifacts."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.cache) for name in names)
        named = [path for path in found if stem_of(path.relative_to(self.cache).as_posix()) and path.name.endswith(end)]
        return sorted(path for path in named if stat.S_ISREG(path.lstat().st_mode))

    def manifests(self) -> list[Path]:
        return self.files(MANIFEST_SUFFIX)

    def markers(self) -> list[str]:
        """What claims are named after, of what is stored."""
        found = set()
        for path in self.manifests():
            stem = path.name.removesuffix(MANIFEST_SUFFIX)
            named, _, key = stem.rpartition(".")
            found.add(f"{named.rpartition('_')[0]}_{FILES}.{key}")
        return sorted(found)


Damage = Callable[[Random, Place], str]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    DAMAGES[function.__name__] = function
    return function


def some(chance: Random, place: Place, end: str = "") -> Path:
    files = place.files(end)
    return chance.choice(files) if files else place.cache / f"nothing_{chance.randrange(99)}.0123456789ab.json"


# --- bytes -----------------------------------------------------------------------------------------------------------
@damage
def changed(chance: Random, place: Place) -> str:
    path = some(chance, place)
    data = bytearray(path.read_bytes() if path.is_file() else b"")
    where = chance.randrange(len(data) + 1)
    digits = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
    match chance.randrange(6):
        case 0:
            data = data[:where]
        case 5 if digits:
            data[chance.choice(digits)] = ord("7")
        case 1:
            data += b"more"
        case 2:
            data = bytearray()
        case 3:
            data[where:where] = b"\x00"
        case _:
            data[where : where + 1] = bytes([data[where] ^ 1 << chance.randrange(8)]) if where < len(data) else b"x"
    path.write_bytes(data)
    return path.name


@damage
def removed(chance: Random, place: Place) -> str:
    path = some(chance, place)
    path.unlink(missing_ok=True)
    return path.name


@damage
def exchanged(chance: Random, place: Place) -> str:
    """Files of two artifacts, or only one of them twice."""
    end = chance.choice([MANIFEST_SUFFIX, ".json", ""])
    first, second = some(chance, place, end), some(chance, place, end)
    if not (first.is_file() and second.is_file()):
        return ""
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    if chance.random() < 0.5:
        second.write_bytes(one)
    return f"{first.name} and {second.name}"


@damage
def put_back(chance: Random, place: Place) -> str:
    """Files as they were before all was computed once more: one, those of an artifact, or those of a stage."""
    path = some(chance, place)
    stem = stem_of(path.name) or path.name
    beginning = chance.choice([path.name, stem, stem, stem.rpartition("_")[0]])
    for old in sorted(place.older.rglob("*")):
        if old.name.startswith(beginning) and old.is_file():
            shutil.copyfile(old, cleared(place.cache / old.relative_to(place.older)))
    return beginning


@damage
def in_place_of_a_file(chance: Random, place: Place) -> str:
    path = some(chance, place)
    kind = special(chance, path, place.outside)
    return f"{kind} at {path.name}"


@damage
def folder_is_a_link(chance: Random, place: Place) -> str:
    """A folder with artifacts in it leads somewhere else."""
    folders = [path for path in sorted(place.cache.rglob("*")) if path.is_dir() and path.name[0] != "."]
    if not folders:
        return ""
    folder = chance.choice(folders)
    cleared(folder).symlink_to(place.outside / "folder")
    return folder.name


# --- manifests -------------------------------------------------------------------------------------------------------
def sealed(values: dict[str, Any]) -> bytes:
    """A manifest with the checksum that belongs to it, whatever it says."""
    values.pop("checksum", None)
    signature = values.pop("signature", None)  # of what it said before, or of something else
    body = json.dumps(values)[1:].encode()
    if isinstance(signature, str):
        body = b'"signature": "' + signature.encode("utf-8", "replace") + b'",\n' + body
    return with_checksum(body)


def with_checksum(body: bytes) -> bytes:
    return b'{"checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'",\n' + body


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for step in steps:
        yield (*path, step)
        yield from places(value[step], (*path, step))


def odd_value(chance: Random, place: Place) -> Any:
    """What nobody expects."""
    deep: Any = 1
    for _ in range(chance.choice([3, 90, 120, 900])):
        deep = [deep]
    kinds: list[Any] = [
        [
            None,
            True,
            False,
            0,
            -1,
            1.5,
            1 << 70,
            1e300,
            float("nan"),
            float("inf"),
            "",
            [],
            {},
            [[]],
            [None],
            {"a": {}},
        ],
        ["..", ".", "/", "../../outside/secret", str(place.outside / "secret"), "a/../../x", "\0", "a\nb", "C:\\x"],
        [EVIL, "x" * 300, "x" * 2_000_000, "\ud800", "ÿ" * 100, "0" * 64, "Z" * 64, "a" * 63],
        [deep, {"a": deep}, [[".json", 1, "0" * 64]], [["/../../x", 1, "0" * 64]], {EVIL: EVIL}, [{"name": EVIL}]],
        [path.name for path in place.files()] or [1],
    ]
    return chance.choice(chance.choice(kinds))


def mutated(chance: Random, place: Place, value: Any) -> Any:
    """JSON with another value, another name or something missing at some place."""
    found = list(places(value))
    if not found:
        return odd_value(chance, place)
    *path, last = chance.choice([*found, *[p for p in found if len(p) == 1] * 2])
    inner = value
    for step in path:
        inner = inner[step]
    match chance.randrange(5):
        case 0:
            del inner[last]
        case 1 if isinstance(inner, dict):
            inner[str(odd_value(chance, place))[:500]] = inner.pop(last)
        case _:
            inner[last] = odd_value(chance, place)
    return value


@damage
def manifest_changed(chance: Random, place: Place) -> str:
    """A manifest that says something else, with the checksum that belongs to it."""
    path = some(chance, place, MANIFEST_SUFFIX)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return ""
    if chance.random() < 0.1:
        path.write_bytes(with_checksum(f'"key": {DEEP}'.encode()))
        return path.name
    for _ in range(chance.choice([1, 1, 1, 3])):
        values = mutated(chance, place, values)
    if isinstance(values, dict) and chance.random() < 0.15:
        values |= {name: f"{name}{EVIL}" for name in ("set_name", "preview", "run", "user", "host", "cacher")}
    path.write_bytes(sealed(values) if isinstance(values, dict) else json.dumps(values).encode())
    return path.name


@damage
def told_names(chance: Random, place: Place) -> str:
    """A manifest that is right in all but what is told of it."""
    path = some(chance, place, MANIFEST_SUFFIX)
    try:
        values = json.loads(path.read_bytes())
        values |= {name: f"{values[name]}{EVIL}" for name in ("set_name", "preview", "run", "user", "host")}
    except (ValueError, OSError, TypeError, KeyError, RecursionError):
        return ""
    path.write_bytes(sealed(values))
    return path.name


@damage
def manifest_of_another(chance: Random, place: Place) -> str:
    """A manifest takes over fields of another one."""
    path, other = some(chance, place, MANIFEST_SUFFIX), some(chance, place, MANIFEST_SUFFIX)
    try:
        values, taken = json.loads(path.read_bytes()), json.loads(other.read_bytes())
        for name in chance.sample(sorted(set(values) & set(taken) - {"checksum"}), chance.randint(1, 4)):
            values[name] = taken[name]
    except (ValueError, OSError, TypeError):
        return ""
    path.write_bytes(sealed(values))
    return path.name


@damage
def forged(chance: Random, place: Place) -> str:
    """Payload of another value, with a manifest that says its size and digest; only for caches with keys."""
    path = some(chance, place, MANIFEST_SUFFIX)
    payload = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX) + ".json")
    try:
        values = json.loads(path.read_bytes())
        data = json.dumps({**json.loads(payload.read_bytes()), "value": 666}).encode()
        values["files"] = [[".json", len(data), hashlib.sha256(data).hexdigest()]]
        if chance.random() < 0.5:
            del values["signature"]
    except (ValueError, OSError, TypeError, KeyError):
        return ""
    payload.write_bytes(data)
    path.write_bytes(sealed(values))
    return path.name


# --- what is hidden --------------------------------------------------------------------------------------------------
@damage
def claim(chance: Random, place: Place) -> str:
    """Claims of nobody, of the dead and of those who say odd things."""
    owner = Owner("i" * 32, "other", "ada" + EVIL, "lab7", "there", 4711, 12.5, 1_700_000_000.0, chance.choice([1, 60]))
    markers = place.markers() or ["nothing"]
    for generation in range(chance.choice([1, 1, 3])):
        values = mutated(chance, place, {**asdict(owner), "beat": 0}) if chance.random() < 0.7 else asdict(owner)
        data = chance.choice([json.dumps(values), json.dumps(values), DEEP, "", "null"]).encode()
        path = place.cache / claim_name(chance.choice(markers), generation)
        if len(os.fsencode(path.name)) < 255:
            cleared(path).write_bytes(data)
            if chance.random() < 0.2:
                special(chance, path, place.outside)
    return "claims"


@damage
def note_of_a_run(chance: Random, place: Place) -> str:
    """What runs, and those who clean up, say in the cache."""
    notes = [path for path in sorted(place.cache.glob(".runs/*/*")) if path.is_file()]
    if chance.random() < 0.3 or not notes:
        values: Any = {"who": "ada" + EVIL, "stems": [path.name for path in place.files()][:3]}
        path = place.cache / ".gc" / "x-1.json"
    else:
        path = chance.choice(notes)
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            values = {}
    data = chance.choice([json.dumps(mutated(chance, place, values)), DEEP, ""]).encode()
    cleared(path).write_bytes(data)
    if chance.random() < 0.3:
        special(chance, path, place.outside)
    return str(path.relative_to(place.cache))


@damage
def stray(chance: Random, place: Place) -> str:
    """What others leave in a folder."""
    name = chance.choice(
        [b"\xff\xfe.0123456789ab.json", b"a\nb.0123456789ab_metadata.json", b"x" * 250, EVIL.encode(),
         b".tmp-1-0-01234567",
         b".work-faults_1_2020-01-01-T000000-0123456789ab-01234567", b".claimant-x-y", b".exclusive.json", b" ", b"-rf"]
    )  # fmt: skip
    path = Path(os.fsdecode(os.fsencode(place.cache) + b"/" + name))
    cleared(path)
    if chance.random() < 0.5:
        path.write_bytes(b"{}")
    else:
        special(chance, path, place.outside)
    return repr(path.name)


# --- runs of the project ---------------------------------------------------------------------------------------------
@damage
def record_of_a_run(chance: Random, place: Place) -> str:
    """What is kept of earlier runs."""
    runs = place.project / "data" / "runs"
    files = [path for path in sorted(runs.rglob("*")) if path.is_file() and not path.is_symlink()]
    if not files:
        return ""
    path = chance.choice(files)
    try:
        data = json.dumps(mutated(chance, place, json.loads(path.read_bytes()))).encode()
    except (ValueError, RecursionError):
        data = b"{"
    path.write_bytes(chance.choice([data, data, DEEP.encode(), b""]))
    if chance.random() < 0.3:
        special(chance, path, place.outside)
    return str(path.relative_to(runs))


@damage
def no_folder(chance: Random, place: Place) -> str:
    """Something else where a folder of the project is expected."""
    name = chance.choice(["logs", "data/runs", "reports"])
    path = cleared(place.project / name)
    match chance.randrange(4):
        case 0:
            path.touch()
        case 1:
            path.symlink_to("/dev/full")
        case 2:
            path.symlink_to("nowhere/at/all")
        case _:
            os.mkfifo(path)
    return name
