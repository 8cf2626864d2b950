"""Several hosts on one machine: network namespaces on one switch, each with its own name and view of the disk."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import Processes, install, wait_for
from tests.s3server import SERVICES, free_ports

WEED = Path(sys.executable).parent / "weed"


@dataclass(frozen=True)
class WorkerMonitor:
    """A host: what runs in it has its own loopback, one address on the switch, its own host name and hidden folders."""

    name: str
    address: str
    namespace: str
    switch: str
    hidden: tuple[Path, ...] = ()

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs a command on the host."""
        hide = [f"mount -t tmpfs tmpfs {shlex.quote(str(folder))}" for folder in self.hidden]
        script = " && ".join([*hide, f"hostname {self.name}", f"exec {shlex.join(map(str, arguments))}"])
        isolated = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", script]
        return ["ip", "netns", "exec", self.namespace, *isolated]

    def cut(self) -> None:
        """Pull its plug out of the switch."""
        ip("-n", self.switch, "link", "set", f"p-{self.name}", "down")

    def join(self) -> None:
        """Put the plug back."""
        ip("-n", self.switch, "link", "set", f"p-{self.name}", "up")

    @contextmanager
    def slowed(self, megabits: int) -> Iterator[None]:
        """Let what is sent to it come at so many megabits a second."""
        tc = ["netns", "exec", self.switch, "tc", "qdisc"]
        where = ["dev", f"p-{self.name}", "root"]
        ip(*tc, "add", *where, "tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "400ms")
        try:
            yield
        finally:
            ip(*tc, "del", *where)


@dataclass(frozen=True)
class Lan:
    """Hosts by name, and the host that is the switch, which no link cut reaches."""

    hosts: dict[str, WorkerMonitor]
    switch: WorkerMonitor

    def __getitem__(self, name: str) -> WorkerMonitor:
        return self.hosts[name]


def ip(*arguments: str) -> None:
    """Run the command `ip`."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@contextmanager
def lan(names: Sequence[str], hidden: dict[str, tuple[Path, ...]]) -> Iterator[Lan]:
    """Make hosts that reach each other and nothing else.

    Parameters
    ----------
    names : sequence of str
    hidden : dict of str to tuple of Path
        Folders that a host sees empty, so that it does not share them with the others.
    """
    install("iproute2", command="ip")
    assert os.geteuid() == 0, (
        "network namespaces need root; run these tests in a container or a virtual machine as root"
    )
    mark = secrets.token_hex(3)
    subnet = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"
    switch = f"cf{mark}-switch"
    namespaces = [switch, *(f"cf{mark}-{name}" for name in names)]
    try:
        for namespace in namespaces:
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        # Whatever asks for these addresses from outside the hosts gets nowhere.
        ip("route", "add", "blackhole", f"{subnet}.0/24")
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "address", "add", f"{subnet}.1/24", "dev", "br0")
        ip("-n", switch, "link", "set", "br0", "up")
        hosts = {}
        for number, name in enumerate(names, start=2):
            namespace = f"cf{mark}-{name}"
            ip("-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", f"p-{name}", "netns", switch)
            ip("-n", namespace, "address", "add", f"{subnet}.{number}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
            ip("-n", switch, "link", "set", f"p-{name}", "master", "br0", "up")
            hosts[name] = WorkerMonitor(name, f"{subnet}.{number}", namespace, switch, hidden.get(name, ()))
        yield Lan(hosts, WorkerMonitor("switch", f"{subnet}.1", switch, switch))
    finally:
        subprocess.run(["ip", "route", "del", "blackhole", f"{subnet}.0/24"], capture_output=True, check=False)
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


@contextmanager
def s3_server(host: WorkerMonitor, folder: Path) -> Iterator[dict[str, str]]:
    """An S3 server on a host with the bucket ``cache``; what its clients need in their environment."""
    account = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    # Its sockets lie in /tmp with the ports in their names, so those of two servers must differ in any network.
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    endpoint = f"http://{host.address}:{ports['s3.port']}"
    arguments = [
        f"-dir={folder / 'data'}",
        "-bucket=cache",
        f"-ip={host.address}",
        f"-ip.bind={host.address}",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{service}={port}" for service, port in ports.items()),
    ]
    with Processes(folder) as processes:
        processes.start("s3", host.command(WEED, "mini", *arguments), env=os.environ | account)
        look = host.command(sys.executable, "-c", READY, endpoint)
        ready = lambda: subprocess.run(look, env=os.environ | account, capture_output=True, check=False).returncode == 0  # noqa: E731
        wait_for(ready, 60, "the S3 server")
        yield account | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


READY = """
import sys, botocore.session
from botocore.config import Config
client = botocore.session.Session().create_client(
    "s3", endpoint_url=sys.argv[1], region_name="us-east-1",
    config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
)
client.put_object(Bucket="cache", Key=".ready", Body=b"")
"""
