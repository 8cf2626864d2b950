"""``experiment NAME``: run an experiment of the project; ``experiment ls``: list them."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from curidask import __version__
from curidask.cli.errors import guarded

if TYPE_CHECKING:
    from curidask.config import Config
    from curidask.manager import ArtifactManager

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

EPILOG = """\b
Examples:
  experiment ls                            what there is to run
  experiment digits                        run it on all cores; a second time reuses everything
  experiment digits --map                  show what would run, and why
  experiment digits -p quick -n svm        other parameter sets, only those named svm
  experiment digits --overwrite-stage fit  recompute a stage and what depends on it
  experiment digits --parallel 0           in this process, so that a debugger works

Exit codes: 0 done, 1 a stage failed (the others are in the cache), 2 it could not be run, 130 interrupted.
"""


@click.command(context_settings=SETTINGS, epilog=EPILOG)
@click.argument("name", metavar="NAME")
@click.option("-p", "--params", multiple=True, metavar="NAME", help="Parameter module; repeatable, lists are joined.")
@click.option("-n", "--names", multiple=True, metavar="NAME", help="Only the parameter sets of that name; repeatable.")
@click.option("--indices", multiple=True, metavar="I or I-J", help="Indices or half-open ranges of each module's list.")
@click.option("--global-indices", multiple=True, metavar="I or I-J", help="The same of the joined list.")
@click.option("--map", "map_only", is_flag=True, help="Show what would run and why; run nothing, write nothing.")
@click.option("-c", "--cache", metavar="PATH|URL", help="Another cache: a folder or any URL fsspec knows.")
@click.option("--overwrite", is_flag=True, help="Recompute everything.")
@click.option(
    "--overwrite-stage", "overwrite_stages", multiple=True, metavar="NAME",
    help="Recompute that stage and all that depends on it; repeatable.",
)  # fmt: skip
@click.option("--dry", is_flag=True, help="Write nothing at all.")
@click.option("--dry-cache", is_flag=True, help="Read the cache, never write it.")
@click.option("--prefix", metavar="NAME", help="Beginning of the artifacts' names instead of the experiment's name.")
@click.option("--lazy", is_flag=True, help="Make every output lazy.")
@click.option("--ignore-lazy", is_flag=True, help="Make no output lazy.")
@click.option("--no-dag", is_flag=True, help="No pruning: each stage decides by its own cache alone.")
@click.option(
    "--parallel", type=click.IntRange(min=0), metavar="N",
    help="Local worker processes; 0: in this process. Default: as many as cores, or sets if fewer.",
)  # fmt: skip
@click.option("--cluster", metavar="NAME", help="Where the workers are: a cluster of the configuration.")
@click.option("--scheduler", metavar="ADDRESS", help="The same: a dask scheduler, such as tls://host:8786.")
@click.option("--insecure", is_flag=True, help="Accept a connection without TLS to another machine.")
@click.option(
    "--restart", "restarts", type=click.IntRange(min=0), default=0, metavar="N",
    help="When the scheduler is lost, start or find the cluster again and go on, up to N times.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Show what is logged.")
@click.option("--quiet", is_flag=True, help="Show only what the experiment prints, warnings and errors.")
@click.option("--plain", is_flag=True, help="No moving lines and no colour.")
@click.option("--no-log", is_flag=True, help="Write no log file.")
@click.version_option(__version__, prog_name="curidask")
def run_command(name: str, **options: Any) -> None:
    """Run the experiment NAME: experiments/NAME.py, its run(param_sets, manager).

    The parameter sets come from get_params() of the modules given with -p (from params/ or experiments/), or of the
    experiment itself.  `experiment ls` lists experiments and parameter modules.
    """
    _run(name, **options)


def _run(name: str, *, verbose: bool, quiet: bool, plain: bool, no_log: bool, map_only: bool, **options: Any) -> None:
    from curidask.cli.display import Progress, map_lines
    from curidask.config import load_config
    from curidask.experiment import run_experiment

    options["cluster"] = _chosen_cluster(options.pop("cluster"), options.pop("scheduler"))
    config = load_config()
    progress = Progress(quiet=quiet or map_only, plain=plain)
    _show_logs(verbose, progress)
    try:
        result = _explained(
            run_experiment,
            name,
            config=config,
            listeners=[progress],
            map_only=map_only,
            log=not no_log,
            mngr=True,
            **options,
        )
    except BaseException:
        progress.finish()
        if progress.decisions and not quiet:
            click.echo(progress.table(), err=True)
        raise
    progress.finish()
    manager: ArtifactManager = result.manager
    if map_only:
        for line in map_lines(manager, manager.plan(), result.stopped_at):
            click.echo(line)
    elif not quiet:
        _close(progress, manager, config)


def _chosen_cluster(name: str | None, address: str | None) -> str | None:
    if name is not None and address is not None:
        raise click.UsageError("give either --cluster or --scheduler")
    if address is not None and "://" not in address:
        raise click.UsageError(f"--scheduler takes an address such as tls://{address}")
    return name if address is None else address


def _close(progress: Any, manager: ArtifactManager, config: Config) -> None:
    click.echo(progress.table(), err=True)
    click.echo(progress.summary(), err=True)
    if not manager.dry:
        click.echo(f"cache:  {manager.store.url}", err=True)
        click.echo(f"record: {config.path(config.runs) / manager.reference / 'run.json'}", err=True)


def _explained(function: Any, *args: Any, **options: Any) -> Any:
    """Call, and show an exception that the experiment's own run() raised as the user's, not as ours."""
    from curidask.cli.errors import show_user_error
    from curidask.errors import CuridaskError
    from curidask.executors.describe import user_traceback

    try:
        return function(*args, **options)
    except CuridaskError:
        raise
    except Exception as error:
        show_user_error(error, user_traceback(error))
        sys.exit(1)


def _show_logs(verbose: bool, progress: Any) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        progress.warned(f"{message}" if category is UserWarning else f"{category.__name__}: {message}")

    warnings.showwarning = show_warning


@click.command("ls", context_settings=SETTINGS)
def ls_command() -> None:
    """List the project's experiments and parameter modules."""
    from curidask.config import load_config
    from curidask.loading import list_modules

    config = load_config()
    experiments, params = list_modules(config, config.experiments), list_modules(config, config.params)
    _print_modules("EXPERIMENTS", [e for e in experiments if e.has_run or e.error])
    _print_modules("PARAMS", [e for e in (*experiments, *params) if e.has_params or (e.error and e in params)])
    if not experiments and not params:
        click.echo(
            f"no modules in {config.path(config.experiments)}; `curidask init` makes a first experiment", err=True
        )


def _print_modules(title: str, entries: list[Any]) -> None:
    click.echo(f"{title}:")
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        text = click.style(f"import error: {entry.error}", fg="red") if entry.error else entry.summary
        click.echo(f"  {entry.name:<{width}}  {text}".rstrip())


SUBCOMMANDS = {"ls": ls_command}


def main() -> None:
    """Run the command line."""
    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in SUBCOMMANDS:
        command, arguments = SUBCOMMANDS[arguments[0]], arguments[1:]
        guarded(lambda: command.main(arguments, prog_name="experiment ls", standalone_mode=True))
    guarded(lambda: _main(arguments))


def _main(arguments: list[str]) -> None:
    # Not in standalone mode: Ctrl-C and our errors are ours to show; usage errors are click's.
    try:
        run_command.main(arguments or ["--help"], prog_name="experiment", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
