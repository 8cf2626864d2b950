"""Removing what nobody uses any longer: a pure plan, and carrying it out beside runs that go on."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from curidask.core.artifact_names import CODE, LINEAGE, manifest_name, safe_part
from curidask.store.artifacts import ArtifactStore
from curidask.store.checkout import all_files
from curidask.store.maintenance.inventory import Entry, Inventory
from curidask.store.maintenance.orphans import find_leftovers, remove_leftovers
from curidask.store.maintenance.usage import LEASE_SECONDS, Removal, Use, Uses, remove_each, what_stays

BATCH = 200
GRACE_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What is to be removed. What runs that may be going on use stays, whatever this says.

    Attributes
    ----------
    unused_seconds : float or None
        Remove what was neither made nor used for so long.
    keep_runs : int or None
        Keep what the last so many runs of each experiment used; without `unused_seconds` and `max_bytes`, remove what
        earlier runs used and these did not. What no run ever said to use is not judged by this.
    max_bytes : int or None
        Then remove more, the least recently used first, until no more than this is left.
    grace_seconds : float
        Nothing that was made or used within it is removed.
    """

    unused_seconds: float | None = None
    keep_runs: int | None = None
    max_bytes: int | None = None
    grace_seconds: float = GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Candidate:
    """An artifact to be removed.

    Attributes
    ----------
    last_used : float
        Seconds since 1970.
    """

    entry: Entry
    last_used: float
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to remove, and what stays.

    Attributes
    ----------
    halves : dict of str to tuple of str
        Objects of commits that were broken off by runs that are over.
    runs : list of str
        Runs whose word on what they use is no longer needed, by id.
    total_bytes, left_bytes : int
        Of all artifacts, before and after.
    protected : dict of str to int
        How many artifacts would go but for what protects them.
    made : float
        When, in seconds since 1970.
    """

    remove: list[Candidate] = field(default_factory=list)
    halves: dict[str, tuple[str, ...]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    total_bytes: int = 0
    left_bytes: int = 0
    protected: dict[str, int] = field(default_factory=dict)
    made: float = 0.0


def plan_gc(inventory: Inventory, uses: Sequence[Use], policy: Policy, now: float) -> Plan:
    """Decide what goes; a pure function.

    Parameters
    ----------
    now : float
        Seconds since 1970.
    """
    last_used = _last_used(inventory, uses)
    kept_runs = _last_runs(uses, policy.keep_runs)
    known = {stem for use in uses for stem in use.stems}
    protection = _Protection(
        active=set().union(*(use.stems for use in uses if use.is_active(now))),
        kept=set().union(*(use.stems for use in kept_runs)),
        last_used=last_used,
        newer={entry.stem for entry in inventory.artifacts if entry.newer},
        young_since=now - policy.grace_seconds,
    )
    remove = [
        Candidate(entry, last_used[entry.stem], reason)
        for entry in inventory.artifacts
        if (reason := _reason(entry.stem in known, last_used[entry.stem], policy, now))
        and protection.allows(entry.stem)
    ]
    total = inventory.size_bytes
    left = _left_bytes(inventory, remove)
    if policy.max_bytes is not None:
        remove, left = _shrink(inventory, remove, protection, policy.max_bytes)
    halves = {s: names for s, names in inventory.halves.items() if s in known and protection.allows_half(s, uses)}
    protected = {why: len(stems) for why, stems in protection.stays.items()}
    gone = {doomed.entry.stem for doomed in remove}
    stays = {entry.stem for entry in inventory.artifacts}.union(inventory.halves) - gone - halves.keys()
    return Plan(remove, halves, _spent(uses, kept_runs, stays, policy, now), total, left, protected, now)


@dataclass(slots=True)
class _Protection:
    """What keeps artifacts that would otherwise go, and how many of them."""

    active: set[str]
    kept: set[str]
    last_used: Mapping[str, float]
    newer: set[str]
    young_since: float
    stays: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def allows(self, stem: str) -> bool:
        """Whether it may go; notes why when it may not."""
        if stem in self.newer:
            self.stays["stored by a newer curidask"].add(stem)
        elif stem in self.active:
            self.stays["in use by a run"].add(stem)
        elif stem in self.kept:
            self.stays["used by a run that is kept"].add(stem)
        elif self.last_used[stem] > self.young_since:
            self.stays["within the grace period"].add(stem)
        else:
            return True
        return False

    def allows_half(self, stem: str, uses: Iterable[Use]) -> bool:
        """Whether what is left of a commit is nobody's: all runs that could be making it are over, for a while."""
        return stem not in self.active and all(use.seen <= self.young_since for use in uses if stem in use.stems)


def _last_used(inventory: Inventory, uses: Iterable[Use]) -> dict[str, float]:
    found = {entry.stem: entry.created for entry in inventory.artifacts}
    for use in uses:
        for stem in use.stems:
            if stem in found:
                found[stem] = max(found[stem], use.seen)
    return found


def _last_runs(uses: Iterable[Use], count: int | None) -> list[Use]:
    by_experiment: dict[str, list[Use]] = defaultdict(list)
    runs = [use for use in uses if use.reference]  # and not what somebody says who copies all that is there
    for use in sorted(runs, key=lambda use: use.started, reverse=True):
        by_experiment[use.experiment].append(use)
    return [use for runs in by_experiment.values() for use in _first_references(runs, count or 0)]


def _first_references(runs: Iterable[Use], count: int) -> list[Use]:
    """The runs of the first so many references: a run that was copied here is known several times."""
    references: set[str] = set()
    found = []
    for use in runs:
        if use.reference in references or len(references) < count:
            references.add(use.reference)
            found.append(use)
    return found


def _reason(known: bool, last_used: float, policy: Policy, now: float) -> str:
    if policy.unused_seconds is not None:
        return "unused" if now - last_used > policy.unused_seconds else ""
    by_runs = policy.keep_runs is not None and policy.max_bytes is None
    return "not used by the last runs" if by_runs and known else ""


def _left_bytes(inventory: Inventory, remove: Iterable[Candidate]) -> int:
    gone = {doomed.entry.stem for doomed in remove}
    return Inventory([entry for entry in inventory.artifacts if entry.stem not in gone]).size_bytes


def _shrink(
    inventory: Inventory, remove: list[Candidate], protection: _Protection, max_bytes: int
) -> tuple[list[Candidate], int]:
    """Remove more, the least recently used first, until what is left is small enough."""
    files = _Files(inventory)
    gone = {doomed.entry.stem for doomed in remove}
    files.release(gone)
    left = _left_bytes(inventory, remove)
    by_age = sorted(inventory.artifacts, key=lambda entry: protection.last_used[entry.stem])
    more = []
    for entry in by_age:
        if left <= max_bytes:
            break
        if entry.stem not in gone and protection.allows(entry.stem):
            more.append(Candidate(entry, protection.last_used[entry.stem], "too much is stored"))
            left -= files.release_bytes(entry)
    return remove + more, left


def _spent(uses: Iterable[Use], kept: Iterable[Use], stays: set[str], policy: Policy, now: float) -> list[str]:
    """Runs that say nothing any more: over, not kept, and too long ago to keep anything, or nothing is left of them."""
    needed = {use.id for use in kept}
    young = now - policy.grace_seconds
    over = [use for use in uses if use.id not in needed and not use.is_active(now) and use.seen < young]
    limit = now - policy.unused_seconds if policy.unused_seconds is not None else 0.0
    return [use.id for use in over if use.seen < limit or stays.isdisjoint(use.stems)]


# --- carrying it out --------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Collected:
    """What was removed.

    Attributes
    ----------
    spared : list of str
        What a run began to use since the plan.
    leftovers : int
        Working folders of processes that died, and objects of commits that were broken off.
    refused : dict of str to str
        What this user may not remove, artifacts and other objects, with why. Such an artifact stays whole.
    """

    stems: list[str] = field(default_factory=list)
    size_bytes: int = 0
    spared: list[str] = field(default_factory=list)
    leftovers: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def collect(
    store: ArtifactStore,
    inventory: Inventory,
    plan: Plan,
    uses: Uses,
    *,
    who: str,
    grace_seconds: float = GRACE_SECONDS,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Collected:
    """Remove what a plan says, but for what a run has begun to use since; manifests first.

    Parameters
    ----------
    uses : Uses
        Of the store, as they were when the plan was made; brought up to date.
    who : str
        For those who wait.
    grace_seconds : float
        What killed processes left within it stays.
    told : callable
        Is called with how many artifacts are done, and how many there are.
    """
    done = Collected()
    files = _Files(inventory)
    planned_with = {use.id: (use.seen, use.ended) for use in uses.by_id.values()}
    for start in range(0, len(plan.remove), BATCH):
        batch = plan.remove[start : start + BATCH]
        with Removal(store.objects, [doomed.entry.stem for doomed in batch], who) as removal:
            used = _in_use(uses, planned_with)
            free = [doomed for doomed in batch if doomed.entry.stem not in used] if removal.holds else []
            refused = _remove(store, [doomed.entry.stem for doomed in free], files)
        done.refused |= refused
        done.spared += [doomed.entry.stem for doomed in batch if doomed not in free]
        free = [doomed for doomed in free if doomed.entry.stem not in refused]
        done.stems += [doomed.entry.stem for doomed in free]
        done.size_bytes += sum(doomed.entry.size_bytes for doomed in free)
        told(start + len(batch), len(plan.remove))
    found = find_leftovers(store, uses, time.time(), grace_seconds)
    done.leftovers = _remove_halves(store, plan, uses, who, done.refused)
    done.leftovers += remove_leftovers(store, found, done.refused)
    done.refused |= uses.forget(plan.runs)
    if not any(use.is_active(time.time()) for use in uses.by_id.values()):
        remove_each(store.objects, _unused_code(store, inventory, done.stems, time.time() - grace_seconds))
        remove_each(store.objects, _unused_lineage(store, inventory, done.stems, time.time() - grace_seconds))
    return done


def _unused_code(store: ArtifactStore, inventory: Inventory, removed: Collection[str], old: float) -> list[str]:
    """What is kept of code that made none of the artifacts that are left; nothing while one of them cannot be read."""
    left = [entry for entry in inventory.artifacts if entry.stem not in removed]
    if any(entry.manifest is None for entry in left):
        return []
    used = {f"{CODE}{entry.manifest.components.get('code')}.json" for entry in left if entry.manifest is not None}
    return [e.name for e in store.objects.entries(CODE) if e.name not in used and 0 < e.modified < old]


def _unused_lineage(store: ArtifactStore, inventory: Inventory, removed: Collection[str], old: float) -> list[str]:
    """What is kept of what artifacts were made from, of sessions of which no artifact is left."""
    left = [entry for entry in inventory.artifacts if entry.stem not in removed]
    if any(entry.manifest is None for entry in left):
        return []
    used = {f"{LINEAGE}{safe_part(entry.manifest.prefix)}" for entry in left if entry.manifest is not None}
    entries = store.objects.entries(LINEAGE)
    return [e.name for e in entries if e.name not in used and 0 < e.modified < old]


def _in_use(uses: Uses, planned_with: Mapping[str, tuple[float, bool]]) -> set[str]:
    """What runs may be using, and what those have used that the plan did not know, or not at their end."""
    now = time.time()
    runs = uses.refresh()
    return set().union(
        *(use.stems for use in runs if use.is_active(now) or planned_with.get(use.id) != (use.seen, use.ended))
    )


class _Files:
    """Who owns which files: several outputs of a stage may share those that the stage wrote beside them."""

    def __init__(self, inventory: Inventory) -> None:
        self._of = {
            entry.stem: {*entry.names, *(all_files(entry.manifest) if entry.manifest else ())}
            for entry in inventory.artifacts
        }
        self._owners = Counter(name for names in self._of.values() for name in names)

    def of(self, stem: str) -> set[str]:
        """The files of an artifact that nobody else owns."""
        return {name for name in self._of[stem] if self._owners[name] == 1}

    def release(self, stems: Iterable[str]) -> list[str]:
        """The files that nobody owns once these artifacts are gone."""
        names = [name for stem in stems for name in self._of.pop(stem)]
        self._owners.subtract(names)
        return [name for name in dict.fromkeys(names) if not self._owners[name]]

    def release_bytes(self, entry: Entry) -> int:
        """The size of the files that nobody owns once this artifact is gone."""
        sizes = all_files(entry.manifest) if entry.manifest else {}
        return sum(sizes[name].size_bytes for name in self.release([entry.stem]) if name in sizes)


def _remove(store: ArtifactStore, stems: Sequence[str], files: _Files) -> dict[str, str]:
    """Remove artifacts, manifests first; what may not be removed, with why."""
    kept = {
        stem: f"This user may not remove {name!r}."
        for stem in stems
        if (name := what_stays(store.objects, [manifest_name(stem), *files.of(stem)]))
    }
    stem_of = {manifest_name(stem): stem for stem in stems if stem not in kept}
    kept |= {stem_of[name]: why for name, why in remove_each(store.objects, stem_of).items()}
    return kept | remove_each(store.objects, files.release(stem for stem in stems if stem not in kept))


def _remove_halves(store: ArtifactStore, plan: Plan, uses: Uses, who: str, refused: dict[str, str]) -> int:
    if not plan.halves:
        return 0
    with Removal(store.objects, list(plan.halves), who) as removal:
        # Since the inventory, a run may have begun, have made one of them whole, and have ended.
        spare = set().union(*(use.stems for use in uses.refresh() if use.seen > plan.made - LEASE_SECONDS))
        names = [name for stem, names in plan.halves.items() if stem not in spare for name in names]
        if not removal.holds:
            return 0
        left = remove_each(store.objects, names)
    refused |= left
    return len(names) - len(left)
