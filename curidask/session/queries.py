"""What those who only look are told: parameter sets, paths in the cache, the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from curidask.core.artifact_names import manifest_name
from curidask.core.graph import ArtifactRef, Graph
from curidask.core.planner import Action, Decision, Plan
from curidask.core.spec import OutputSpec
from curidask.params import ExperimentParameters
from curidask.runs import param_registry
from curidask.runs.param_registry import ParamSet
from curidask.session.base import Session
from curidask.session.config import Config

HOW_HASHED = "_DRY_REPS"
"""Beside the values of a set: how each field enters its hash. It is no name that a field would have."""


# --- parameter sets --------------------------------------------------------------------------------------------------
def find_set(wanted: str, sets: Sequence[ExperimentParameters], config: Config) -> ExperimentParameters | ParamSet:
    """The one set of a name, or whose hash begins so: one of these, or one of an earlier run.

    Raises
    ------
    SelectionError
    """
    found = param_registry.find(wanted, [param_registry.describe(params) for params in sets], config.path(config.runs))
    if found.run:
        return found
    return next(params for params in sets if (params.params_hash(), params.name) == (found.hash, found.name))


def set_lines(params: ExperimentParameters | ParamSet, *, with_hashed: bool) -> Iterator[str]:
    """Hash and name of a set in a line, and then all its values as JSON."""
    item = params if isinstance(params, ParamSet) else param_registry.describe(params)
    shown = {"name": item.name, **item.values}
    if with_hashed:
        shown[HOW_HASHED] = item.hashed if isinstance(params, ParamSet) else params.params_hash(dry=True)
    yield f"{item.hash} {item.name}"
    yield json.dumps(shown, indent=2, ensure_ascii=False, default=repr)


# --- paths -----------------------------------------------------------------------------------------------------------
def paths(manager: Session) -> list[str]:
    """Every path in the cache that the run would use: of what is there all files, of what is not the primary ones."""
    plan = manager.plan()
    needed = {task for task, decision in plan.decisions.items() if decision.action is not Action.PRUNE}
    stems = [stem for task in manager.graph for stem in (*task.stems, task.marker) if stem is not None]
    manifests = manager.store.manifests(manager.store.present(stems))
    names: dict[str, None] = {}
    for task in manager.graph:
        named = [(stem, output) for stem, output in zip(task.stems, task.outputs, strict=True) if stem is not None]
        for stem, output in (*named, (task.marker, None)):
            manifest = manifests.get(stem)
            if manifest is not None:
                names |= dict.fromkeys(stem + entry.name for entry in manifest.files)
                names |= dict.fromkeys(entry.name for entry in manifest.tracked)
                names[manifest_name(stem)] = None
            elif output is not None and task.id in needed:
                names |= dict.fromkeys((stem + _extension(output), manifest_name(stem)))
    return [f"{source.url.rstrip('/')}/{name}" for source in manager.store.sources for name in names]


def _extension(output: OutputSpec) -> str:
    return str(getattr(output.cacher, "extension", "") or "")


# --- the plan --------------------------------------------------------------------------------------------------------
def map_lines(manager: Session, plan: Plan, stopped_at: str) -> Iterator[str]:
    """The plan by record: stages with inputs and outputs, what is cached and made by which run, what runs and why."""
    stems = [stem for d in plan.decisions.values() for stem in manager.graph[d.task].stems if stem is not None]
    present = manager.store.present(stems)
    manifests = manager.store.manifests(present)
    runs = {stem: manifest.run for stem, manifest in manifests.items()}
    targets = set(manager.graph.targets())
    for record in manager.records:
        yield f"==== {record.get_reference_name()} hash: {record.get_hash()} ===="
        for task in record.tasks:
            decision = plan.decisions.get(task)
            if decision is not None:
                yield from _task_lines(manager.graph, task, decision, runs, is_leaf=task in targets)
        yield ""
    counts = {action: len(plan.ids(action)) for action in Action}
    yield f"{counts[Action.RUN]} to run, {counts[Action.REUSE]} to reuse, {counts[Action.PRUNE]} not needed"
    if stopped_at:
        yield (
            f"run() reads {stopped_at!r} here, which has to be computed first; "
            "what the experiment does after that is not on this map"
        )


def _task_lines(graph: Graph, number: int, decision: Decision, runs: dict[str, str], *, is_leaf: bool) -> Iterator[str]:
    task, n_sharing = graph[number], graph.n_sharing(number)
    leaf = " (leaf)" if is_leaf else ""
    shared = f" (shared by {n_sharing} sets)" if n_sharing > 1 else ""
    yield f"  {task.spec.name}{leaf}: {decision.action.value}, {decision.reason}{shared}"
    names = list(task.inputs) or sorted({name for g in task.gathered for name in g.artifacts})
    for name in names:
        ref = task.inputs.get(name)
        origin = f" of task {ref.task}" if isinstance(ref, ArtifactRef) else f" of {len(task.gathered)} records"
        yield f"    <- {name}{origin if task.gathered else ''}"
    for output, stem in zip(task.outputs, task.stems, strict=True):
        cached = f" (cached) [{runs[stem]}]" if stem in runs else ""
        yield f"    -> {output.name}{cached}"
