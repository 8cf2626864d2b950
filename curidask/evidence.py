"""What the cache has that is like what tasks would make: looked for with one listing and one bulk read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from curidask.code_store import read_code
from curidask.explaining import Evidence, nearest
from curidask.graph import Graph, Task
from curidask.planner import Action, Plan, Why
from curidask.stage_code import StageCode
from curidask.store.base import Store
from curidask.store.manifests import Manifest
from curidask.store.names import MANIFEST_SUFFIX, safe_part

MOST_OF_A_STAGE = 500
"""How many artifacts of other parameters are looked at for a stage."""


def evidence_of(graph: Graph, plan: Plan, store: Store, prefix: str, codes: Mapping[str, StageCode]) -> Evidence:
    """What there is to compare the tasks with that run since their artifacts are not in the cache.

    Parameters
    ----------
    graph : Graph
    plan : Plan
    store : Store
    prefix : str
        How the names of the session's artifacts begin.
    codes : mapping of str to StageCode
        The code of the stages.
    """
    decisions = [d for d in plan.decisions.values() if d.action is Action.RUN and d.reason.why is Why.NOT_CACHED]
    tasks = [graph[decision.task] for decision in decisions]
    stems = _stems(store, prefix) if tasks else []
    same, alike = _by_name(stems), _by_stage(stems, tasks)
    wanted = {task.id: same.get(task.store_stems[0][:-13]) or alike[_about(task)] for task in tasks}
    manifests = store.manifests({stem for found in wanted.values() for stem in found})
    found: dict[int, Manifest] = {}
    for task in tasks:
        best = nearest(task, (manifests[stem] for stem in wanted[task.id] if stem in manifests))
        if best is not None:
            found[task.id] = best
    then = {str(manifest.components.get("code", "")) for manifest in found.values()}
    return Evidence(found, read_code(store, then), codes)


def _stems(store: Store, prefix: str) -> list[str]:
    names: dict[str, None] = {}
    for source in store.sources:
        names |= dict.fromkeys(source.objects.list(f"{safe_part(prefix)}_"))
    return [name.removesuffix(MANIFEST_SUFFIX) for name in names if name.endswith(MANIFEST_SUFFIX)]


def _by_name(stems: Iterable[str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for stem in stems:
        found[stem[:-13]].append(stem)
    return dict(found)


def _by_stage(stems: Iterable[str], tasks: Iterable[Task]) -> dict[str, list[str]]:
    ends = {_about(task) for task in tasks}
    return {end: [stem for stem in stems if stem[:-13].endswith(end)][-MOST_OF_A_STAGE:] for end in ends}


def _about(task: Task) -> str:
    """How the name of the first artifact of a task ends, whatever its parameters are."""
    return f"_{safe_part(task.spec.name)}_" + task.store_stems[0][:-13].rpartition(f"_{safe_part(task.spec.name)}_")[2]
