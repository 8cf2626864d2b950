"""``experiment NAME``: run an experiment of the project; ``experiment ls``: list them."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from curidask import __version__
from curidask.cli import completion
from curidask.cli.exit_codes import guarded
from curidask.cli.reports import reports_command
from curidask.session.terminal import choose_colour, say

if TYPE_CHECKING:
    from curidask.session.config import Config


# --- the flags of ``experiment NAME`` and ``curidask run NAME``, in the groups that the help shows -------------------
F = TypeVar("F", bound=Callable[..., Any])

ALL_SETS = "\0all"
"""What --print-params without a value stands for."""

EDITOR = "\0editor"
"""What --notes without a text stands for."""

OPTIONAL_VALUES = {"print_params": "--print-params", "notes": "--notes"}

SYNONYMS = {"--full-store": "--store-full", "--no-map": "--no-dag", "--parallel-mode": "--parallel-safe"}
"""Flags of older command lines."""

ELSEWHERE = {
    "--name": "--name is --prefix now (how the artifacts' names begin); sets are chosen by --names.",
    **{flag: f"{flag} belongs to `experiment reports`." for flag in ("--port", "--host", "--update")},
}
"""Flags of older command lines that are looked for in vain, and where to find what they did."""

SELECT = "Which parameter sets"
LOOK = "Look, run nothing and write nothing"
COMPUTE = "What is computed, and where"
CACHE = "The cache"
KEEP = "What is kept of the run"
SHOW = "What is shown and logged"
GROUPS = (SELECT, LOOK, COMPUTE, CACHE, KEEP, SHOW)


class GroupedOption(click.Option):
    """An option that the help shows under a heading."""

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Leave out the range: the help's text tells what a number means."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class RunCommand(click.Command):
    """The command that runs an experiment: its help has groups, and it says where a NAME may have gone."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for group in (*GROUPS, ""):
            options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
            options = [p for p in options if getattr(p, "group", "") == group]
            rows = [row for row in (option.get_help_record(ctx) for option in options) if row is not None]
            if rows:
                with formatter.section(group or "Other"):
                    formatter.write_dl(rows, col_max=28)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and explain a missing NAME that a flag with an optional value took."""
        args = [_todays(arg) for arg in args]
        if ctx.resilient_parsing and args and args[-1].startswith("-"):
            args.pop()  # its value is being completed; click would stop at it and know no NAME
        try:
            return super().parse_args(ctx, list(args))  # the parser takes them out of the list
        except click.NoSuchOption as error:
            if error.option_name in ELSEWHERE:
                raise click.UsageError(ELSEWHERE[error.option_name], ctx) from None
            raise
        except click.MissingParameter as error:
            taken = _taken_name(args)
            if error.param is not None and error.param.name == "name" and taken:
                raise click.UsageError(
                    f"NAME is missing: {taken[0]} took {taken[1]!r} as its value. Write the experiment first, as in "
                    f"`{ctx.command_path} {taken[1]} {taken[0]}`.",
                    ctx,
                ) from None
            raise


def _todays(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return SYNONYMS.get(flag, flag) + equals + value


def _taken_name(args: list[str]) -> tuple[str, str] | None:
    for flag, following in itertools.pairwise(args):
        if flag in OPTIONAL_VALUES.values() and not following.startswith("-"):
            return flag, following
    return None


def _option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, cls=GroupedOption, group=group, **settings)


OPTIONS = (
    _option(
        SELECT, "-p", "--params", multiple=True, metavar="NAME", shell_complete=completion.param_modules,
        help="Take the sets of this parameter module, from params/ or experiments/; repeatable, lists are joined in "
        "order. Without it the experiment's own get_params() serves.",
    ),
    _option(
        SELECT, "-n", "--names", multiple=True, metavar="NAME", shell_complete=completion.set_names,
        help="Only the sets of this name; repeatable.",
    ),
    _option(
        SELECT, "--indices", multiple=True, metavar="I|I-J",
        help="Only these of each module's list: `2` the third, `0-2` the first two; repeatable.",
    ),
    _option(SELECT, "--global-indices", multiple=True, metavar="I|I-J", help="The same, of the joined list."),
    _option(
        LOOK, "--map", "map_only", is_flag=True,
        help="The plan: records, stages, inputs and outputs, what is cached and by which run, what would run and why.",
    ),
    _option(LOOK, "--hashes", is_flag=True, help="Hash and name of each selected set, a line each."),
    _option(
        LOOK, "--print-params", is_flag=False, flag_value=ALL_SETS, metavar="[SET]",
        shell_complete=completion.set_names,
        help="The selected sets in full: a line of hash and name, then JSON; or the one set of that name, or whose "
        "hash begins so, also of earlier runs. With -v also how each field enters the hash.",
    ),
    _option(
        LOOK, "--paths", is_flag=True,
        help="Every path in the cache that the run would use, a line each: files and their metadata. For xargs.",
    ),
    _option(COMPUTE, "--overwrite", is_flag=True, help="Recompute everything."),
    _option(
        COMPUTE, "--overwrite-stage", "overwrite_stages", multiple=True, metavar="STAGE",
        shell_complete=completion.stage_names, help="Recompute that stage and all that depends on it; repeatable.",
    ),
    _option(
        COMPUTE, "--no-dag", is_flag=True,
        help="No pruning: each stage decides by its own cache alone, also one that nothing needs.",
    ),
    _option(
        COMPUTE, "--lazy", is_flag=True,
        help="Make every output lazy: loaded when looked at, not kept in memory. One without a cacher is pickled.",
    ),
    _option(COMPUTE, "--ignore-lazy", is_flag=True, help="Make no output lazy."),
    _option(
        COMPUTE, "--fail-fast", is_flag=True,
        help="Stop at once at the first failure; without it, what does not depend on the failure finishes.",
    ),
    _option(
        COMPUTE, "--keep-going-aggregates", is_flag=True,
        help="Let an aggregate over records some of which failed run over the others, with a warning.",
    ),
    _option(
        COMPUTE, "--accept-code", multiple=True, metavar="STAGE", shell_complete=completion.stage_names,
        help="Take what the cache has of that stage, made by other code, as made by today's; repeatable, or `all`.",
    ),
    _option(COMPUTE, "--yes", is_flag=True, help="Do not ask whether to accept."),
    _option(
        COMPUTE, "--check-determinism", is_flag=True,
        help="Call each stage twice on its inputs and name outputs that differ, and inputs that a stage changes in "
        "place; also what is cached, which stays as it is. Exit code 1 when something was found.",
    ),
    _option(
        COMPUTE, "--parallel", type=click.IntRange(min=0), metavar="N",
        help="Worker processes on this machine; 0: none, so that a debugger works. Default: as many as cores, or as "
        "sets where they are fewer.",
    ),
    _option(COMPUTE, "--cluster", metavar="NAME", help="Where the workers are: a cluster of the configuration."),
    _option(COMPUTE, "--scheduler", metavar="ADDRESS", help="The same: a dask scheduler, such as tls://host:8786."),
    _option(COMPUTE, "--insecure", is_flag=True, help="Accept a connection without TLS to another machine."),
    _option(
        COMPUTE, "--restart", "restarts", type=click.IntRange(min=0), default=0, metavar="N",
        help="When the scheduler is lost, start or find the cluster again and go on, up to N times.",
    ),
    _option(
        COMPUTE, "--detach", is_flag=True,
        help="Return at once; the run goes on without the terminal. `curidask attach` follows it.",
    ),
    _option(
        COMPUTE, "--parallel-safe", is_flag=True,
        help="Only fill the cache, as one of several commands at a time, each with a part of the sets: no report, no "
        "run record, nothing in the registry of sets.",
    ),
    _option(
        CACHE, "-c", "--cache", metavar="PATH|URL[,…]", shell_complete=completion.folders,
        help="Another cache: a folder, the folder of a run stored with -s, or any URL fsspec knows, as "
        "s3://bucket/path; several with commas between them are tiers, the fastest first.",
    ),
    _option(
        CACHE, "--cache-mode", metavar="MODE[,…]",
        help="Use of the cache, or of each of its tiers: rw (read and write), ro (read only) or off.",
    ),
    _option(
        CACHE, "--prefix", metavar="NAME",
        help="How the artifacts' names begin, instead of with the experiment's name; who has the same one shares.",
    ),
    _option(CACHE, "--dry", is_flag=True, help="Write nothing at all: no artifacts, no run record, no log, no report."),
    _option(CACHE, "--dry-cache", is_flag=True, help="Read the cache, never write it; the rest is kept as usual."),
    _option(
        KEEP, "-s", "--store-full", is_flag=True,
        help="Put all of the run into its folder, data/runs/REFERENCE: every artifact, log, report, environment. "
        "`--cache FOLDER --dry-cache` gives the results again from there.",
    ),
    _option(
        KEEP, "--notes", is_flag=False, flag_value=EDITOR, metavar="[TEXT]",
        help="A message to keep with the run, its first line as title. Without TEXT the editor opens; then write it "
        "after NAME.",
    ),
    _option(KEEP, "--no-report", is_flag=True, help="Make no report."),
    _option(
        KEEP, "--notebook", is_flag=True,
        help="Write a notebook that reloads the run, notebooks/experiments/REFERENCE.ipynb.",
    ),
    _option(
        KEEP, "--docker", is_flag=True,
        help="Put a Dockerfile with code, packages, cache and notebook into the run's folder (implies -s and "
        "--notebook), and build the image if docker, podman or buildah answers.",
    ),
    _option(
        SHOW, "-v", "--verbose", is_flag=True,
        help="Show what curidask and the experiment log, also on workers.",
    ),
    _option(SHOW, "--quiet", is_flag=True, help="Show only what the experiment prints, warnings and errors."),
    _option(SHOW, "--plain", is_flag=True, help="No moving lines, whatever --progress says, and no colour."),
    _option(
        SHOW, "--progress", is_flag=True,
        help="Moving lines also where the output is no terminal; on a terminal they are the default. With --quiet: "
        "nothing else.",
    ),
    _option(SHOW, "--no-color", is_flag=True, help="No colour; so does the variable NO_COLOR."),
    _option(SHOW, "--no-log", is_flag=True, help="Write no log file (logs/REFERENCE.log)."),
    _option(SHOW, "--log-errors", is_flag=True, help="Write the tracebacks of what fails into the log, too."),
    _option(
        SHOW, "--all-loggers", is_flag=True,
        help="Log, and show with -v, what all packages log; not only curidask and the experiment.",
    ),
)  # fmt: skip


def run_options(function: F) -> F:
    """Add all flags to a command's function."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


# --- run -------------------------------------------------------------------------------------------------------------
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
