"""Several stores as one: a fast one of this machine before one that a team shares.

Reading takes the first tier that holds an artifact whole, and brings it to the writable ones before it, so a damaged or
forged copy is replaced by a good one. Writing goes to the *last* tier first. That one is where the team meets, so:

- A process that dies in between leaves the artifact where everybody finds it, and this machine fetches it from there.
  The other way round the machine would go on with its own copy, and the team would never get it.
- When somebody else has stored a result under the same key meanwhile, the shared tier says so (the first one stays),
  and the tiers before it take that one: all tiers, and all machines, go on with the same bytes.

When a tier cannot be written, the artifact is kept in the others, and the user is told. One that has served and does
not any more is left alone for a while by all that can do without it: looking what is there, claims, what a run says of
itself. Without another one to store to, and when something is to be loaded that only it has, that is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from curidask.errors import ArtifactMissingError, CacheError
from curidask.store.artifacts import KEEP_IT, ONLY_READ, ArtifactStore
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.errors import AGAIN, in_short, is_gone, is_refused
from curidask.store.copy import copy_artifact
from curidask.store.lineage import Lineage
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.payload import Checkout, Prepared, duplicate, prepare, same_form
from curidask.store.workspace import Workspace, copying

PAUSE_SECONDS = 60.0
"""How long a tier that failed is left alone."""

T = TypeVar("T")


class Mode(Enum):
    """What a tier is used for."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"
    OFF = "off"


@dataclass(slots=True)
class Tier:
    """One of the stores.

    Attributes
    ----------
    store : ArtifactStore
        Writable when the mode says so.
    has_served : bool
        Whether it has answered this run, here or in the process that sent it. What never did may be a wrong address.
    paused_until : float
        After a failure; a reading of this process's monotonic clock.
    """

    store: ArtifactStore
    mode: Mode = Mode.READ_WRITE
    has_served: bool = field(default=False, compare=False)
    paused_until: float = field(default=0.0, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Tier, (self.store, self.mode, self.has_served))

    @property
    def is_paused(self) -> bool:
        """Whether it failed a short while ago."""
        return time.monotonic() < self.paused_until

    @property
    def takes_writes(self) -> bool:
        """Whether it is to be written to now."""
        return self.mode is Mode.READ_WRITE and not self.is_paused

    def only_read(self) -> None:
        """Write to it no more."""
        self.mode = Mode.READ_ONLY
        self.store.only_read()


class TieredStore:
    """Artifact stores one behind the other, with the interface of one; see the module for what it promises.

    Parameters
    ----------
    tiers : sequence of Tier
        The fastest first, the one that others share last.

    Notes
    -----
    Safe to use from several threads and processes, as the stores are. It pickles as they do.
    """

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = list(tiers)
        self._notices: list[str] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return (TieredStore, (self.tiers,))

    def __repr__(self) -> str:
        return f"<TieredStore {', '.join(f'{t.store.url} ({t.mode.value})' for t in self.tiers)}>"

    @property
    def url(self) -> str:
        """Where the tiers are, with commas between them."""
        return ",".join(tier.store.url for tier in self.tiers)

    @property
    def objects(self) -> ObjectStore:
        """Those of the last tier that is written to, where the team meets: claims lie there."""
        last = next((t for t in reversed(self.tiers) if t.mode is Mode.READ_WRITE), self.tiers[-1])
        return last.store.objects

    @property
    def sources(self) -> list[ArtifactStore]:
        """What is read, in this order."""
        return [tier.store for tier in self._read()]

    @property
    def local_root(self) -> Path | None:
        """The folder of the first tier that is one."""
        return next((s.local_root for s in self.sources if s.local_root is not None), None)

    @property
    def places(self) -> list[ObjectStore]:
        """What is written to."""
        return [place for tier in self._used(self.tiers) for place in tier.store.places]

    @property
    def writable(self) -> bool:
        """Whether there is a tier to write to."""
        return any(tier.mode is Mode.READ_WRITE for tier in self.tiers)

    @property
    def reads_are_cheap(self) -> bool:
        """Whether a check of an artifact costs no request."""
        return all(tier.store.reads_are_cheap for tier in self._read())

    def check_writable(self) -> None:
        """Look whether the tiers can be written to.

        One without the permission is only read from then on, and `notices` says so.

        Raises
        ------
        CacheError
            For one that may not even be read, and for any other failure.
        """
        what = ""
        for tier in [tier for tier in self.tiers if tier.mode is Mode.READ_WRITE]:
            try:
                tier.store.objects.check_writable()
            except CacheError as error:
                if not (is_refused(error) and tier.store.may_be_read()):
                    self._advise(tier, error)
                    raise
                what = error.what
                self._failed(tier, error)
            tier.has_served = True
        if not self.writable:
            self._notices[:] = [f"{self.url} {ONLY_READ}: {what} ({KEEP_IT.format(self.url)})"]

    def notices(self) -> list[str]:
        """See `Store.notices`."""
        notices = [*self._notices]
        self._notices.clear()  # the list stays: `reachable` shares it
        return notices + [text for tier in self.tiers for text in tier.store.notices()]

    # --- looking -----------------------------------------------------------------------------------------------------
    def present(self, stems: Collection[str]) -> set[str]:
        """Those that have a manifest and payload in some tier; one listing a tier, none for what an earlier one has."""
        return self._gather(set(stems), lambda store, left: store.present(left))

    def alike(self, readable: Collection[str], *, one_look: bool = False) -> list[str]:
        """See `Store.alike`."""
        found = (tier.store.alike(readable, one_look=one_look) for tier in self._read())
        return list(dict.fromkeys(stem for stems in found for stem in stems))

    def lineage(self, stems: Collection[str], prefix: str) -> dict[str, Lineage]:
        """See `Store.lineage`: of each artifact what the first tier says in which the last look has found it."""
        found: dict[str, Lineage] = {}
        for tier in self._used(self._read()):
            with self._looking(tier):
                found |= tier.store.lineage([stem for stem in stems if stem not in found], prefix)
        return found

    def keep_lineage(self, rows: Mapping[str, tuple[Lineage, Mapping[str, str]]], prefix: str) -> None:
        """See `Store.keep_lineage`."""
        for tier in self.tiers:
            if tier.takes_writes:
                with self._looking(tier):
                    tier.store.keep_lineage(rows, prefix)

    def take_tags(self, stem: str) -> dict[str, str]:
        """See `Store.take_tags`."""
        return {url: tag for tier in self.tiers for url, tag in tier.store.take_tags(stem).items()}

    def having(self, names: Collection[str]) -> set[str]:
        """Those of the object names that are in some tier."""
        return self._gather(set(names), lambda store, left: store.having(left))

    def _gather(self, wanted: set[str], look: Callable[[ArtifactStore, set[str]], set[str]]) -> set[str]:
        left = set(wanted)
        for tier in self._used(self._read()):
            if not left:
                break
            with self._looking(tier):
                left -= look(tier.store, left)
        return wanted - left

    def manifest(self, stem: str) -> Manifest | None:
        """The manifest of an artifact in the first tier that has one."""
        return self.manifests([stem]).get(stem)

    def manifests(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests in the first tiers that have them."""
        left = dict.fromkeys(stems)
        found: dict[str, Manifest] = {}
        for tier in self._used(self._read()):
            with self._looking(tier):
                found.update(tier.store.manifests(stem for stem in left if stem not in found))
        return found

    # --- writing -----------------------------------------------------------------------------------------------------
    def workspace(self, stem: str, *, run: str) -> Workspace:
        """A private folder for what will be committed, where that costs the first writable tier a rename only."""
        return self._first().store.workspace(stem, run=run)

    def tidy(self) -> None:
        """See `Store.tidy`."""
        for tier in self.tiers:
            tier.store.tidy()

    def clean(self, run: str) -> None:
        """See `Store.clean`."""
        for tier in self.tiers:
            tier.store.clean(run)

    def commit(
        self,
        workspace: Workspace,
        manifest: Manifest,
        *,
        tracked: Workspace | tuple[FileEntry, ...] | None = None,
        replace_whole: bool = False,
    ) -> Manifest:
        """Store what lies in a workspace in every writable tier, the last one first; see `Store.commit`.

        Raises
        ------
        CacheError
            When no tier took it. One that did not is told by `notices`.
        """
        tiers = [tier for tier in self.tiers if tier.takes_writes] or [self._first()]
        prepared = prepare(workspace, manifest, tracked)
        for number, tier in enumerate(tiers[:-1]):
            if tier.store.catalog.raw(prepared.stem) is None:
                continue
            kept = None if replace_whole else self._keep(tier, tiers[number + 1 :], prepared)
            if kept is not None:
                return kept
            # Nobody may go on with an old copy while the new one is on its way to the last tier.
            tier.store.discard(prepared.stem, spare=prepared.taken)
        return self._put(tiers, prepared, replace_whole=replace_whole)

    def _put(self, tiers: list[Tier], prepared: Prepared, *, replace_whole: bool) -> Manifest:
        stem = prepared.stem
        data = tiers[0].store.catalog.encode(prepared.manifest)
        agreed: tuple[Tier, Manifest] | None = None
        problem: CacheError | None = None
        for number, tier in reversed(list(enumerate(tiers))):
            try:
                if agreed is not None and agreed[1] is not prepared.manifest:
                    copy_artifact(agreed[0].store, tier.store, stem)  # somebody else was first
                    continue
                with ExitStack() as stack:
                    mine = self._duplicate(stack, tiers[0], tier, prepared) if number else prepared
                    now = tier.store.put(mine, data=data, replace_whole=replace_whole)
                agreed = agreed or (tier, prepared.manifest if now == prepared.manifest else now)
            except ArtifactMissingError:
                continue  # removed again before it could be copied
            except CacheError as error:
                problem = error
                self._failed(tier, error)
        if agreed is None:
            raise problem or CacheError("The cache was opened for reading only.", where=self.url)
        return agreed[1]

    def _duplicate(self, stack: ExitStack, first: Tier, tier: Tier, prepared: Prepared) -> Prepared:
        """The files once more, since storing them moves them."""
        space = stack.enter_context(first.store.workspace(prepared.stem, run=copying()))
        return duplicate(prepared, space.folder, link=tier.store.objects.local_root is None)

    def _keep(self, tier: Tier, later: Iterable[Tier], prepared: Prepared) -> Manifest | None:
        """What a tier holds whole under this key already: it stays, and the later ones get it too."""
        old = tier.store.whole(prepared.stem)
        if old is None or not same_form(old, prepared.manifest):
            return None
        for other in later:
            try:
                copy_artifact(tier.store, other.store, prepared.stem)
            except CacheError as error:
                self._failed(other, error)
        return old

    def discard(self, stem: str) -> None:
        """Remove an artifact from the tiers that are written to."""
        for tier in self.tiers:
            if tier.mode is Mode.READ_WRITE:
                tier.store.discard(stem)

    # --- reading -----------------------------------------------------------------------------------------------------
    @contextmanager
    def using(self) -> Iterator[None]:
        """What is checked out within the block stays where it is at least until the block ends."""
        with ExitStack() as stack:
            for tier in self._read():
                stack.enter_context(tier.store.using())
            yield

    def checkout(self, stem: str, key: str, *, cacher: str = "") -> Checkout:
        """Bring an artifact's files into a local folder and verify them; see `Store.checkout`.

        What a later tier has is copied to the writable ones before it.
        """
        problem: ArtifactMissingError | None = None
        before: list[Tier] = []
        for tier in self._read():
            try:
                self._bring_forward(tier, before, stem, key, cacher)
                for nearer in [*before, tier]:
                    try:
                        return self._mended(nearer.store.checkout(stem, key, cacher=cacher), problem, tier)
                    except ArtifactMissingError:
                        if nearer is tier:
                            raise
            except ArtifactMissingError as error:
                if problem is None or type(problem) is ArtifactMissingError:
                    problem = error
                before.append(tier)
        raise problem or ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)

    def _bring_forward(self, tier: Tier, before: list[Tier], stem: str, key: str, cacher: str) -> None:
        source = tier.store
        for target in reversed([target for target in before if target.takes_writes]):
            try:
                copy_artifact(source, target.store, stem, key=key, cacher=cacher)
                source = target.store
            except ArtifactMissingError:
                raise
            except CacheError as error:
                if error.where == source.url:
                    raise
                self._failed(target, error)

    def _mended(self, checkout: Checkout, problem: ArtifactMissingError | None, tier: Tier) -> Checkout:
        if problem is not None and type(problem) is not ArtifactMissingError:
            self._notices.append(f"{problem.what[:-1]} in {problem.where}; the copy in {tier.store.url} is used")
        return checkout

    def verify_artifact(self, stem: str) -> Manifest:
        """Check an artifact in full, in the first tier that has it whole."""
        return self._first_that(lambda store: store.verify_artifact(stem), stem)

    def restore_tracked(self, manifest: Manifest) -> dict[str, Path]:
        """Bring the files that a stage wrote beside its outputs, out of the first tier that has them whole."""
        return self._first_that(lambda store: store.restore_tracked(manifest), manifest.stem)

    def _first_that(self, read: Callable[[ArtifactStore], T], stem: str) -> T:
        problem: ArtifactMissingError | None = None
        for tier in self._read():
            try:
                return read(tier.store)
            except ArtifactMissingError as error:
                problem = error if problem is None or type(problem) is ArtifactMissingError else problem
        raise problem or ArtifactMissingError(f"There is no artifact {stem!r}.", where=self.url)

    # --- tiers -------------------------------------------------------------------------------------------------------
    def goes_on_without(self, error: CacheError) -> bool:
        """See `Store.goes_on_without`."""
        tier = next((tier for tier in self.tiers if tier.store.url == error.where), None)
        if tier is None or not tier.has_served or not (is_gone(error) or is_refused(error)):
            return False
        if not any(other.takes_writes for other in self.tiers if other is not tier):
            return False
        self._failed(tier, error)
        return True

    def is_left_alone(self, place: ObjectStore) -> bool:
        """See `Store.is_left_alone`; a tier that turned out to be only read takes no claims either."""
        if not any(tier.takes_writes for tier in self.tiers):
            return False
        return not any(tier.takes_writes for tier in self.tiers if tier.store.url == place.url)

    def reachable(self) -> TieredStore:
        """See `Store.reachable`."""
        used = self._used(self.tiers)
        if len(used) == len(self.tiers):
            return self
        store = TieredStore(used)
        store._notices = self._notices
        return store

    @contextmanager
    def _looking(self, tier: Tier) -> Iterator[None]:
        """Ask a tier for something, or go on without it where it can be done without."""
        try:
            yield
            tier.has_served = True
        except CacheError as error:
            if not (is_gone(error) and self.goes_on_without(error)):
                raise

    def _used(self, tiers: Sequence[Tier]) -> list[Tier]:
        """Those that are not left alone for the moment; all where none is left to store to."""
        used = [tier for tier in tiers if not tier.is_paused]
        return used if any(tier.takes_writes for tier in used) else list(tiers)

    def _read(self) -> list[Tier]:
        return [tier for tier in self.tiers if tier.mode is not Mode.OFF]

    def _first(self) -> Tier:
        """The first tier to write to; without one, the first of all, which refuses."""
        return next((tier for tier in self.tiers if tier.mode is Mode.READ_WRITE), self.tiers[0])

    def _failed(self, tier: Tier, error: CacheError) -> None:
        what = in_short(error)
        if is_refused(error):
            tier.only_read()
            self._notices.append(f"{tier.store.url} is only read: {what}")
            return
        tier.paused_until = time.monotonic() + PAUSE_SECONDS
        modes = self._modes_without(tier)
        self._notices.append(
            f"{tier.store.url} could not be used ({what}). It is tried again from time to time, and the run goes on "
            "with the other tiers: results stay there, and runs at the same time may compute the same. "
            f"`curidask cache push` copies them later; `--cache-mode {modes}` leaves it out from the start"
        )

    def _advise(self, tier: Tier, error: CacheError) -> None:
        """Let the error of a tier that does not serve at the start say how to do without it."""
        if is_gone(error) and any(other.mode is Mode.READ_WRITE for other in self.tiers if other is not tier):
            later = "`curidask cache push` copies the results later"
            check = error.fix.partition(f"; {AGAIN}")[0]
            error.fix = f"`--cache-mode {self._modes_without(tier)}` does without it, and {later}; or {check}"

    def _modes_without(self, tier: Tier) -> str:
        return ",".join(Mode.OFF.value if other is tier else other.mode.value for other in self.tiers)
