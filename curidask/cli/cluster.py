"""``curidask cluster``: certificates for a cluster, and a check of one before it is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from curidask.clusters.diagnose import Line


@click.group("cluster")
def cluster_command() -> None:
    """Check a cluster before a run, and make the certificates that secure it."""


@cluster_command.command("certs")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A machine of the cluster; repeatable.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where they go.")
def certs_command(hosts: tuple[str, ...], folder: Path | None) -> None:
    """Make a certificate authority and a certificate for the scheduler, the workers and the drivers of a cluster.

    They are valid for a year. Run it again to renew the certificate, or to add hosts: the authority stays the same.
    """
    from curidask.clusters.tls import CA_CERT, CERT, KEY, default_folder, make_certificates

    target = (folder or default_folder()).absolute()
    made = make_certificates(target, hosts)
    paths = {name: target / name for name in (CA_CERT, CERT, KEY)}
    tls = f"--tls-ca-file {paths[CA_CERT]} --tls-cert {paths[CERT]} --tls-key {paths[KEY]}"
    click.echo(f"wrote  {target}: {'a new authority and ' if made.is_new_authority else ''}a certificate")
    click.echo(f"for    {', '.join(made.names)}")
    click.echo(f"until  {made.until:%Y-%m-%d}")
    click.echo(
        f"""
Who has these files may run code on the cluster. Copy {CA_CERT}, {CERT} and {KEY} to each of its machines, into
{default_folder()} or any folder of the user that runs it; leave ca.key here. Then:

  dask scheduler --protocol tls --dashboard-address 127.0.0.1:8787 {tls}
  dask worker tls://SCHEDULER:8786 --nthreads 1 --nworkers auto {tls}
  curidask cluster check tls://SCHEDULER:8786"""
    )


@cluster_command.command("check")
@click.argument("name", metavar="NAME|ADDRESS")
@click.option("-c", "--cache", metavar="PATH|URL", help="Another cache than the project's.")
@click.option("--insecure", is_flag=True, help="Accept a connection without TLS to another machine.")
def check_command(name: str, cache: str | None, insecure: bool) -> None:
    """Connect to a cluster and try all that a run needs there.

    NAME is a cluster of the configuration; an ADDRESS looks like tls://host:8786. It compares Python and the versions
    of the packages that the project imports, writes and reads the cache from the workers, lets workers call each
    other, and times tasks.

    Exit codes: 0 it can be used, 1 something must be fixed first, 2 it could not be tried.
    """
    from curidask import clusters
    from curidask.clusters.diagnose import inspect_cluster
    from curidask.errors import ClusterError, CuridaskError
    from curidask.execution.project.imports import scan
    from curidask.session.config import load_config
    from curidask.session.project_modules import enter_project
    from curidask.store.factory import open_store

    config = load_config()
    enter_project(config)
    opener = clusters.choose(
        name, config.cluster, root=config.root, source=config.source,
        folder=config.path(config.logs) / "clusters", insecure=insecure,
    )  # fmt: skip
    store = open_store(config.cache_urls(cache), config.store_settings())
    sources = [p for folder in (config.experiments, config.params) for p in config.path(folder).rglob("*.py")]
    lines = inspect_cluster(opener, store, scan(sources, config.root).packages, config.root)
    try:
        n_errors = sum(not _show(line) for line in lines)
    except OSError as error:  # what dask raises when it loses a connection is one
        if isinstance(error, CuridaskError):
            raise
        raise ClusterError(f"The cluster was lost: {error}", fix="look whether its scheduler runs") from error
    if n_errors:
        sys.exit(1)


def _show(line: Line) -> bool:
    """Print a line of the check; whether it is no error."""
    label, colour = {"ok": ("ok      ", "green"), "warning": ("warning ", "yellow"), "error": ("error   ", "red")}[
        line.kind
    ]
    click.secho(label, fg=colour, nl=False)
    click.echo(line.what)
    if line.fix:
        click.echo(f"          fix: {line.fix}")
    return line.kind != "error"
