"""Checking every artifact of a store against its manifest, and a place for what a cache needs of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    ArtifactNewerError,
    ArtifactUntrustedError,
    CuridaskError,
)
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.conditional_put import RACERS, try_again
from curidask.store.claims import Claims, Held
from curidask.store.maintenance.inventory import Entry
from curidask.store.maintenance.usage import GC, RUNS, inner_caches, outer_cache
from curidask.store.manifest import Manifest

ARTIFACTS_AT_ONCE = 8
SMALL_BYTES = 1000
LARGE_BYTES = 8 << 20
N_SMALL = 10
CLAIM_SECONDS = 60.0
TRIALS = ".check-"
"""How the objects that trying out a place makes are named; the time follows."""


# --- artifacts --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Checked:
    """What checking an artifact gave.

    Attributes
    ----------
    kind : str
        Empty when it is whole; ``damaged``, ``untrusted`` or ``newer``.
    """

    stem: str
    size_bytes: int = 0
    kind: str = ""
    problem: str = ""


def verify_all(
    store: ArtifactStore,
    entries: Sequence[Entry],
    told: Callable[[Checked], None] = lambda checked: None,
    problem_of: Callable[[Manifest], str] = lambda manifest: "",
) -> list[Checked]:
    """Read and hash all files of artifacts, several at a time.

    Parameters
    ----------
    told : callable
        Is called with each artifact when it is done.
    problem_of : callable
        What is wrong with an artifact whose bytes are what was committed; empty for nothing.

    Returns
    -------
    list of Checked
        What was removed meanwhile is not in it.

    Raises
    ------
    CacheError
        When the store fails.
    """

    def check(entry: Entry) -> Checked | None:
        try:
            # The manifest is read again: it may have been replaced since the listing.
            manifest = store.verify_artifact(entry.stem)
            problem = problem_of(manifest)
            return Checked(entry.stem, manifest.size_bytes, "damaged" if problem else "", problem)
        except ArtifactUntrustedError as error:
            return Checked(entry.stem, entry.size_bytes, "untrusted", error.what)
        except ArtifactDamagedError as error:
            return Checked(entry.stem, entry.size_bytes, "damaged", error.what)
        except ArtifactNewerError as error:
            return Checked(entry.stem, 0, "newer", error.what)
        except ArtifactMissingError:
            return None

    found = []
    with ThreadPoolExecutor(ARTIFACTS_AT_ONCE, "curidask-verify") as pool:
        for checked in pool.map(check, entries):
            if checked is not None:
                told(checked)
                found.append(checked)
    return found


# --- a place ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a cache needs of a place.

    Attributes
    ----------
    says : str
        What was found.
    needed : bool
        Whether the place cannot serve without it.
    """

    name: str
    ok: bool
    says: str = ""
    fix: str = ""
    needed: bool = True


def check_place(objects: ObjectStore, *, read_only: bool = False) -> Iterator[Step]:
    """Try out what a cache needs of a place; what is written is removed again.

    Parameters
    ----------
    read_only : bool
        Try only what somebody needs who reads.

    Yields
    ------
    Step
    """
    trial = _Trial(objects)
    try:
        steps = [trial.list] if read_only else [trial.list, trial.write, trial.read, trial.see, trial.replace]
        for step in steps:
            done = step()
            yield done
            if not done.ok and done.needed:
                return
        yield from trial.alone()
        if read_only:
            return
        yield trial.artifact()
        created = trial.create()
        yield created
        if objects.local_root is not None:
            yield trial.folders(objects.local_root)
        yield trial.bookkeeping(claims=created.ok)
        yield trial.remove()
        yield trial.time_small()
        yield trial.time_large()
    finally:
        if not read_only:
            trial.clean()


class _Trial:
    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self.token = os.urandom(16).hex()
        self.prefix = f"{TRIALS}{int(time.time())}-{self.token[:12]}-"
        self.name = self.prefix + "a"

    def _try(self, name: str, action: Callable[[], str], fix: str, *, needed: bool = True) -> Step:
        try:
            return Step(name, True, action())
        except _NotAsNeededError as error:
            return Step(name, False, str(error), fix, needed)
        except CuridaskError as error:
            return Step(name, False, error.what, error.fix or fix, needed)

    def list(self) -> Step:
        """List."""
        fix = "check the address; give the right to list (s3:ListBucket, or Storage Blob Data Reader)"

        def look() -> str:
            names = self.objects.list()
            inner = inner_caches(names)
            return f"{len(names)} objects" + (f", also of other caches inside: {', '.join(inner)}" if inner else "")

        return self._try("list", look, fix)

    def alone(self) -> Iterator[Step]:
        """Say so where it lies in another cache."""
        outer = outer_cache(self.objects)
        if outer:
            fix = (
                "nothing, if that is meant: commands for the outer one leave this one out; else take a place beside it"
            )
            yield Step("a place of its own", False, f"it lies inside another cache, {outer}", fix, needed=False)

    def write(self) -> Step:
        """Write a small object."""
        fix = "give the right to write (s3:PutObject), or use the place with the mode ro"

        def write() -> str:
            self.objects.write(self.name, b"one")
            return ""

        return self._try("write", write, fix)

    def read(self) -> Step:
        """Read it."""
        return self._try("read", lambda: self._expect(b"one"), "give the right to read (s3:GetObject)")

    def see(self) -> Step:
        """Find it in a listing at once."""

        def see() -> str:
            if self.name not in self.objects.list(self.prefix):
                raise _NotAsNeededError("what was written is not in a listing made after it")
            return ""

        fix = "the place must show what was written at once: take another, or one without a cache before it"
        return self._try("list what was written", see, fix)

    def replace(self) -> Step:
        """Replace it."""

        def replace() -> str:
            self.objects.write(self.name, b"two")
            return self._expect(b"two")

        fix = "the place must give what was written last: take another, or one without a cache before it"
        return self._try("replace", replace, fix)

    def create(self) -> Step:
        """Have several create one object of which only one may succeed."""

        def create() -> str:
            if not try_again(self.objects):
                raise _NotAsNeededError("of several that created one object, more than one succeeded")
            return f"1 of {RACERS} at one time"

        fix = (
            "nothing, if you can live with it: two machines that want one artifact at one time both compute it; "
            "results stay right. S3, Google and Azure create exclusively, and so do MinIO and SeaweedFS"
        )
        return self._try("create exclusively", create, fix, needed=False)

    def artifact(self) -> Step:
        """Make an artifact in folders of its own, as a run does, and remove it."""

        def make() -> str:
            key = hashlib.sha256(self.prefix.encode()).hexdigest()
            stem = f"{self.prefix}d/below/trial.{key[:12]}"
            store = ArtifactStore(self.objects)
            with store.workspace(stem, run=self.prefix) as space:
                (space.folder / f"{space.basename}.txt").write_bytes(b"one")
                inner = space.folder / f"{space.basename}_parts" / "inner"
                inner.mkdir(parents=True)
                (inner / "file").write_bytes(b"two")
                store.commit(space, _trial_manifest(key, stem))
            store.verify_artifact(stem)
            store.discard(stem)
            store.clean(self.prefix)
            return ""

        fix = "see that this user may make folders in it, and files and folders in those "
        return self._try("store an artifact", make, fix)

    def bookkeeping(self, *, claims: bool) -> Step:
        """Say what is used and what is to be removed, and claim something where that can be had."""

        def note() -> str:
            names = [f"{RUNS}{self.token}/trial.json", f"{GC}{self.token}.json"]
            try:
                for name in names:
                    self.objects.write(name, b"{}")
            finally:
                self.objects.remove(names)
            return self._claim() if claims else "without claims"

        fix = f"see that this user may write in the hidden folders in it ({RUNS}, {GC}), whoever made them"
        return self._try("claim, and say so", note, fix)

    def _claim(self) -> str:
        mine = Claims(self.objects, self.token, "cache check", CLAIM_SECONDS)
        try:
            claim = mine.take(self.name)
            if isinstance(claim, Held):
                raise _NotAsNeededError("what nobody has cannot be claimed")
            mine.release(claim)
        finally:
            mine.tidy()
        return ""

    def folders(self, root: Path) -> Step:
        """Look whether this user may work in all folders that others have made."""

        def look() -> str:
            folders = list(_folders(root))
            closed = [folder for folder in folders if not os.access(folder, os.R_OK | os.W_OK | os.X_OK)]
            if closed:
                first = os.path.relpath(min(closed), root)
                raise _NotAsNeededError(
                    f"{len(closed)} of {len(folders)} folders are closed to this user, as {first!r}"
                )
            return f"{len(folders)} open to this user"

        fix = (
            f"whoever made them runs: chmod -R g+rwX {root}; a folder with `chmod g+rws`, or the setting "
            'shared = "group", opens what is made from then on'
        )
        return self._try("folders", look, fix)

    def remove(self) -> Step:
        """Remove it."""

        def remove() -> str:
            self.objects.remove([self.name])
            if self.objects.exists([self.name]):
                raise _NotAsNeededError("what was removed is still there")
            return ""

        fix = "give the right to delete (s3:DeleteObject): damaged artifacts are replaced, and old ones removed"
        return self._try("delete", remove, fix)

    def time_small(self) -> Step:
        """Time small objects, one after the other."""

        def measure() -> str:
            writes, reads = [], []
            for number in range(N_SMALL):
                name = f"{self.prefix}{number}"
                writes.append(_seconds(partial(self.objects.write, name, os.urandom(SMALL_BYTES))))
                reads.append(_seconds(partial(self.objects.read, name)))
            return f"write {_median(writes) * 1000:.2g} ms, read {_median(reads) * 1000:.2g} ms (1 kB, median)"

        return self._try("latency", measure, "", needed=False)

    def time_large(self) -> Step:
        """Time a larger object."""

        def measure() -> str:
            data = os.urandom(LARGE_BYTES)
            up = _seconds(lambda: self.objects.write(self.name, data))
            down = _seconds(lambda: self._expect(data))
            return f"write {LARGE_BYTES / up / 1e6:.0f} MB/s, read {LARGE_BYTES / down / 1e6:.0f} MB/s (8 MB)"

        return self._try("throughput", measure, "", needed=False)

    def clean(self) -> None:
        """Remove what is left."""
        with suppress(CuridaskError):
            self.objects.remove(self.objects.list(self.prefix))

    def _expect(self, data: bytes) -> str:
        if self.objects.read(self.name) != data:
            raise _NotAsNeededError("what was read is not what was written last")
        return ""


class _NotAsNeededError(Exception):
    """The place answers, but not as a cache needs it."""


def _trial_manifest(key: str, stem: str) -> Manifest:
    return Manifest(key=key, stem=stem, prefix="check", stage="trial", output="trial", params_hash=key[:32])


def _folders(root: Path) -> Iterator[str]:
    """The folders of a cache, but for those in which one process works alone."""
    for folder, inner, _ in os.walk(root):
        yield folder
        inner[:] = [name for name in inner if not name.startswith((".work-", ".tmp-"))]


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return max(time.perf_counter() - started, 1e-9)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def is_empty_folder(objects: ObjectStore) -> bool:
    """Whether a local place is not there yet."""
    root: Path | None = objects.local_root
    return root is not None and not os.path.lexists(root)
