"""What artifacts a store holds, by its listing and its manifests; whether they may be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from curidask.core.artifact_names import KEY_DIGITS, manifest_name
from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    ArtifactNewerError,
    ArtifactUntrustedError,
    ObjectMissingError,
    ObjectUnreadableError,
)
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.entries import Entry
from curidask.store.backends.remote import common_beginning
from curidask.store.lineage import UNKNOWN, Lineage, LineageIndex, Row
from curidask.store.manifest import Manifest
from curidask.store.payload import whole_stems
from curidask.store.signing import Keyring

FEW = 16
SHOWN = 80
"""Characters of what a stranger may have written."""


class Catalog:
    """Reads manifests and says which of them count.

    Parameters
    ----------
    keys : Keyring, optional
        What is not signed with one of them is not trusted, and counts as missing.

    Attributes
    ----------
    notices : list of str
        What the user should know, for somebody to take.
    """

    def __init__(self, objects: ObjectStore, keys: Keyring | None = None) -> None:
        self.keys = keys
        self.notices: list[str] = []
        self._objects = objects
        self._known: dict[str, Lineage] = {}
        self._signed: dict[str, Lineage] = {}
        self._tags: dict[str, str] = {}
        self._listed = ""
        self._index: LineageIndex | None = None
        self._unsaved: dict[str, Row] = {}
        self._trusted: set[str] = set()
        self._refused: set[str] = set()

    # --- many --------------------------------------------------------------------------------------------------------
    def present(self, stems: Collection[str]) -> set[str]:
        """See `ArtifactStore.present`."""
        if self.keys is None:
            return self._look(stems)
        if len(stems) > FEW:
            return self._only_trusted(self._look(stems))
        # What is read before it is trusted could not be told from what is not there.
        return self._look(self._only_trusted(set(stems)))

    def _look(self, stems: Collection[str]) -> set[str]:
        if len(stems) > FEW:
            self._listed = common_beginning(stems)
            self._tags = whole_stems(self._entries(self._listed))
            self._known.clear()
            return self._tags.keys() & set(stems)
        # A listing costs more than to read a few small manifests, which name the payload.
        manifests, newer = self._read_manifests(stems, trusted=False)
        self._known.update((stem, Lineage.of_manifest(manifest)) for stem, manifest in manifests.items())
        first = {stem + m.files[0].name: stem for stem, m in manifests.items() if m.files}
        # What a newer curidask stored is there: whoever reads it is told so, and nothing is computed in its place.
        return {first[name] for name in self._objects.exists(first)} | newer

    def _only_trusted(self, stems: set[str]) -> set[str]:
        reasons: Counter[str] = Counter()
        names = {manifest_name(stem): stem for stem in stems - self._trusted}
        for name, data in self._objects.read_many(names).items():
            stem = names[name]
            problem = self._trust_problem(stem, data)
            if not problem:
                self._trusted.add(stem)
                self._note(stem, data)
            elif stem not in self._refused:
                self._refused.add(stem)
                reasons[problem] += 1
        if reasons:
            why = ", ".join(f"{count} {problem}" for problem, count in sorted(reasons.items()))
            n = reasons.total()
            artifacts = "1 artifact is" if n == 1 else f"{n} artifacts are"
            self.notices.append(f"{artifacts} not trusted and counted as missing in {self._objects.url}: {why}")
        return stems & self._trusted

    def _note(self, stem: str, data: bytes) -> None:
        """Keep what a manifest says of its origin, since it was read anyway."""
        try:
            self._signed[stem] = Lineage.of_manifest(Manifest.from_bytes(data))
        except (ArtifactDamagedError, ArtifactNewerError):
            self._signed[stem] = UNKNOWN  # told when it is read

    def _entries(self, prefix: str) -> Iterable[Entry]:
        """A listing; of a folder without tags, which are asked for those that matter."""
        if self._objects.local_root is None:
            return self._objects.entries(prefix)
        return (Entry(name, 0, 0.0) for name in self._objects.list(prefix))

    def _tag(self, stem: str) -> str:
        if not self._tags[stem] and self._objects.local_root is not None:
            self._tags[stem] = self._objects.tag_of(manifest_name(stem), b"")
        return self._tags[stem]

    def alike(self, readable: Collection[str], *, one_look: bool = False) -> list[str]:
        """See `ArtifactStore.alike`."""
        if one_look and self._objects.local_root is not None:
            return list(whole_stems(self._entries("")))
        first = common_beginning(readable)
        if self._tags and first.startswith(self._listed):
            known = self._tags
        elif self._objects.local_root is not None or len(readable) > FEW:
            known = whole_stems(self._entries(first))
        else:  # others may have much under names that begin alike
            known = {stem: tag for name in readable for stem, tag in whole_stems(self._entries(f"{name}.")).items()}
        return [stem for stem in known if stem[:-KEY_DIGITS] in readable]

    # --- what was made from what -------------------------------------------------------------------------------------
    def lineage(self, stems: Collection[str], prefix: str) -> dict[str, Lineage]:
        """See `ArtifactStore.lineage`."""
        found = {stem: self._signed[stem] for stem in stems if stem in self._signed}
        found |= {stem: self._known[stem] for stem in stems if stem in self._known}
        left = [stem for stem in stems if stem not in found and stem in self._tags]
        if not left:
            return found
        if self.keys is None:  # with keys each manifest is read anyway, and nothing is signed but those
            rows = self._index_of(prefix).rows()
            for stem in left:
                tag, row = rows.get(stem, ("", UNKNOWN))
                if tag and tag == self._tag(stem):
                    found[stem] = row
        missing = {stem: self._tag(stem) for stem in left if stem not in found}
        read = {stem: Lineage.of_manifest(manifest) for stem, manifest in self.read_many(missing).items()}
        self._unsaved |= {stem: (missing[stem], known) for stem, known in read.items() if missing[stem]}
        self._known |= {stem: read.get(stem, UNKNOWN) for stem in missing}
        return found | read

    def keep_lineage(self, rows: Mapping[str, Row], prefix: str) -> None:
        """See `ArtifactStore.keep_lineage`."""
        new, self._unsaved = {**self._unsaved, **rows}, {}
        if new and self.keys is None:
            index = self._index_of(prefix)
            index.add(
                new, {s for s in index.rows() if s.startswith(self._listed) and s not in self._tags and s not in new}
            )

    def _index_of(self, prefix: str) -> LineageIndex:
        if self._index is None or self._index.prefix != prefix:
            self._index = LineageIndex(self._objects, prefix)
        return self._index

    def read_many(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests that count, of those, read together."""
        return self._read_manifests(stems, trusted=True)[0]

    def _read_manifests(self, stems: Iterable[str], *, trusted: bool) -> tuple[dict[str, Manifest], set[str]]:
        """Those that can be read, and the stems of those that are of a newer form."""
        by_name = {manifest_name(stem): stem for stem in stems}
        found, newer = {}, set()
        for name, data in self._objects.read_many(by_name).items():
            stem = by_name[name]
            try:
                found[stem] = self.parse(stem, data, trusted=trusted)
            except ArtifactNewerError:
                newer.add(stem)
            except ArtifactMissingError:
                continue
        return found, newer

    # --- one ---------------------------------------------------------------------------------------------------------
    def raw(self, stem: str) -> bytes | None:
        """An encoded manifest as it lies in the store, checked in no way; None when there is none."""
        try:
            return self._objects.read(manifest_name(stem))
        except ObjectUnreadableError as error:
            self.notices.append(f"{error.what[:-1]} in {error.where}; it counts as missing, and is made again")
            return None
        except ObjectMissingError:
            return None

    def encode(self, manifest: Manifest) -> bytes:
        """Encode a manifest, signed where there are keys."""
        data = manifest.to_bytes()
        return data if self.keys is None else self.keys.sign(data)

    def parse(self, stem: str, data: bytes, *, trusted: bool = True) -> Manifest:
        """Decode the manifest that lies under a store name.

        Raises
        ------
        ArtifactUntrustedError
            When there are keys, and it is not signed with one of them, or for another store name.
        ArtifactDamagedError
            When it is cut off or changed, or belongs to an artifact of another key.
        ArtifactNewerError
            When a later version of curidask wrote it.
        """
        problem = self._trust_problem(stem, data) if trusted else ""
        if problem:
            raise ArtifactUntrustedError(f"The manifest of {stem!r} is {problem}.", where=self._objects.url)
        manifest = Manifest.from_bytes(data, where=stem)
        if not stem.endswith("." + manifest.key[:12]):
            raise ArtifactDamagedError(
                f"The manifest of {stem!r} is that of another artifact.", where=self._objects.url
            )
        return manifest if manifest.stem == stem else replace(manifest, stem=stem)

    def claimed(self, stem: str, data: bytes, key: str, cacher: str = "") -> Manifest:
        """Decode the manifest of an artifact that is to be checked out.

        Raises
        ------
        ArtifactMissingError
            When it has another key, or another class of cacher wrote it.
        ArtifactUntrustedError, ArtifactDamagedError
            As for `parse`.
        """
        manifest = self.parse(stem, data)
        if manifest.key != key:
            raise ArtifactMissingError(f"The artifact {stem!r} has another key.", where=self._objects.url)
        if cacher and manifest.cacher != cacher:
            what = f"The artifact {stem!r} was written by {manifest.cacher[:SHOWN]}, not by {cacher}."
            raise ArtifactMissingError(what, where=self._objects.url)
        return manifest

    def _trust_problem(self, stem: str, data: bytes) -> str:
        """Why nothing that a manifest names may be loaded; empty when it may, or when no key says what may."""
        if self.keys is None:
            return ""
        try:
            return self.keys.problem(data) or (
                "" if Manifest.from_bytes(data).stem == stem else "signed for another artifact"
            )
        except (ArtifactDamagedError, ArtifactNewerError):
            return ""  # told when it is read
