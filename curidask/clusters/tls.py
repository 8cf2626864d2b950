"""Who may talk to a cluster: certificates, and the rule that nothing leaves this machine in the clear unasked.

Whoever reaches a dask scheduler can run code on all of its workers. So connections go over loopback, or over TLS where
both sides show a certificate of one authority; anything else has to be asked for.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.settings import TLS, ClusterSettings
from curidask.errors import ConfigurationError

# --- making the certificates of a cluster ----------------------------------------------------------------------------
# An authority, and one certificate that all nodes share.

CA_KEY = "ca.key"
HOST = re.compile(r"[A-Za-z0-9:*]([A-Za-z0-9.:*-]*[A-Za-z0-9])?")
VALID_DAYS = 365
RENEW_DAYS = 30
"""An authority that ends sooner is replaced rather than used again."""

BACKDATE = datetime.timedelta(minutes=5)
"""The clocks of a cluster's machines are not quite the same."""


@dataclass(frozen=True, slots=True)
class Made:
    """What `make_certificates` made.

    Attributes
    ----------
    names : list of str
        The hosts in the certificate.
    until : datetime.datetime
        When it ends.
    is_new_authority : bool
        Whether nodes with older certificates do not trust it.
    """

    names: list[str]
    until: datetime.datetime
    is_new_authority: bool


def make_certificates(folder: Path, hosts: Sequence[str] = ()) -> Made:
    """Make an authority and a certificate that all nodes of a cluster share, both for a year.

    An authority that is in the folder is used again while it is good for a month more, so that a renewed certificate is
    trusted by those who have the old one. Private keys are readable by their owner only.

    Parameters
    ----------
    hosts : sequence of str
        Names and addresses to put into the certificate, beside this machine's.

    Returns
    -------
    Made

    Raises
    ------
    ConfigurationError
        When the folder cannot be written, or holds an authority that cannot be used.
    """
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ConfigurationError(
                f"{host!r} is no name or address of a host.", where="--host", fix="write node1.example.org or 10.0.0.1"
            )
    names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _old_authority(folder)
        ca_key, ca_cert = authority or _make_authority(folder)
        cert = _make_node(folder, ca_key, ca_cert, names)
    except OSError as error:
        raise ConfigurationError(
            f"The certificates cannot be written: {error.strerror or error}.",
            where=str(folder),
            fix="choose another folder with --folder",
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"The authority in the folder cannot be used: {error}.",
            where=str(folder / CA_KEY),
            fix="choose another folder with --folder, or remove the old files (all nodes then need the new ones)",
        ) from error
    return Made(names, cert.not_valid_after_utc, authority is None)


def security_of_a_run() -> Any:
    """What lets nobody but the processes of a run talk to each other: keys that are in no file, as dask wants them."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from distributed import Security

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_cert = _signed("curidask run authority", ca_key, None, ca_key, [])
    cert = _signed("curidask run", key, ca_cert, ca_key, ["127.0.0.1"])
    texts = {"cert": _pem(cert).decode(), "key": _private_pem(key).decode()}
    roles = {f"tls_{role}_{part}": text for role in ROLES for part, text in texts.items()}
    return Security(require_encryption=True, tls_ca_file=_pem(ca_cert).decode(), **roles)


def _old_authority(folder: Path) -> tuple[Any, Any] | None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if not (folder / CA_KEY).exists():
        return None
    key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    cert = x509.load_pem_x509_certificate((folder / CA_CERT).read_bytes())
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)
    return (key, cert) if cert.not_valid_after_utc > soon else None


def _make_authority(folder: Path) -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    cert = _signed("curidask cluster authority", key, None, key, [])
    _write_key(folder / CA_KEY, key)
    (folder / CA_CERT).write_bytes(_pem(cert))
    return key, cert


def _make_node(folder: Path, ca_key: Any, ca_cert: Any, names: Sequence[str]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    cert = _signed("curidask cluster node", key, ca_cert, ca_key, names)
    _write_key(folder / KEY, key)
    (folder / CERT).write_bytes(_pem(cert))
    return cert


def _signed(name: str, key: Any, ca_cert: Any, ca_key: Any, names: Sequence[str]) -> Any:
    """A certificate for a key: an authority's own without `ca_cert`, else a node's, for both ends of a connection."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_authority = ca_cert is None
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=VALID_DAYS)
    if not is_authority:
        until = min(until, ca_cert.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_authority else ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(_usage(is_authority), critical=True)
    )
    if not is_authority:
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in names])
        builder = builder.add_extension(both, critical=False).add_extension(alternatives, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _usage(is_authority: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(cert: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    data: bytes = cert.public_bytes(Encoding.PEM)
    return data


def _write_key(path: Path, key: Any) -> None:
    """Write a private key into a file that was never readable by others."""
    data = _private_pem(key)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _private_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


# --- tls -------------------------------------------------------------------------------------------------------------
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
