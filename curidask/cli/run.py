"""``experiment NAME``: run an experiment of the project; ``experiment ls``: list them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from curidask import __version__
from curidask.cli import completion
from curidask.cli.exit_codes import guarded
from curidask.cli.options import ALL_SETS, EDITOR, RunCommand, run_options
from curidask.cli.reports import reports_command
from curidask.session.terminal import choose_colour, say

if TYPE_CHECKING:
    from curidask.session.config import Config

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

EPILOG = """\b
Examples:
  experiment ls                            what there is to run
  experiment digits                        run it on all cores; a second time reuses everything
  experiment digits --map                  show what would run, and why
  experiment digits -p quick -n svm        other parameter sets, only those named svm
  experiment digits --overwrite-stage fit  recompute a stage and what depends on it
  experiment digits --parallel 0           in this process, so that a debugger works
  experiment digits -s --notes "baseline"  keep all of the run in a folder, with a note

Exit codes: 0 done, 1 a stage failed (the others are in the cache), 2 it could not be run, 130 interrupted.
"""


@click.command(cls=RunCommand, context_settings=SETTINGS, epilog=EPILOG)
@click.argument("name", metavar="NAME", shell_complete=completion.experiments)
@run_options
@click.version_option(__version__, prog_name="curidask")
def run_command(name: str, **options: Any) -> bool:
    """Run the experiment NAME: experiments/NAME.py, its run(param_sets, manager).

    The parameter sets come from get_params() of the modules given with -p (from params/ or experiments/), or of the
    experiment itself.  `experiment ls` lists experiments and parameter modules.
    """
    choose_colour(plain=options["plain"] or options["no_color"])
    if options["detach"]:
        _check_detached(options)
        from curidask.session.config import load_config

        sys.exit(_detached(load_config(), options))
    from curidask.experiment import run_experiment

    if options["accept_code"] and not options["yes"] and not options["map_only"]:
        _ask_to_accept(options["accept_code"])
    looks = _looks(options)
    _explained(looks, run_experiment, name, **_run_options(options))
    return not looks


def _ask_to_accept(stages: tuple[str, ...]) -> None:
    """Ask before results are taken as made by code that did not make them."""
    if not sys.stdin.isatty():
        raise click.UsageError("--accept-code asks before it does so; where nobody can answer, give --yes as well.")
    named = "all stages" if "all" in stages else ", ".join(stages)
    click.confirm(f"Take what the cache has of {named} as made by today's code?", abort=True, err=True)


def _detached(config: Config, options: dict[str, Any]) -> int:
    from curidask.cli import detach

    is_subcommand = click.get_current_context().parent is not None
    command = detach.run_command_line(sys.argv[1:], is_subcommand=is_subcommand)
    return detach.detach(config, command, detach.launcher(config, _named_cluster(config, options)))


def _named_cluster(config: Config, options: dict[str, Any]) -> str | None:
    """The cluster that a run would have, as far as the command and the configuration say."""
    chosen = _chosen_cluster(options["cluster"], options["scheduler"])
    return chosen or (config.default_cluster if options["parallel"] is None else None) or None


def _check_detached(options: dict[str, Any]) -> None:
    """Refuse what needs the terminal, and runs that nobody could follow."""
    names = ("dry", "progress", "parallel_safe", "map_only", "hashes", "paths", "print_params")
    given = [name for name in names if options[name] not in (None, False)]
    if given:
        flag = given[0].removesuffix("_only").replace("_", "-")
        raise click.UsageError(f"--detach and --{flag} cannot go together; leave one of them out.")
    if options["notes"] == EDITOR:
        raise click.UsageError("--notes opens an editor, and --detach leaves the terminal; write --notes TEXT.")


def _run_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `run_experiment` takes of the flags."""
    names = (
        "params", "names", "indices", "global_indices", "overwrite", "overwrite_stages", "cache", "cache_mode",
        "prefix", "dry", "dry_cache", "lazy", "ignore_lazy", "no_dag", "fail_fast", "keep_going_aggregates", "parallel",
        "insecure", "restarts", "accept_code", "check_determinism", "log_errors", "all_loggers", "map_only", "plain",
        "progress", "no_color", "store_full",
    )  # fmt: skip
    given = {name: options[name] for name in names}
    return given | {
        "quiet": options["quiet"] and not _looks(options),
        "cluster": _chosen_cluster(options["cluster"], options["scheduler"]),
        "parallel_mode": options["parallel_safe"],
        "hashes_only": options["hashes"],
        "paths_only": options["paths"],
        "print_params": True if options["print_params"] == ALL_SETS else options["print_params"],
        "build_notebook": options["notebook"],
        "build_docker": options["docker"],
        "report": not options["no_report"],
        "log": not options["no_log"],
        "log_debug": options["verbose"],
        "notes": "" if options["notes"] == EDITOR else options["notes"] or None,
    }


def _looks(options: dict[str, Any]) -> bool:
    """Whether the command looks only, and so has nothing to give but its output."""
    return bool(options["map_only"] or options["hashes"] or options["paths"] or options["print_params"] is not None)


def _chosen_cluster(name: str | None, address: str | None) -> str | None:
    if name is not None and address is not None:
        raise click.UsageError("give either --cluster or --scheduler")
    if address is not None and "://" not in address:
        raise click.UsageError(f"--scheduler takes an address such as tls://{address}")
    return name if address is None else address


def _explained(looks: bool, function: Any, *args: Any, **options: Any) -> Any:
    """Call, and show an exception that the experiment's own run() raised as the user's, not as ours."""
    from curidask.cli.exit_codes import show_user_error
    from curidask.errors import CuridaskError
    from curidask.execution.tracebacks import user_traceback

    try:
        return function(*args, **options)
    except (CuridaskError, click.ClickException, click.Abort):
        raise
    except Exception as error:
        if looks and isinstance(error, BrokenPipeError):  # what was looked at was no longer wanted
            raise
        show_user_error(error, user_traceback(error), stored=not (options.get("dry") or options.get("dry_cache")))
        sys.exit(1)


@click.command("ls", context_settings=SETTINGS)
def ls_command() -> None:
    """List the project's experiments and parameter modules."""
    from curidask.session.config import load_config
    from curidask.session.project_modules import runnable

    choose_colour()
    config = load_config()
    experiments, params = runnable(config)
    _print_modules("EXPERIMENTS", experiments)
    _print_modules("PARAMS", params)
    if not experiments and not params:
        say(f"no modules in {config.path(config.experiments)}; `curidask init` makes a first experiment")


def _print_modules(title: str, entries: list[Any]) -> None:
    say(f"{title}:", err=False)
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        text = click.style(f"import error: {entry.error}", fg="red") if entry.error else entry.summary
        say(f"  {entry.name:<{width}}  {text}".rstrip(), err=False)


SUBCOMMANDS: dict[str, click.Command] = {"ls": ls_command, "reports": reports_command}
"""What stands in the place of an experiment's name; an experiment of such a name runs with `curidask run`."""


def main() -> None:
    """Run the command line."""
    choose_colour(plain="--no-color" in sys.argv or "--plain" in sys.argv)
    if completion.VARIABLE in os.environ:
        sys.exit(completion.answer(run_command, SUBCOMMANDS))
    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in SUBCOMMANDS:
        command = SUBCOMMANDS[arguments[0]]
        guarded(lambda: run_click(command, arguments[1:], f"experiment {arguments[0]}"))
    guarded(lambda: run_click(run_command, arguments or ["--help"], "experiment"))


def run_click(command: click.Command, arguments: list[str], name: str) -> Any:
    """Run a command; gives what it gives.

    Not in click's standalone mode: Ctrl-C and our errors are ours to show, usage errors click's.
    """
    try:
        return command.main(arguments, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else error.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
