"""All that a store holds, out of one listing and one bulk read: artifacts, halves of artifacts, and strays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from curidask.core.artifact_names import manifest_name, stem_of
from curidask.errors import ArtifactMissingError, ArtifactNewerError
from curidask.store.artifacts import ArtifactStore
from curidask.store.checkout import all_files
from curidask.store.maintenance.usage import cache_around, inner_caches, is_inside
from curidask.store.manifest import Manifest

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact of a store.

    Attributes
    ----------
    manifest : Manifest or None
        None when it cannot be read, or is not trusted.
    names : tuple of str
        Its objects, without the manifest.
    problem : str
        Why there is no manifest.
    newer : bool
        Whether that is since a later version of curidask wrote it.
    """

    stem: str
    manifest: Manifest | None
    names: tuple[str, ...]
    problem: str = ""
    newer: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all its files, also those that the stage wrote beside its outputs."""
        if self.manifest is None:
            return 0
        return sum(entry.size_bytes for entry in all_files(self.manifest).values())

    @property
    def created(self) -> float:
        """When it was made, in seconds since 1970 by the clock of its maker; 0 when that is not known."""
        return seconds_of(self.manifest.created) if self.manifest is not None else 0.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a store holds.

    Attributes
    ----------
    artifacts : list of Entry
        What has a manifest and payload.
    halves : dict of str to tuple of str
        Store names with the objects of artifacts that have no manifest (a commit that was broken off, or is under way),
        or nothing but a manifest.
    strays : list of str
        Objects that belong to no artifact.
    inner : tuple of str
        Folders that are caches of their own; nothing in them is in the rest.
    """

    artifacts: list[Entry] = field(default_factory=list)
    halves: dict[str, tuple[str, ...]] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    inner: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all artifacts; files that several of them share count once."""
        files = {n: e.size_bytes for a in self.artifacts if a.manifest for n, e in all_files(a.manifest).items()}
        return sum(files.values())


def take_inventory(store: ArtifactStore, told: Callable[[int, int], None] = lambda done, total: None) -> Inventory:
    """List a store and read all manifests.

    Parameters
    ----------
    told : callable
        Is called with how many manifests are read, and how many there are.
    """
    names = store.objects.list()
    inner = inner_caches(names)
    by_stem, strays = _group(name for name in names if not inner or not is_inside(name, inner))
    with_manifest = [stem for stem, names in by_stem.items() if manifest_name(stem) in names]
    entries = []
    copied: set[str] = set()
    for start in range(0, len(with_manifest), BATCH):
        batch = with_manifest[start : start + BATCH]
        found = store.objects.read_many(manifest_name(stem) for stem in batch)
        entries += [
            _entry(store, stem, by_stem[stem], found[n]) for stem in batch if (n := manifest_name(stem)) in found
        ]
        copied |= {cache_around(stem, found[n]) for stem in batch if (n := manifest_name(stem)) in found}
        told(start + len(batch), len(with_manifest))
    if copied - {""}:
        inner = inner_caches(names, copied - {""})
        entries = [entry for entry in entries if not is_inside(entry.stem, inner)]
        by_stem, strays = _group(name for name in names if not is_inside(name, inner))
    owned = {name for e in entries if e.manifest for name in all_files(e.manifest)}
    whole = [entry for entry in entries if entry.names or (entry.manifest and entry.manifest.tracked)]
    kept = {entry.stem for entry in whole}
    halves = {stem: tuple(sorted(names - owned)) for stem, names in by_stem.items() if stem not in kept}
    if any(entry.newer for entry in entries):
        halves = {}  # they may be files that these artifacts name
    return Inventory(whole, {stem: names for stem, names in halves.items() if names}, sorted(strays), inner)


def _group(names: Iterable[str]) -> tuple[dict[str, set[str]], list[str]]:
    by_stem: dict[str, set[str]] = {}
    strays = []
    for name in names:
        stem = stem_of(name)
        if stem is None:
            strays.append(name)
        else:
            by_stem.setdefault(stem, set()).add(name)
    return by_stem, strays


def _entry(store: ArtifactStore, stem: str, names: set[str], data: bytes) -> Entry:
    payload = tuple(sorted(names - {manifest_name(stem)}))
    try:
        return Entry(stem, store.catalog.parse(stem, data), payload)
    except ArtifactNewerError as error:
        return Entry(stem, None, payload, f"newer: {error.what}", newer=True)
    except ArtifactMissingError as error:
        return Entry(stem, None, payload, f"{error.trouble}: {error.what}")


def seconds_of(text: str) -> float:
    """A time as manifests write it, in seconds since 1970; 0 when it cannot be read."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
