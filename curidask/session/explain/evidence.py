"""What the cache has that is like what tasks would make: looked for with one listing and one bulk read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from curidask.core.artifact_names import HASH_BYTES, MANIFEST_SUFFIX, safe_part
from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Plan, Why
from curidask.execution.tracebacks import loaded_packages
from curidask.session.explain.code_store import read_code
from curidask.session.explain.differences import Candidates, Evidence
from curidask.session.stage_code import StageCode
from curidask.store.base import Store
from curidask.store.manifest import Manifest

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
    graph : Graph
    plan : Plan
    store : Store
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
    tasks : sequence of Task
    store : Store
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
