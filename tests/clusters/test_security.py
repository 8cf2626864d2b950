"""Who may reach a run: loopback unless told, TLS with certificates of one authority, nobody else."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from curidask.clusters.tls import make_certificates
from tests.clusters.conftest import SLURM_CLUSTER, Address, Hosts, counted, start_on
from tests.conftest import Project
from tests.processes import Processes, wait_for
from tests.slurm import Slurm


def test_certs_command(project: Project, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = project.command("curidask", "cluster", "certs", "--host", "node7.example.org", "--host", "10.9.8.7", env=env)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "config/curidask/tls"
    for name in ("ca.key", "node.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert name in done.stdout
    cert = x509.load_pem_x509_certificate((folder / "node.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    cert.verify_directly_issued_by(ca)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "node7.example.org" in names.get_values_for_type(x509.DNSName)
    assert "10.9.8.7" in map(str, names.get_values_for_type(x509.IPAddress))
    for made in (cert, ca):
        valid = made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=363) < valid <= datetime.timedelta(days=365)
    # A renewed certificate is of the same authority, so that the other machines trust it.
    assert project.command("curidask", "cluster", "certs", env=env).returncode == 0
    renewed = x509.load_pem_x509_certificate((folder / "node.pem").read_bytes())
    renewed.verify_directly_issued_by(ca)
    assert renewed.serial_number != cert.serial_number


def test_certs_mistakes(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "damaged"
    make_certificates(folder)
    (folder / "ca.key").write_text("damaged")
    for arguments, said in (
        (["--folder", str(tmp_path / "file" / "sub")], "cannot be written"),
        (["--folder", str(folder)], "authority"),
        (["--host", "no host"], "no host"),
    ):
        refused = project.command("curidask", "cluster", "certs", *arguments, env={"XDG_CONFIG_HOME": str(tmp_path)})
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


def tls_handshake(port: int, context: ssl.SSLContext) -> None:
    """Connect and wait for a first byte, which a server that turns us away does not send."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as secured:
        if not secured.recv(1):
            raise ConnectionError("turned away")


def test_strangers_are_turned_away(shared_address: Address, tmp_path: Path, certificates: Path) -> None:
    make_certificates(tmp_path / "strange" / "curidask" / "tls")
    own, other = certificates / "curidask/tls", tmp_path / "strange/curidask/tls"
    nobody = ssl.create_default_context(cafile=str(own / "ca.pem"))
    nobody.check_hostname = False
    stranger = ssl.create_default_context(cafile=str(own / "ca.pem"))
    stranger.check_hostname = False
    stranger.load_cert_chain(other / "node.pem", other / "node.key")
    friend = ssl.create_default_context(cafile=str(own / "ca.pem"))
    friend.check_hostname = False
    friend.load_cert_chain(own / "node.pem", own / "node.key")
    for context in (nobody, stranger):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls_handshake(shared_address.port, context)
    with socket.create_connection(("127.0.0.1", shared_address.port), timeout=5) as plain:
        plain.sendall(b"hello")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) in (b"", b"\x15")  # closed, or an alert of TLS
    tls_handshake(shared_address.port, friend)


def test_run_with_other_certificates_ends_with_a_clear_error(
    demo: Project, calls: Path, shared_address: Address, tmp_path: Path
) -> None:
    make_certificates(tmp_path / "strange" / "curidask" / "tls")
    for url, env in (
        (shared_address.url, {"XDG_CONFIG_HOME": str(tmp_path / "strange")}),
        (shared_address.url.replace("tls://", "tcp://"), shared_address.env),
    ):
        demo.write("curidask.toml", f'[cluster.x]\nkind = "address"\naddress = "{url}"\nwait_seconds = 3')
        refused = demo.experiment("demo", "--cluster", "x", env=env)
        assert refused.returncode == 1
        assert "There is no answer" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert counted(calls) == {}


def open_ports(session: int) -> set[str]:
    """The addresses on which the processes of a session listen."""
    listed = subprocess.run(["ps", "-eo", "sid=,pid="], capture_output=True, text=True, check=True).stdout
    pids = {pid for sid, pid in map(str.split, listed.splitlines()) if sid == str(session)}
    sockets = subprocess.run(["ss", "-Hltunp"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[4] for line in sockets if any(f"pid={pid}," in line for pid in pids)}


def test_default_mode_opens_no_port_beyond_loopback(demo: Project, calls: Path) -> None:
    text = (demo.root / "experiments/demo.py").read_text()
    waiting = 'note(record, "load")\n    import time\n    while not (CALLS / "open").exists(): time.sleep(0.01)'
    demo.write("experiments/demo.py", text.replace('note(record, "load")', waiting))
    run = demo.start("demo", "--parallel", "2")
    wait_for(lambda: len(list(calls.glob("load_*"))) == 2, what="two stages")
    ports = open_ports(run.pid)
    (calls / "open").touch()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert len(ports) >= 3  # the scheduler, and the workers
    assert {port.rpartition(":")[0] for port in ports} == {"127.0.0.1"}


def test_plain_connection_to_another_host_has_to_be_asked_for(
    demo: Project, calls: Path, shared_hosts: Hosts, tmp_path: Path
) -> None:
    host = shared_hosts.net["b"]
    url = f"tcp://{host.address}:8799"
    options = ["experiment", "demo", "--cache", "s3://cache/plain", "--scheduler", url]
    with Processes(tmp_path / "plain") as processes:
        start_on(host, processes, ["scheduler", "--host", host.address, "--port", "8799", "--no-dashboard"], {})
        start_on(host, processes, ["worker", url, "--nthreads", "1", "--no-nanny", "--no-dashboard"], shared_hosts.env)
        refused = shared_hosts.run(demo, *options)
        assert refused.returncode == 2
        assert "--insecure" in refused.stderr
        assert counted(calls) == {}
        done = shared_hosts.run(demo, *options, "--insecure")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("is not encrypted") == 1
        assert len(counted(calls)) == 13


def test_jobs_are_reached_by_tls_and_open_nothing_else(shared_slurm: Slurm, demo: Project, calls: Path) -> None:
    text = (demo.root / "experiments/demo.py").read_text()
    waiting = 'note(record, "load")\n    import time\n    while not (CALLS / "open").exists(): time.sleep(0.01)'
    demo.write("experiments/demo.py", text.replace('note(record, "load")', waiting))
    demo.write("curidask.toml", SLURM_CLUSTER.replace("n_workers = 2", "n_workers = 1"))
    run = demo.start("demo", "--cluster", "slurm", env=shared_slurm.env)
    wait_for(lambda: list(calls.glob("load_*")), 60, what="a stage")
    ports = open_ports(run.pid)
    refused = 0
    for port in ports:
        with socket.create_connection(("127.0.0.1", int(port.rpartition(":")[2])), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = plain.recv(16)
            refused += not answer.startswith(b"HTTP")
    keys = [path for path in (demo.root / "logs/clusters").rglob("*") if ".tls-" in str(path) and path.is_file()]
    (calls / "open").touch()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert refused >= 1  # the scheduler, without the dashboard
    assert {port.rpartition(":")[0] for port in ports} == {"127.0.0.1"}
    assert keys
    assert not any(path.exists() for path in keys)
