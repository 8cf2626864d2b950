"""What the flags that only look print: parameter sets, paths, the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curidask import param_registry
from curidask.cli.display import map_lines
from curidask.cli.options import ALL_SETS
from curidask.cli.terminal import say
from curidask.experiment import ExperimentResult, select_params
from curidask.param_registry import ParamSet
from curidask.planner import Action
from curidask.stage_spec import OutputSpec
from curidask.store.manifests import manifest_name

if TYPE_CHECKING:
    from curidask.config import Config


# --- parameter sets --------------------------------------------------------------------------------------------------
def param_lines(config: Config, experiment: str, options: dict[str, Any]) -> list[str]:
    """The lines of ``--hashes`` and ``--print-params``."""
    selection = {name: options[name] for name in ("params", "names", "indices", "global_indices")}
    sets = select_params(config, experiment, **selection)
    if options["hashes"]:
        return [f"{params.params_hash()} {params.name}" for params in sets]
    described = [param_registry.describe(params) for params in sets]
    wanted = options["print_params"]
    if wanted != ALL_SETS:
        described = [param_registry.find(wanted, described, config.path(config.runs))]
    return [line for item in described for line in _set_lines(item, with_hashed=options["verbose"])]


def _set_lines(item: ParamSet, *, with_hashed: bool) -> Iterator[str]:
    origin = f"  (from {item.run})" if item.run else ""
    yield f"{item.name}  {item.hash}{origin}"
    width = max((len(name) for name in item.values), default=0)
    for name, value in item.values.items():
        yield f"  {name:<{width}} = {json.dumps(value, ensure_ascii=False)}"
        if with_hashed:
            yield f"  {'':<{width}}   hashed as {item.hashed.get(name, 'nothing')}"
    yield ""


# --- paths -----------------------------------------------------------------------------------------------------------
def path_lines(result: ExperimentResult) -> list[str]:
    """Every path in the cache that the run would use: of what is there all files, of what is not the primary ones."""
    manager = result.manager
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
    _say_where_it_stopped(result, "the paths of what it makes after that are missing")
    return [f"{source.url.rstrip('/')}/{name}" for source in manager.store.sources for name in names]


def _extension(output: OutputSpec) -> str:
    return str(getattr(output.cacher, "extension", "") or "")


def _say_where_it_stopped(result: ExperimentResult, consequence: str) -> None:
    if result.stopped_at:
        say(f"run() reads {result.stopped_at!r}, which has to be computed first; {consequence}")


# --- the plan --------------------------------------------------------------------------------------------------------
def map_text(result: ExperimentResult) -> Sequence[str]:
    """The lines of ``--map``."""
    return list(map_lines(result.manager, result.manager.plan(), result.stopped_at))
