"""Why a task runs: what differs between it and the nearest artifact that the cache has of its stage."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from curidask.core.artifact_names import HASH_BYTES, MANIFEST_SUFFIX, safe_part
from curidask.core.graph import ArtifactRef, Graph, Task
from curidask.core.planner import Action, Plan, Why
from curidask.core.preview import describe_params
from curidask.execution.tracebacks import loaded_packages
from curidask.session.explain.code_store import KeptPart, read_code
from curidask.session.stage_code import StageCode
from curidask.store.base import Store
from curidask.store.manifest import Manifest, printable

# --- what the cache has that is like what tasks would make -----------------------------------------------------------
# Looked for with one listing and one bulk read.

MOST_OF_A_SET = 3
"""How many artifacts of the same parameters are looked at, the newest first."""
MOST_OF_A_STAGE = 500
"""The same of other parameters, for all tasks of a stage."""
MOST_OF_AN_AGGREGATE = 20
REUSED_OF_A_STAGE = 10
"""Of so many that are reused it is looked which packages they were made with."""


def evidence_of(graph: Graph, plan: Plan, store: Store, codes: Mapping[str, StageCode], stage: str = "") -> Evidence:
    """What there is to compare the tasks with that run since their artifacts are not in the cache.

    Parameters
    ----------
    codes : mapping of str to StageCode
        The code of the stages.
    stage : str, optional
        Only of this one.
    """
    meant = [d for d in plan.decisions.values() if stage in ("", graph[d.task].spec.name)]
    tasks = [graph[d.task] for d in meant if d.action is Action.RUN and d.reason.why is Why.NOT_CACHED]
    reused: dict[str, list[Task]] = defaultdict(list)
    for decision in meant:
        task = graph[decision.task]
        if decision.action is Action.REUSE and len(reused[task.spec.name]) < REUSED_OF_A_STAGE:
            reused[task.spec.name].append(task)
    own = own_manifests([task for some in reused.values() for task in some], store)
    found = evidence_for(tasks, store, codes)
    return replace(found, nearest={**found.nearest, **own}, packages=_versions(codes.values()))


def evidence_for(
    tasks: Sequence[Task],
    store: Store,
    codes: Mapping[str, StageCode],
    *,
    most: int = MOST_OF_A_STAGE,
    most_listed: int = 0,
) -> Evidence:
    """The same for these tasks, which run, without packages; see `nearest_of`."""
    found = nearest_of(tasks, store, most, most_listed)
    then = {str(found[t.id].components.get("code")) for t in tasks if t.id in found} - {"", "None"}
    edited = then - {str(task.components.get("code")) for task in tasks}
    return Evidence(found, read_code(store, then if edited else ()), codes)


def own_manifests(tasks: Iterable[Task], store: Store) -> dict[int, Manifest]:
    """The manifest of the first artifact of each."""
    stems = {task.store_stems[0]: task.id for task in tasks}
    return {stems[stem]: manifest for stem, manifest in (store.manifests(stems) if stems else {}).items()}


def nearest_of(tasks: Sequence[Task], store: Store, most: int, most_listed: int = 0) -> dict[int, Manifest]:
    """Of each task, if there is one, the artifact that is nearest to what it would make.

    Parameters
    ----------
    most : int
        How many artifacts of other parameters are looked at for a stage.
    most_listed : int
        How many names are listed of a place in the network; 0 for all. There they come sorted, so of a part of them it
        is known up to where nothing is missing. Tasks that come after that are left out.
    """
    names = {task.id: _name_of(task) for task in tasks}
    known, end = _known(store, {beginning for beginning, _, _ in names.values()}, most_listed)
    if end:
        named = [(task, task.store_stems[0][:-12]) for task in tasks]
        tasks = [task for task, name in named if name < end and not end.startswith(name)]
    same = {task.id: known.get(names[task.id], [])[:MOST_OF_A_SET] for task in tasks}
    alike = _of_stages(known, [task for task in tasks if not same[task.id]], most)
    manifests = store.manifests({stem for stems in (*same.values(), *alike.values()) for stem in stems})
    of_stage = {about: Candidates(manifests[s] for s in stems if s in manifests) for about, stems in alike.items()}
    found: dict[int, Manifest] = {}
    for task in tasks:
        own = [manifests[stem] for stem in same[task.id] if stem in manifests]
        beginning, _, rest = names[task.id]
        candidates = Candidates(own) if own else of_stage.get((beginning, rest))
        best = own[0] if len(own) == 1 else candidates.nearest(task) if candidates is not None else None
        if best is not None:
            found[task.id] = best
    return found


Name = tuple[str, str, str]
"""The parts of an artifact's name before its key: how it begins, the hash of the parameters, and the rest."""


def _name_of(task: Task) -> Name:
    hashed = safe_part(task.record.used_hash, HASH_BYTES)
    beginning, _, rest = task.store_stems[0][:-13].partition(f"_{hashed}_")
    return beginning, hashed, rest


def _known(store: Store, beginnings: Iterable[str], most: int) -> tuple[dict[Name, list[str]], str]:
    """The artifacts whose names begin so, the newest of each name first; and up to which name, if not all were listed.

    For a cache of several places, the first of these ends counts.
    """
    found: dict[Name, dict[str, float]] = defaultdict(dict)
    ends: list[str] = []
    for beginning in beginnings:
        for source in store.sources:
            entries = source.objects.entries(f"{beginning}_")
            is_part = most > 0 and source.local_root is None
            for entry in islice(entries, most) if is_part else entries:
                if entry.name.endswith(MANIFEST_SUFFIX):
                    stem = entry.name.removesuffix(MANIFEST_SUFFIX)
                    hashed, _, rest = stem[len(beginning) + 1 : -13].partition("_")
                    found[beginning, hashed, rest][stem] = entry.modified
            if is_part and (following := next(entries, None)) is not None:
                ends.append(following.name)
    return {name: sorted(stems, key=lambda stem: -stems[stem]) for name, stems in found.items()}, min(ends, default="")


def _of_stages(
    known: Mapping[Name, Sequence[str]], tasks: Iterable[Task], most: int
) -> dict[tuple[str, str], list[str]]:
    """Artifacts of the stages of some tasks, whatever their parameters are."""
    wanted: dict[tuple[str, str], int] = {}
    for task in tasks:
        beginning, _, rest = _name_of(task)
        wanted[beginning, rest] = min(most, MOST_OF_AN_AGGREGATE) if task.spec.is_aggregate else most
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (beginning, _, rest), stems in known.items() if wanted else ():
        if len(found[beginning, rest]) < wanted.get((beginning, rest), 0):
            found[beginning, rest].append(stems[0])
    return found


def _versions(codes: Iterable[StageCode]) -> dict[str, str]:
    """Of the packages that are loaded, and of those that stages use and that are installed under the same name."""
    import importlib.metadata

    found = dict(loaded_packages())
    for name in {name for code in codes for name in code.packages} - found.keys():
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


# --- differences -----------------------------------------------------------------------------------------------------
SHOWN_LABELS = 4
SHOWN_DIFF_LINES = 40
SHOWN_VALUES = 10

NEVER = "never computed"
GONE = "its artifact is gone"

Trait = tuple[str, str, int]
"""Something that artifacts have in common: of which kind, its name, and what stands for its value here."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One difference.

    Attributes
    ----------
    text : str
        For people; the same for all tasks that have it.
    lines : tuple of str
        A unified diff, where there is one.
    gist : str
        The same without values, for those that have it with other ones.
    follows : bool
        Whether it comes of another task that runs.
    """

    text: str
    lines: tuple[str, ...] = ()
    gist: str = field(default="", compare=False)
    follows: bool = field(default=False, compare=False)


@dataclass(slots=True)
class StageExplained:
    """What happens to the tasks of a stage.

    Attributes
    ----------
    causes : dict of Cause to list of str
        With the records that have them.
    unfollowed : dict of str to None
        What its code may lead to that cannot be followed, in order.
    packages : dict of str to None
        Those whose version is another now than when its artifacts were made.
    """

    name: str
    counts: dict[Action, int] = field(default_factory=dict)
    causes: dict[Cause, list[str]] = field(default_factory=dict)
    unfollowed: dict[str, None] = field(default_factory=dict)
    packages: dict[str, None] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """It as text."""
        words = {Action.RUN: "to run", Action.REUSE: "reused", Action.PRUNE: "not needed"}
        yield f"{self.name}: " + ", ".join(f"{n} {words[action]}" for action, n in self.counts.items())
        for cause, labels in self._folded().items():
            yield f"  {cause.text}: {shown(labels)}"
            yield from (f"      {line}" for line in cause.lines)
        yield from (f"  not followed: {printable(what)}" for what in self.unfollowed)
        yield from (f"  package {what} since then; versions do not count" for what in self.packages)

    def _folded(self) -> dict[Cause, list[str]]:
        """The causes, those together that differ in their values only, where there are many of these."""
        values = Counter(cause.gist for cause in self.causes)
        found: dict[Cause, list[str]] = {}
        for cause, labels in self.causes.items():
            n_values = values[cause.gist] if cause.gist else 1
            told = cause if n_values <= SHOWN_VALUES else Cause(f"{cause.gist}, with {n_values} pairs of values")
            found.setdefault(told, []).extend(labels)
        return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the cache has.

    Attributes
    ----------
    nearest : mapping of int to Manifest
        Of each task that runs, the artifact to compare it with; tasks without one were never computed. Of some that are
        reused, their own.
    codes : mapping of str to mapping of str to KeptPart
        Kept code, by what stands for it in keys.
    now : mapping of str to StageCode
        Today's.
    packages : mapping of str to str
        Today's versions.
    """

    nearest: Mapping[int, Manifest]
    codes: Mapping[str, Mapping[str, KeptPart]]
    now: Mapping[str, StageCode]
    packages: Mapping[str, str] = field(default_factory=dict)


def explain(graph: Graph, plan: Plan, evidence: Evidence, stage: str = "") -> list[StageExplained]:
    """What happens to each stage, and why.

    Parameters
    ----------
    stage : str, optional
        Only this one.
    """
    found: dict[str, StageExplained] = {}
    comparing = Comparing(graph, plan, evidence)
    for decision in sorted(plan.decisions.values(), key=lambda decision: decision.task):
        task = graph[decision.task]
        if stage and task.spec.name != stage:
            continue
        told = found.setdefault(task.spec.name, StageExplained(task.spec.name))
        code = evidence.now.get(str(task.components.get("code")))
        told.unfollowed |= dict.fromkeys(code.unfollowed if code is not None else ())
        told.packages |= dict.fromkeys(comparing.packages(task))
        told.counts[decision.action] = told.counts.get(decision.action, 0) + 1
        if decision.action is not Action.RUN:
            continue
        label = task.record.name if task.record.index >= 0 else task.record.label
        is_compared = decision.reason.why is Why.NOT_CACHED
        for cause in comparing.causes(task) if is_compared else [Cause(str(decision.reason))]:
            told.causes.setdefault(cause, []).append(label)
    return list(found.values())


# --- the artifact to compare with ------------------------------------------------------------------------------------
class Candidates:
    """Artifacts of a stage, of which the one is found that has most in common with what a task would make.

    Each is a bit, and each thing that can be in common a number with the bits of those that have it, so that to look
    for one takes no longer when there are many. Parameters go before code and inputs, and the later before the earlier.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._manifests = sorted(manifests, key=lambda manifest: manifest.created)
        self._having: dict[Trait, int] = {}
        for place, manifest in enumerate(self._manifests):
            for trait in (*_key_traits(manifest.components), *_traits("value", manifest.params)):
                self._having[trait] = self._having.get(trait, 0) | 1 << place

    def nearest(self, task: Task) -> Manifest | None:
        """The artifact that is most like what a task would make."""
        best = (1 << len(self._manifests)) - 1
        if not best:
            return None
        first, *others = _key_traits(task.components)
        best = best & self._having.get(first, 0) or self._most(best, _traits("value", _values(task)))
        return self._manifests[self._most(best, others).bit_length() - 1]

    def _most(self, among: int, traits: Iterable[Trait]) -> int:
        """Those that have as many of some traits as any."""
        digits: list[int] = []  # of how many each has, in binary, the lowest digit first
        for trait in traits:
            carried = self._having.get(trait, 0) & among
            for place, digit in enumerate(digits):
                digits[place], carried = digit ^ carried, digit & carried
            digits.append(carried)
        for digit in reversed(digits):
            among = among & digit or among
        return among


def _key_traits(components: Mapping[str, Any]) -> Iterator[Trait]:
    for name in ("params", "code", "kwargs", "records", "files"):
        yield "part", name, hash(repr(components.get(name)))
    yield from _traits("input", _mapping(components.get("inputs")))


def _traits(kind: str, values: Mapping[str, Any]) -> Iterator[Trait]:
    return ((kind, name, hash(repr(value))) for name, value in values.items())


# --- differences -----------------------------------------------------------------------------------------------------
@dataclass
class Comparing:
    """Compares tasks with the artifacts that are nearest to what they make."""

    graph: Graph
    plan: Plan
    evidence: Evidence
    _edits: dict[tuple[str, str], list[Cause]] = field(default_factory=dict, repr=False)

    @cached_property
    def _running(self) -> set[int]:
        return set(self.plan.ids(Action.RUN))

    def causes(self, task: Task) -> list[Cause]:
        """Why a task runs that is not in the cache."""
        old = self.evidence.nearest.get(task.id)
        if old is None:
            return [Cause(NEVER)]
        now, then = task.components, old.components
        causes = [
            *_params(task, old),
            *self._code(str(now.get("code", "")), str(then.get("code", ""))),
            *named_causes("argument", now["kwargs"], _mapping(then.get("kwargs"))),
            *self._inputs(task, _mapping(then.get("inputs"))),
            *self._records(task, then.get("records")),
        ]
        if now.get("outputs") != then.get("outputs"):
            causes.append(Cause("its outputs are listed otherwise"))
        if now.get("files") != then.get("files"):
            causes.append(Cause("a file at `path_override` is another"))
        return causes or [Cause(GONE)]

    def packages(self, task: Task) -> Iterator[str]:
        """The packages, and Python, whose version was another when the artifact was made."""
        old, code = self.evidence.nearest.get(task.id), self.evidence.now.get(str(task.components.get("code")))
        if old is None:
            return
        used = code.packages if code is not None and code.packages else self.evidence.packages
        for name in ("python", *used):
            then, now = old.packages.get(name, ""), self.evidence.packages.get(name, "")
            if then and now and then != now:
                yield printable(f"{name} {then} -> {now}")

    def _code(self, now: str, then: str) -> list[Cause]:
        if (now, then) not in self._edits:
            code = self.evidence.now.get(now)
            parts = None if code is None else {part.name: part for part in code.parts}
            self._edits[now, then] = list(code_causes(now, then, parts, self.evidence.codes.get(then)))
        return self._edits[now, then]

    def _inputs(self, task: Task, then: Mapping[str, Any]) -> Iterator[Cause]:
        for name, key in task.components["inputs"].items():
            if then.get(name) != key:
                ref = task.inputs.get(name)
                is_made = isinstance(ref, ArtifactRef)
                of = f", which {self.graph[ref.task].spec.name} makes," if isinstance(ref, ArtifactRef) else ""
                yield Cause(f"input {name}{of} is another", follows=is_made and self._runs([ref]))

    def _runs(self, refs: Iterable[Any]) -> bool:
        return any(isinstance(ref, ArtifactRef) and ref.task in self._running for ref in refs)

    def _records(self, task: Task, then: Any) -> Iterator[Cause]:
        now = task.components.get("records")
        if now == then or now is None:
            return
        rows = [row for row in then if isinstance(row, list) and len(row) == 3] if isinstance(then, list) else []
        old, new = ({(str(r[0]), str(r[1])): r[2] for r in found} for found in (rows, now))
        more, fewer = ({name for _, name in sets} for sets in (new.keys() - old.keys(), old.keys() - new.keys()))
        for word, names in (
            ("more records", more - fewer),
            ("fewer records", fewer - more),
            ("records have other parameters", more & fewer),
        ):
            if names:
                others = (ref for gathered in task.gathered for ref in gathered.artifacts.values())
                text = f"{len(names)} {word} ({printable(shown(sorted(names)))})"
                yield Cause(text, follows=names <= more & fewer and self._runs(others))
        yield from self._gathered(task, {key: (new[key], _mapping(old[key])) for key in new.keys() & old.keys()})
        if old.keys() == new.keys() and [row[:2] for row in rows] != [row[:2] for row in now]:
            yield Cause("its records come in another order")

    def _gathered(self, task: Task, both: Mapping[Any, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterator[Cause]:
        refs: dict[str, list[ArtifactRef]] = {}
        for gathered in task.gathered:
            for name, ref in gathered.artifacts.items():
                refs.setdefault(name, []).extend([ref] if isinstance(ref, ArtifactRef) else [])
        for name in sorted({name for now, then in both.values() for name in _other(now, then)}):
            of = f", which {self.graph[refs[name][0].task].spec.name} makes," if refs.get(name) else ""
            yield Cause(f"input {printable(name)}{of} is another", follows=self._runs(refs.get(name, ())))


def _params(task: Task, old: Manifest) -> Iterator[Cause]:
    if task.components["params"] == old.components.get("params") or task.record.is_aggregate:
        return
    now = _values(task)
    names = [name for name in (*now, *(n for n in old.params if n not in now)) if name != "name"]
    changed = [name for name in names if now.get(name) != old.params.get(name)]
    for name in changed:
        text = f"parameter {name}: {_shown(old.params, name)} -> {_shown(now, name)}"
        yield Cause(text, gist=f"parameter {name} is another")
    if not changed:
        yield Cause("parameters differ in what is not shown")


def _values(task: Task) -> dict[str, Any]:
    return describe_params(task.record.params, task.record.used_names)


def _shown(values: Mapping[str, Any], name: str) -> str:
    return printable(repr(values[name]))[:60] if name in values else "(none)"


class Code(Protocol):
    """A definition of which the source is known; see `curidask.core.code.reach.Part`."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


def code_causes(
    now: str, then: str, parts: Mapping[str, Code] | None, kept: Mapping[str, Code] | None
) -> Iterator[Cause]:
    """How code differs.

    Parameters
    ----------
    now, then : str
        What stands for it in keys.
    parts, kept : mapping of str to Code, or None
        The definitions that it has now, and had then; None where they are not known.
    """
    if now == then:
        return
    if not now or not then:
        yield Cause("code counts now, and did not" if now else "code counted, and does not now")
        return
    if now.startswith("version ") or then.startswith("version "):
        yield Cause(f"{_version(then)} -> {_version(now)}")
        return
    if kept is None or parts is None:
        yield Cause("its code was edited")
        return
    for name in (*parts, *(name for name in kept if name not in parts)):
        old, new = kept.get(name), parts.get(name)
        if (old and old.digest) != (new and new.digest):
            yield _edit(name, old, new)


def _version(component: str) -> str:
    return printable(component) if component.startswith("version ") else "its code"


def _edit(name: str, old: Code | None, new: Code | None) -> Cause:
    kind = new.kind if new is not None else old.kind if old is not None else ""
    word = "is used now" if old is None else "is not used now" if new is None else "changed"
    before, after = ("" if part is None else part.source for part in (old, new))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "then", "now", lineterm="", n=1)
    told = [printable(line) for line in list(lines)[2:]]
    if len(told) > SHOWN_DIFF_LINES:
        told = [*told[:SHOWN_DIFF_LINES], f"({len(told) - SHOWN_DIFF_LINES} more lines)"]
    return Cause(f"{printable(kind)} {printable(name)} {word}", tuple(told) if old and new else ())


def shown(labels: Sequence[str]) -> str:
    """Names, the first of them where there are many."""
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(labels[:SHOWN_LABELS]) + more


def named_causes(what: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[Cause]:
    """The names under which there is another value."""
    for name in (*now, *(name for name in then if name not in now)):
        if now.get(name) != then.get(name):
            yield Cause(f"{what} {printable(name)} is another")


def _other(now: Mapping[str, Any], then: Mapping[str, Any]) -> Sequence[str]:
    return [name for name in (*now, *then) if now.get(name) != then.get(name)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
