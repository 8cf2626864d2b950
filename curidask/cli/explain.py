"""``curidask explain``: why the stages of an experiment run, or do not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curidask.cli import completion
from curidask.cli.cache.show import meant_by, near_stems, one_of, open_cache
from curidask.core.units import format_age, format_size
from curidask.errors import ConfigurationError, ProjectError
from curidask.runs.lineage import KEY_DIGITS, Lineage, tree
from curidask.runs.schema import read_record
from curidask.session.explain.code_store import KeptPart, read_code
from curidask.session.terminal import say
from curidask.store.maintenance.inventory import seconds_of
from curidask.store.manifest import is_name, printable

if TYPE_CHECKING:
    from curidask.cli.cache.show import NumberedTier
    from curidask.cli.runs import Named
    from curidask.core.planner import Plan
    from curidask.manager import ArtifactManager
    from curidask.session.config import Config
    from curidask.session.explain.differences import StageExplained
    from curidask.session.explain.run_diff import Side
    from curidask.store.maintenance.usage import Use
    from curidask.store.manifest import Manifest


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def explained(manager: ArtifactManager, plan: Plan, stage: str = "") -> list[StageExplained]:
    """What happens to each stage of what was traced, or to one, and why."""
    from curidask.session.explain.differences import evidence_of, explain

    found = evidence_of(manager.graph, plan, manager.store, manager.codes.by_key, stage)
    return explain(manager.graph, plan, found, stage)


@click.command("explain", context_settings=SETTINGS)
@click.argument("name", metavar="EXPERIMENT|ARTIFACT", shell_complete=completion.experiments)
@click.option("-p", "--params", "param_files", multiple=True, metavar="NAME", help="Parameter modules, as for a run.")
@click.option("-n", "--names", multiple=True, metavar="SET", help="Only these parameter sets.")
@click.option("--stage", default="", metavar="NAME", help="Only this stage.")
@click.option(
    "--unused-params",
    is_flag=True,
    help="Say instead which fields of its parameters the code of each stage cannot be seen to read, and the `params=` "
    "for it.",
)
@click.option("--prefix", metavar="TEXT", help="How the names of artifacts begin, as for a run.")
@click.option("-c", "--cache", metavar="PLACE", help="The cache, as for a run.")
def explain_command(name: str, cache: str | None, **how: Any) -> None:
    """Say why the stages of EXPERIMENT would run: what changed since they last did. Nothing is computed.

    Each stage that runs is compared with the nearest artifact of it in the cache: parameters with old and new value,
    code with a diff, arguments, and what comes from stages before it.

    With --unused-params nothing is compared: the source of each stage is read for what it does with `record.params`.

    Or say what made ARTIFACT, and what that was made from, all the way up. ARTIFACT is the path of one of its files in
    the cache, its name, or a part of its name that no other has, such as the beginning or the end. What is the name of
    an experiment is taken for the experiment.
    """
    from curidask.session.config import load_config
    from curidask.session.project_modules import is_experiment, near_experiments

    config = load_config()
    if any(how.values()) or is_experiment(config, name):
        _explain_experiment(name, cache, **how)
        return

    for line in explain_artifact(config, name, cache, near_experiments(config, name)):
        say(line, err=False)


def _explain_experiment(
    name: str,
    cache: str | None,
    param_files: tuple[str, ...],
    names: tuple[str, ...],
    stage: str,
    unused_params: bool,
    prefix: str | None,
) -> None:
    from curidask.core.code.unused_params import unused_lines
    from curidask.experiment import run_experiment

    result = run_experiment(
        name,
        list(param_files) or None,
        names=list(names) or None,
        cache=cache,
        prefix=prefix,
        map_only=True,
        quiet=True,
    )
    manager = result.manager
    known = {task.spec.name for task in manager.graph}
    if stage and stage not in known:
        raise click.UsageError(f"There is no stage {stage!r}; the experiment calls: {', '.join(sorted(known))}.")
    if unused_params:
        lines = unused_lines(manager.graph, stage)
    else:
        lines = (line for told in explained(manager, manager.plan(), stage) for line in told.lines())
    for line in lines:
        say(line, err=False)
    if result.stopped_at:
        say(f"run() reads {result.stopped_at!r} here; what it does after that is not known yet")


# --- what ``curidask explain`` says of one artifact ------------------------------------------------------------------
# What made it, and what that was made from in turn.

SHORTEST_PART = 4
"""A shorter text, such as a slip in an experiment's name, is a part of hashes by chance."""


def explain_artifact(config: Config, name: str, cache: str | None, near_experiments: Sequence[str]) -> Iterator[str]:
    """Lines about an artifact of the cache.

    Parameters
    ----------
    name : str
        Its name, a part of it, or the path of one of its files.
    cache : str or None
        Another than the configured one.
    near_experiments : sequence of str
        What else may have been meant.

    Raises
    ------
    ConfigurationError
        When there is none, or several.
    """
    tiers = open_cache(config, cache)
    lineage = Lineage([tier.store for tier in tiers], lambda run: _tasks_of(config, run))
    where = ", ".join(tier.store.url for tier in tiers)
    stem = lineage.holder_of(_stem(lineage, name, where, near_experiments))
    manifest, problem = lineage.manifest(stem)
    yield printable(stem)
    if problem:
        yield f"  problem    {printable(problem)}"
    if manifest is None:
        return
    for label, value in _about(manifest, _code_of(lineage, manifest)):
        yield f"  {label:<10} {printable(value)}"
    if manifest.inputs:
        yield "  made from"
        yield from (f"    {line}" for line in tree(manifest, lineage.sources(manifest)))


def _stem(lineage: Lineage, name: str, where: str, near_experiments: Sequence[str]) -> str:
    """The artifact that is meant, whole ones before those without a manifest."""
    stems = lineage.stems if meant_by(lineage.stems, name) else lineage.broken
    if len(name) >= SHORTEST_PART and meant_by(stems, name):
        return one_of(stems, name, where)
    near = [*near_experiments, *near_stems(lineage.stems, name)]
    raise ConfigurationError(
        f"There is neither an experiment nor an artifact {name!r}.",
        where=where,
        fix=f"did you mean {' or '.join(near)}?"
        if near
        else "`experiment ls` and `curidask cache ls` list what there is",
    )


def _tasks_of(config: Config, run: str) -> Sequence[Mapping[str, Any]]:
    with suppress(ProjectError):
        if is_name(run):
            tasks: Sequence[Mapping[str, Any]] = read_record(config.path(config.runs) / run)["tasks"]
            return tasks
    return ()


def _code_of(lineage: Lineage, manifest: Manifest) -> dict[str, KeptPart]:
    key = str(manifest.components.get("code", ""))
    return next((code for store in lineage.stores if (code := read_code(store, [key]).get(key))), {})


def _about(manifest: Manifest, code: Mapping[str, KeptPart]) -> Iterator[tuple[str, str]]:
    made = manifest.created
    with suppress(ValueError, OverflowError):
        made = f"{made} ({format_age(time.time() - seconds_of(made))} ago)"
    yield "is", f"output {manifest.output} of stage {manifest.stage}, experiment {manifest.prefix}"
    yield "set", manifest.set_name
    yield "made", f"{made}, in {manifest.seconds:.3g} s"
    yield "by", f"{manifest.user} on {manifest.host}, run {manifest.run}"
    yield "stored", f"{format_size(manifest.size_bytes)} by {manifest.cacher}: {manifest.preview}"
    for name, value in manifest.params.items():
        yield "param", f"{name} = {value!r}"
    arguments = manifest.components.get("kwargs")
    for name, key in arguments.items() if isinstance(arguments, dict) else ():
        yield "argument", f"{name}, of digest {str(key)[:KEY_DIGITS]}"
    yield "code", _shown_code(str(manifest.components.get("code", "")))
    for name, part in code.items():
        yield "", f"{part.kind} {name}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in sorted(manifest.packages.items()))


def _shown_code(key: str) -> str:
    if not key:
        return "does not count"
    return key if key.startswith("version ") else key[:KEY_DIGITS]


# --- ``curidask diff``: what differs between two runs ----------------------------------------------------------------
@click.command("diff", context_settings=SETTINGS)
@click.argument("old", metavar="RUN")
@click.argument("new", metavar="RUN")
@click.option("-c", "--cache", metavar="PLACE", help="Another cache than the configured one.")
def diff_command(old: str, new: str, cache: str | None) -> None:
    """Say what differs between two runs, from the first to the second. Nothing is computed, nothing is changed.

    Parameters with old and new value; code with a diff of each function, class and constant; versions of packages;
    arguments and inputs of stages; and which outputs have other contents, which the same though another key stands for
    what they were made from.

    RUN is a reference as `curidask runs` lists it, its beginning (`digits_3`), an experiment for its last run, or
    `latest`. A run that is known from the cache only, such as a colleague's, is compared by what the cache has of it.
    """
    from curidask.session.config import load_config
    from curidask.session.explain.run_diff import differences

    sides = _sides(load_config(), (old, new), cache)
    for line in differences(*sides):
        say(line, err=False)


def _sides(config: Config, asked: Sequence[str], cache: str | None) -> tuple[Side, Side]:
    from curidask.cli.cache.show import open_cache
    from curidask.session.explain.code_store import read_code
    from curidask.session.explain.run_diff import outputs_of_manifests, to_read

    tiers = open_cache(config, cache)
    references, uses = _references(config, tiers, asked)
    old, new = (_by_record(config, reference) for reference in references)
    for side in (old, new):
        if not side.record:
            stems = {stem for use in uses or _uses(tiers) if use.reference == side.reference for stem in use.stems}
            side.manifests = _manifests(tiers, stems)
            side.outputs = outputs_of_manifests(side.manifests.values())
    for side, stems in zip((old, new), to_read(old, new), strict=True):
        side.manifests = {**side.manifests, **_manifests(tiers, stems - side.manifests.keys())}
        codes = {str(manifest.components.get("code", "")) for manifest in side.manifests.values()}
        side.codes = {key: code for tier in tiers for key, code in read_code(tier.store, codes).items()}
    return old, new


def _by_record(config: Config, reference: str) -> Side:
    from curidask.errors import ProjectError
    from curidask.runs.schema import read_record
    from curidask.session.explain.run_diff import Side, outputs_of_record

    try:
        record = read_record(config.path(config.runs) / reference)
    except ProjectError as error:
        return Side(reference, {}, error.what)
    return Side(reference, record, "", outputs_of_record(record))


def _manifests(tiers: Sequence[NumberedTier], stems: set[str]) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for tier in tiers:
        left = stems - found.keys()
        found |= tier.store.manifests(left) if left else {}
    return found


# --- which runs ------------------------------------------------------------------------------------------------------
def _references(config: Config, tiers: Sequence[NumberedTier], asked: Sequence[str]) -> tuple[list[str], Sequence[Use]]:
    """The references that are meant; and what runs say in the cache, when it was looked at for that."""
    from curidask.cli.runs import Named, reference_of
    from curidask.errors import SelectionError

    runs = config.path(config.runs)
    known = {**_with_folders(runs, asked), **_recorded(runs)}
    with suppress(SelectionError):
        return [reference_of(one, known, str(runs)) for one in asked], ()
    uses = _uses(tiers)
    known = {use.reference: Named(use.experiment, use.started) for use in uses if use.reference} | known
    where = ", ".join([str(runs), *(tier.store.url for tier in tiers)])
    return [reference_of(one, known, where) for one in asked], uses


def _recorded(runs: Path) -> dict[str, Named]:
    from curidask.cli.runs import Named
    from curidask.runs.status import all_runs

    return {run.reference: Named(run.name, run.started) for run in all_runs(runs)}


def _with_folders(runs: Path, asked: Sequence[str]) -> dict[str, Named]:
    """Runs that have a folder, whatever is in it."""
    from curidask.cli.runs import Named
    from curidask.store.manifest import is_name

    return {one: Named("", 0.0) for one in asked if is_name(one) and (runs / one / "run.json").exists()}


def _uses(tiers: Sequence[NumberedTier]) -> list[Use]:
    from curidask.store.maintenance.usage import Uses
    from curidask.store.maintenance.verify import is_empty_folder

    return [u for tier in tiers if not is_empty_folder(tier.store.objects) for u in Uses(tier.store.objects).refresh()]
