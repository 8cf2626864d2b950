"""Who may talk to a cluster: certificates, and the rule that nothing leaves this machine in the clear unasked.

Whoever reaches a dask scheduler can run code on all of its workers. So connections go over loopback, or over TLS where
both sides show a certificate of one authority; anything else has to be asked for.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.settings import TLS, ClusterSettings
from curidask.errors import ConfigurationError

CA_CERT, CERT, KEY = "ca.pem", "node.pem", "node.key"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the authority's certificate, and of this side's certificate and private key."""

    ca_file: str
    cert: str
    key: str

    def as_security(self) -> Any:
        """The same as dask wants it, for every role."""
        from distributed import Security

        roles = {f"tls_{role}_{part}": getattr(self, part) for role in ROLES for part in ("cert", "key")}
        return Security(require_encryption=True, tls_ca_file=self.ca_file, **roles)


ROLES = ("client", "scheduler", "worker")


def default_folder() -> Path:
    """Where `curidask cluster certs` puts them and where they are looked for: the user's, since they open a cluster."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "curidask" / "tls"


def find_tls(settings: ClusterSettings | None) -> TlsFiles | None:
    """The certificates to use: those of the cluster's settings, of dask's configuration, or the default folder's.

    Raises
    ------
    ConfigurationError
        When a file is not there or cannot be read.
    """
    import dask

    where = settings.where if settings is not None else ""
    if settings is not None and settings.tls_cert:
        return _readable(TlsFiles(*(getattr(settings, key) for key in TLS)), where)
    own = [dask.config.get(f"distributed.comm.tls.{name}", None) for name in ("ca-file", "client.cert", "client.key")]
    if all(own):
        return _readable(TlsFiles(*own), "dask's configuration (distributed.comm.tls)")
    folder = default_folder()
    files = TlsFiles(*(str(folder / name) for name in (CA_CERT, CERT, KEY)))
    return _readable(files, str(folder)) if (folder / CERT).exists() else None


def _readable(files: TlsFiles, where: str) -> TlsFiles:
    for path in (files.ca_file, files.cert, files.key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"The certificate file {path} cannot be read: {error.strerror}.",
                where=where,
                fix="correct the path, or make certificates with `curidask cluster certs`",
            ) from error
    return files


def required_tls(settings: ClusterSettings | None, address: str) -> TlsFiles:
    """The certificates for a connection that needs them.

    Raises
    ------
    ConfigurationError
        When there are none.
    """
    files = find_tls(settings)
    if files is None:
        raise ConfigurationError(
            f"There are no certificates for {address}.",
            where=settings.where if settings is not None else str(default_folder()),
            fix=f"make them with `curidask cluster certs`, or copy those of the cluster to {default_folder()}, or name "
            f"them with {', '.join(TLS)}",
        )
    return files


# --- in the clear ----------------------------------------------------------------------------------------------------
def is_loopback(address: str) -> bool:
    """Whether an address such as ``tcp://127.0.0.1:8786`` can be reached from this machine only."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_plain(address: str, *, insecure: bool, where: str = "") -> tuple[str, ...]:
    """Refuse a connection to another machine without TLS, unless it was asked for.

    Returns
    -------
    tuple of str
        A warning, when it was asked for.

    Raises
    ------
    ConfigurationError
    """
    if not address.startswith("tcp://") or is_loopback(address):
        return ()
    if not insecure:
        raise ConfigurationError(
            f"{address} is another machine, and tcp:// is not encrypted and asks nobody who they are.",
            where=where,
            fix="use tls:// with certificates (`curidask cluster certs`), or accept it with --insecure or "
            "`insecure = true` where you trust everybody on that network",
        )
    return (
        f"the connection to {address} is not encrypted; whoever reaches it can read data and run code on the workers",
    )
