"""Two tiers against a dict, with damage in either, and the process dying between any two operations."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from curidask.core.artifact_names import manifest_name
from curidask.errors import ArtifactMissingError
from curidask.store import copy as store_copy
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.tiers import Tier, TieredStore
from tests.test_store_machine import INDEX, KEYS, SETTINGS, STEMS, CrashingObjects, Files, MemoryStoreMachine


class TiersMachine(MemoryStoreMachine):
    """A folder before an object store. What one of them holds whole is served, and put right in the other."""

    @initialize()
    def start(self) -> None:
        store_copy.FILES_AT_ONCE = 1  # in threads, another operation would be the last each time
        super().start()

    def open_store(self) -> TieredStore:  # type: ignore[override]
        return TieredStore([Tier(store) for store in self.open_tiers()])

    def open_tiers(self) -> list[ArtifactStore]:
        objects = CrashingObjects(open_objects(f"memory://{Path(self.folder).name}"))
        shared = ArtifactStore(objects, near=Path(self.near))  # type: ignore[arg-type]
        return [ArtifactStore.open(f"{self.folder}/cache"), shared]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for store in self.open_tiers():
                store.objects.remove([*store.objects.list(), *store.objects.list(".")])
        super().teardown()

    @rule()
    def clean(self) -> None:  # type: ignore[override]
        self.store.clean("run")
        root = self.store.local_root
        assert root is not None
        left = [path.name for path in root.iterdir() if path.name.startswith(".work-")] if root.exists() else []
        assert not [name for name in left if not name.startswith(".work-copy-")]  # of this process, which lives

    @rule(index=INDEX, which=st.integers(0, 5), cut=st.integers(0, 10), both=st.booleans())  # type: ignore[arg-type]
    def damage(self, index: int, which: int, cut: int, both: bool) -> None:  # type: ignore[override]
        served = self._read(index)
        if served is None:
            return
        tiers = self.open_tiers() if both else [self.open_tiers()[cut % 2]]
        for store in tiers:
            manifest = store.manifest(STEMS[index])
            if manifest is None:
                continue
            names = [manifest_name(STEMS[index]), *(STEMS[index] + entry.name for entry in manifest.files)]
            name = names[which % len(names)]
            data = store.objects.read(name)
            if not data:
                return  # all empty files are equal, and the near cache rightly serves one for another
            store.objects.write(name, data[:cut] if data[:cut] != data else data + b"x")
        # Downloads from before the damage are still right, so it shows only where there are none.
        self.near = tempfile.mkdtemp(dir=self.folder)
        self.restart()
        whole = [self._read_tier(store, index) for store in self.open_tiers()]
        self.allowed[index] = [next((files for files in whole if files is not None), None)]
        if not both:
            assert self.allowed[index] == [served] or None in whole

    @rule(index=INDEX, first=st.booleans())
    def lose_in_one_tier(self, index: int, first: bool) -> None:
        tiers = self.open_tiers()
        tiers[not first].discard(STEMS[index])
        left = self._read_tier(tiers[first], index)
        self.allowed[index] = [left]

    @invariant()
    def what_is_served_lies_in_the_first_tier(self) -> None:
        for index in range(len(STEMS)):
            served = self._read(index)
            if served is not None:
                assert self._read_tier(self.open_tiers()[0], index) == served

    def _read_tier(self, store: ArtifactStore, index: int) -> Files | None:
        """What a tier holds whole by itself."""
        fresh = ArtifactStore(store.objects, near=Path(tempfile.mkdtemp(dir=self.folder)))
        try:
            checkout = fresh.checkout(STEMS[index], KEYS[index])
        except ArtifactMissingError:
            return None
        start = f"{checkout.folder}/{checkout.basename}"
        return {entry.name: Path(start + entry.name).read_bytes() for entry in checkout.manifest.files}


class TiersReversedMachine(TiersMachine):
    """An object store before a folder, such as one on a file server."""

    def open_tiers(self) -> list[ArtifactStore]:
        return super().open_tiers()[::-1]


TestTiers = TiersMachine.TestCase
TestTiers.settings = settings(SETTINGS, max_examples=25)
TestTiersReversed = TiersReversedMachine.TestCase
TestTiersReversed.settings = settings(SETTINGS, max_examples=12)
