"""``curidask``: set up a project and run its experiments."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from curidask import __version__
from curidask.cli.cluster import cluster_command
from curidask.cli.errors import guarded
from curidask.cli.experiment import SETTINGS, ls_command, run_command


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="curidask")
def cli() -> None:
    """Run research experiments in parallel and keep what they compute."""


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
def init(folder: Path, yes: bool) -> None:
    """Set up a project in FOLDER (here by default): configuration, folders and a first experiment.

    Files that are there stay as they are.
    """
    from curidask.cli.init import init_project

    if not yes:
        click.confirm(f"Set up a curidask project in {folder.resolve()}?", default=True, abort=True)
    for line in init_project(folder):
        click.echo(line)


cli.add_command(run_command, "run")
cli.add_command(ls_command, "ls")
cli.add_command(cluster_command)


def main() -> None:
    """Run the command line."""

    def command() -> None:
        try:
            cli.main(standalone_mode=False)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            raise KeyboardInterrupt from None

    guarded(command)
