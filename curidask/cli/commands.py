"""``curidask``: set up a project and run its experiments."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from curidask import __version__
from curidask.cli import completion
from curidask.cli.cache.commands import cache_group
from curidask.cli.cluster import cluster_command
from curidask.cli.exit_codes import guarded
from curidask.cli.explain import diff_command, explain_command
from curidask.cli.run import SETTINGS, SUBCOMMANDS, run_click, run_command
from curidask.cli.runs import attach_command, runs_command
from curidask.session.terminal import choose_colour, say

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="curidask")
def cli() -> None:
    """Run research experiments in parallel and keep what they compute."""


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take the defaults, and make no git repository.")
def init(folder: Path, yes: bool) -> None:
    """Set up a project in FOLDER (here by default): configuration, folders and a first experiment.

    It asks for the folders of experiments, cache and so on, and offers `git init`. Files that are there stay as they
    are.
    """
    from curidask.cli import init as setup

    answers = {} if yes else setup.ask(folder)
    for line in setup.init_project(folder, answers):
        say(line, err=False)


def _refuse_shell_flag(_: click.Context, flag: click.Parameter, given: bool) -> None:
    if given:
        raise click.UsageError(f"Write `curidask completion {flag.name}`; it prints the script and changes no file.")


def _shell_flag(name: str) -> Callable[[F], F]:
    """A flag of older command lines in the place of the argument."""
    return click.option(
        f"--{name}", is_flag=True, hidden=True, expose_value=False, is_eager=True, callback=_refuse_shell_flag
    )


@cli.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@_shell_flag("bash")
@_shell_flag("zsh")
def completion_command(shell: str) -> None:
    r"""Print what lets SHELL complete `experiment` and `curidask`.

    \b
    bash:  curidask completion bash > ~/.curidask-completion && echo '. ~/.curidask-completion' >> ~/.bashrc
    zsh:   curidask completion zsh  > ~/.curidask-completion && echo '. ~/.curidask-completion' >> ~/.zshrc
    fish:  curidask completion fish > ~/.config/fish/completions/experiment.fish
    """
    say(completion.script(shell), err=False)


cli.add_command(cache_group)
cli.add_command(run_command, "run")
for _name, _command in SUBCOMMANDS.items():
    cli.add_command(_command, _name)
for _command in (cluster_command, runs_command, attach_command, explain_command, diff_command):
    cli.add_command(_command)


def main() -> None:
    """Run the command line."""
    choose_colour(plain="--no-color" in sys.argv or "--plain" in sys.argv)
    if "_CURIDASK_COMPLETE" in os.environ:
        completion.mend_bash()  # click answers the shell, before it parses anything
    guarded(lambda: run_click(cli, sys.argv[1:] or ["--help"], "curidask"))
