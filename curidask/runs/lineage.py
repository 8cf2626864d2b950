"""What an artifact was made from, as far up as the cache and the records of runs tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curidask.core.artifact_names import FILES, MANIFEST_SUFFIX, manifest_name, stem_of
from curidask.core.graph import SUPPRESSED, artifact_key
from curidask.errors import ArtifactMissingError, ArtifactNewerError
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest, printable
from curidask.store.signing import signature_state

KEY_DIGITS = 12
"""As many of a key are in the name of an artifact."""
MOST_INDENT = 240
NO_SET = "None"

Readers = dict[str, tuple[str, Manifest | None]]
"""By what was read, the run that made the reader, and its manifest."""

ReadRun = Callable[[str], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Source:
    """An artifact, or a value, that something was made from.

    Attributes
    ----------
    title : str
        What it is, by the names of stage and set, and where it is.
    notes : tuple of str
        What is wrong with it.
    inputs : tuple of (str, str, str)
        Name, key, and digest at that time (empty where that is not known) of what it was made from in turn.
    digest : str
        Of its contents now; empty where that is not known.
    """

    title: str
    notes: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str, str], ...] = ()
    digest: str = ""


@dataclass
class Lineage:
    """The artifacts of a cache, each with what it was made from.

    Parameters
    ----------
    stores : sequence of ArtifactStore
        The tiers of the cache.
    read_run : callable
        Gives the tasks of a run by its reference, as in its record; none where there is no record.
    """

    stores: Sequence[ArtifactStore]
    read_run: ReadRun
    _sizes: dict[str, int] = field(default_factory=dict, repr=False)
    _holders: dict[str, list[ArtifactStore]] = field(default_factory=dict, repr=False)
    _by_key: dict[str, list[str]] = field(default_factory=dict, repr=False)
    _rows: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for store in self.stores:
            for entry in store.objects.entries():
                self._sizes.setdefault(entry.name, entry.size_bytes)
                if entry.name.endswith(MANIFEST_SUFFIX):
                    stem = entry.name.removesuffix(MANIFEST_SUFFIX)
                    self._holders.setdefault(stem, []).append(store)
        for stem in self._holders:
            self._by_key.setdefault(stem[-KEY_DIGITS:], []).append(stem)

    # --- names -------------------------------------------------------------------------------------------------------
    @property
    def stems(self) -> list[str]:
        """The artifacts that have a manifest."""
        return list(self._holders)

    @property
    def broken(self) -> set[str]:
        """What has files but no manifest: artifacts whose commit was broken off, and files that go with others."""
        return {stem for name in self._sizes if (stem := stem_of(name)) is not None} - self._holders.keys()

    def holder_of(self, stem: str) -> str:
        """The artifact that files beside outputs go with; for all else itself."""
        if stem in self._holders or not stem[: -KEY_DIGITS - 1].endswith(f"_{FILES}"):
            return stem
        of_stage = stem[: -KEY_DIGITS - 1].removesuffix(FILES)
        for other, (manifest, _) in self._manifests([s for s in self._holders if s.startswith(of_stage)]).items():
            if manifest is not None and any(entry.name.startswith(stem) for entry in manifest.tracked):
                return other
        return stem

    # --- manifests ---------------------------------------------------------------------------------------------------
    def manifest(self, stem: str) -> tuple[Manifest | None, str]:
        """The manifest of an artifact, as far as it can be read, and what is wrong."""
        return self._manifests([stem]).get(stem, (None, "it has no manifest: its commit was broken off"))

    def _manifests(self, stems: Iterable[str]) -> dict[str, tuple[Manifest | None, str]]:
        """The same of several, with one read of all in each tier."""
        found: dict[str, tuple[Manifest | None, str]] = {}
        for store in self.stores:
            open_ones = [stem for stem in stems if stem not in found or found[stem][0] is None]
            names = {manifest_name(stem): stem for stem in open_ones if store in self._holders.get(stem, ())}
            for name, data in store.objects.read_many(names).items() if names else ():
                found[names[name]] = self._parsed(store, names[name], data)
        return found

    def _parsed(self, store: ArtifactStore, stem: str, data: bytes) -> tuple[Manifest | None, str]:
        try:
            manifest = store.catalog.parse(stem, data, trusted=False)
        except (ArtifactMissingError, ArtifactNewerError) as error:
            return None, error.what.rstrip(".")
        keys = store.catalog.keys
        if keys is not None and keys.problem(data):
            return manifest, f"not trusted: {signature_state(data, keys)}"
        wrong = [e for e in manifest.files if self._sizes.get(stem + e.name, e.size_bytes) != e.size_bytes]
        gone = [e for e in manifest.files if stem + e.name not in self._sizes]
        if gone or wrong:
            what = "is gone" if gone else "has another size than when it was stored"
            return manifest, f"damaged: its file {stem + (gone or wrong)[0].name} {what}"
        return manifest, ""

    # --- what it was made from ---------------------------------------------------------------------------------------
    def sources(self, manifest: Manifest) -> dict[str, Source]:
        """By key, all that an artifact was made from, directly or not."""
        found: dict[str, Source] = {}
        pending: Readers = {key: (manifest.run, manifest) for _, key, _ in inputs_of(manifest)}
        while pending:
            manifests = self._of_keys(pending)
            after: Readers = {}
            for key, (run, reader) in pending.items():
                stem, made, problem = manifests.get(key, ("", None, ""))
                if made is not None or stem:
                    source = _of_artifact(stem, made, problem)
                    found[key], next_run = source, made.run if made is not None else run
                else:
                    found[key], next_run = self._of_record(key, run, reader), run
                after |= dict.fromkeys((k for _, k, _ in found[key].inputs), (next_run, made))
            pending = {key: reader for key, reader in after.items() if key not in found}
        return found

    def _of_keys(self, keys: Iterable[str]) -> dict[str, tuple[str, Manifest | None, str]]:
        wanted = {key: self._by_key.get(key[:KEY_DIGITS], []) for key in keys}
        manifests = self._manifests({stem for stems in wanted.values() for stem in stems})
        found: dict[str, tuple[str, Manifest | None, str]] = {}
        for key, stems in wanted.items():
            for stem in stems:
                manifest, problem = manifests.get(stem, (None, "it cannot be read"))
                is_better = key not in found or (found[key][2] and not problem)  # a whole one, where there are several
                if is_better and (manifest is None or manifest.key == key):
                    found[key] = stem, manifest, problem
        return found

    def _of_record(self, key: str, run: str, reader: Manifest | None) -> Source:
        """What the record of a run says of something that is not in the cache."""
        rows = self._tasks_of(run)
        row = rows.get(key)
        if row is None:
            return Source(_unknown(key, rows, reader))
        by_id = {one["id"]: one for one in rows.values()}
        index = [artifact_key(row["key"], name) for name in row["outputs"]].index(key)
        stems = row.get("artifacts", ())
        stem = stems[index] if index < len(stems) else None
        inputs = [
            (name, artifact_key(by_id[task]["key"], name), "")
            for name, tasks in row.get("inputs", {}).items()
            for task in tasks
            if task in by_id
        ]
        where = "not stored" if stem is None else f"{stem}, which is not in the cache any more"
        return Source(f"{_of_set(row['stage'], row['set'])}  ({where})", (), tuple(inputs))

    def _tasks_of(self, run: str) -> dict[str, Mapping[str, Any]]:
        """The tasks of a run by the keys of their outputs."""
        if run not in self._rows:
            rows = [row for row in self.read_run(run) if row.get("key") and row.get("outputs")]
            self._rows[run] = {artifact_key(row["key"], name): row for row in rows for name in row["outputs"]}
        return self._rows[run]


def inputs_of(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Name, key and digest of what an artifact was made from."""
    return [(row.get("name", "?"), row.get("key", ""), row.get("digest", "")) for row in manifest.inputs]


def _unknown(key: str, rows: Mapping[str, Mapping[str, Any]], reader: Manifest | None) -> str:
    if key == SUPPRESSED:
        return "(was missing, and suppressed)"
    row = rows.get(reader.key) if reader is not None else None
    names = {name for name, other, _ in inputs_of(reader) if other == key} if reader is not None else set()
    if row is not None and any(row.get("inputs", {}).get(name) == [] for name in names):
        return "(a value that the experiment gave itself)"
    return (
        f"({key[:KEY_DIGITS]}, which is not in the cache: removed, not stored by its stage, or a value that the "
        "experiment gave itself)"
    )


def _of_artifact(stem: str, manifest: Manifest | None, problem: str) -> Source:
    notes = (problem,) if problem else ()
    if manifest is None:
        return Source(stem, notes)
    title = f"{_of_set(manifest.stage, manifest.set_name)}  {stem}"
    return Source(title, notes, tuple(inputs_of(manifest)), manifest.content)


def _of_set(stage: str, name: str) -> str:
    return f"{stage} of {name}" if name not in ("", NO_SET) else stage


# --- as a tree -------------------------------------------------------------------------------------------------------
def tree(manifest: Manifest, sources: Mapping[str, Source]) -> Iterator[str]:
    """What an artifact was made from as lines, each source in full once."""
    shown: set[str] = set()
    pending = _branches(inputs_of(manifest), "")
    while pending:
        (name, key, digest), before, branch, below = pending.pop()
        source = sources[key]
        again = key in shown
        yield printable(f"{before}{branch}{name}: {source.title}{' (see above)' if again else ''}")
        notes = [] if again else list(source.notes)
        if digest and source.digest and digest != source.digest:
            notes.append(f"what it was made from had other contents ({digest[:8]}) than this has now")
        yield from (printable(f"{before}{below}! {note}") for note in notes)
        if not again:
            pending += _branches(source.inputs, (before + below)[-MOST_INDENT:])
        shown.add(key)


Branch = tuple[tuple[str, str, str], str, str, str]


def _branches(inputs: Sequence[tuple[str, str, str]], before: str) -> list[Branch]:
    """Inputs with how their lines begin, and those below; the first one last, since it is taken first."""
    last = len(inputs) - 1
    made = [(one, before, *(("└─ ", "   ") if n == last else ("├─ ", "│  "))) for n, one in enumerate(inputs)]
    return made[::-1]
