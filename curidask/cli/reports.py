"""``experiment reports``: serve the reports of a project, or make them and their index anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from curidask.session.config import Config

EPILOG = """\b
Examples:
  experiment reports                         serve them on http://127.0.0.1:8080
  experiment reports --port 0                on any free port
  experiment reports --update                rebuild the index, serve nothing
  experiment reports digits_3_2026-05-01-T101500    make the report of that run again
"""


@click.command(
    "reports", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="Where to serve; 0 for any free one. Default: 8080."
)
@click.option("--host", metavar="ADDRESS", help="The address to listen on. Default: 127.0.0.1, this machine only.")
@click.option("--update", is_flag=True, help="Rebuild the index from all runs; serves only with --port or --host.")
def reports_command(runs: tuple[str, ...], port: int | None, host: str | None, update: bool) -> None:
    """Serve the project's reports until Ctrl-C, or make them anew.

    RUN is the reference of a run, or its folder: its report is made again from its run record.
    """
    from curidask.session.config import load_config

    config = load_config()
    folder = config.path(config.reports)
    for run in runs:
        _make(config, run)
    if update:
        count = _update_index(config)
        click.echo(f"{folder / 'index.html'}: {count} {'run' if count == 1 else 'runs'}")
    if not (runs or update) or port is not None or host is not None:
        _serve(config, "127.0.0.1" if host is None else host, 8080 if port is None else port)


def _make(config: Config, run: str) -> None:
    from curidask.reporting.report import write_report
    from curidask.reporting.templating import configured

    run_folder = config.path(config.runs) / run
    if not run_folder.is_dir():
        run_folder = Path(run)
    logs = config.path(config.logs)
    click.echo(write_report(run_folder, config.path(config.reports), configured(config), logs))


def _update_index(config: Config) -> int:
    from curidask.reporting.index import update
    from curidask.reporting.templating import configured

    return update(config.path(config.runs), config.path(config.reports), configured(config))


def _serve(config: Config, host: str, port: int) -> None:
    from curidask.reporting.server import ReportServer

    folder = config.path(config.reports)
    if not (folder / "index.html").exists():
        _update_index(config)
    with ReportServer(folder, host, port) as server:
        click.echo(f"serving {folder} on {server.url} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("\nended", err=True)
