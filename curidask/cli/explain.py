"""``curidask explain``: why the stages of an experiment run, or do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from curidask.cli import completion
from curidask.session.terminal import say

if TYPE_CHECKING:
    from curidask.core.planner import Plan
    from curidask.manager import ArtifactManager
    from curidask.session.explain.differences import StageExplained

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def explained(manager: ArtifactManager, plan: Plan, stage: str = "") -> list[StageExplained]:
    """What happens to each stage of what was traced, or to one, and why."""
    from curidask.session.explain.differences import explain
    from curidask.session.explain.evidence import evidence_of

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
    from curidask.cli.explain_artifact import explain_artifact

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
