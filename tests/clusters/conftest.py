"""Clusters for tests: a scheduler with TLS and workers by address, SLURM, and hosts that share nothing but S3."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from curidask.clusters.tls import make_certificates
from tests.conftest import DEMO, Project, clean_environment, without_key
from tests.hosts import Lan, WorkerMonitor, lan, s3_server
from tests.prepared import COMMANDS
from tests.processes import Processes, answers, free_port, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"

NOTED = 'CALLS = Path(__file__).parent.parent / "calls"'


@pytest.fixture(scope="session")
def common() -> Iterator[Path]:
    """A folder that all hosts see, outside of what the tests hide from them."""
    with tempfile.TemporaryDirectory(prefix="curidask-tests-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def certificates(common: Path) -> Path:
    """A folder to be XDG_CONFIG_HOME, in which certificates are found."""
    make_certificates(common / "config" / "curidask" / "tls")
    return common / "config"


def tls_arguments(config: Path) -> list[str]:
    """The certificates as arguments of dask's commands."""
    tls = config / "curidask" / "tls"
    names = {"ca-file": "ca.pem", "cert": "node.pem", "key": "node.key"}
    return [argument for name, file in names.items() for argument in (f"--tls-{name}", str(tls / file))]


IDLE = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s"}
"""What keeps dask's processes from taking 3 % of a core each while nothing is to be done."""


# --- by address ------------------------------------------------------------------------------------------------------
class Address:
    """A scheduler with TLS on loopback, and workers, that know nothing of any project."""

    def __init__(self, processes: Processes, config: Path) -> None:
        self.processes = processes
        self.config = config
        self.port = free_port()
        self.url = f"tls://127.0.0.1:{self.port}"
        self.env = {"XDG_CONFIG_HOME": str(config)}
        self.start_scheduler()

    def start_scheduler(self) -> None:
        """Start the scheduler, at the same address each time."""
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--protocol", "tls", "--no-dashboard"]
        self.scheduler = self._start("scheduler", ["scheduler", *arguments])
        wait_for(lambda: answers("127.0.0.1", self.port), what="the scheduler")

    def start_worker(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a worker of one thread."""
        options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(self.processes.folder)]
        return self._start("worker", ["worker", self.url, *options, *arguments], env or {})

    def wait_for_workers(self, n_workers: int) -> None:
        """Return when so many have come, since the start."""
        wait_for(lambda: self.processes.said("worker").count("Registered to") >= n_workers, 60, f"{n_workers} workers")

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        line = [COMMANDS / "dask", *command, *tls_arguments(self.config)]
        return self.processes.start(name, line, env=clean_environment() | IDLE | (env or {}))


@pytest.fixture(scope="package")
def shared_address(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A scheduler with two workers that lives as long as the tests: nothing may be done to it."""
    with Processes(tmp_path_factory.mktemp("address")) as processes:
        address = Address(processes, certificates)
        for _ in range(2):
            address.start_worker()
        address.wait_for_workers(2)
        yield address


@pytest.fixture
def own_address(certificates: Path, tmp_path: Path) -> Iterator[Address]:
    """A scheduler of the test's own, without workers."""
    with Processes(tmp_path / "address") as processes:
        yield Address(processes, certificates)


# --- SLURM -----------------------------------------------------------------------------------------------------------
SLURM_CLUSTER = """
[cluster.slurm]
kind = "slurm"
n_workers = 2
queue = "debug"
memory = "1GB"
walltime = "00:10:00"
interface = "lo"
wait_seconds = 60
"""


# --- hosts -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Hosts:
    """Hosts, the address of a scheduler on one of them, and what drivers need in their environment."""

    net: Lan
    url: str
    env: dict[str, str]
    processes: Processes

    def start(
        self, project: Project, *command: str, env: dict[str, str] | None = None, on: str = "driver"
    ) -> subprocess.Popen[str]:
        """Start a command of a project on a host."""
        return subprocess.Popen(
            self.net[on].command(COMMANDS / command[0], *command[1:]),
            cwd=project.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment() | self.env | (env or {}),
            start_new_session=True,
        )

    def run(
        self, project: Project, *command: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of a project on the driver's host."""
        process = self.start(project, *command, env=env)
        try:
            output, errors = process.communicate(timeout=120)
        finally:
            Processes.stop(process)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def digests(self, project: Project, cache: str) -> dict[str, str]:
        """The digests of the payload in a cache on the S3 server."""
        return json.loads(self.run(project, "python", "-c", DIGESTS, cache).stdout)


DIGESTS = """
import hashlib, json, sys
from curidask.store.backends.base import open_objects
store = open_objects(sys.argv[1])
names = [name for name in store.list() if not name.endswith("_metadata.json")]
print(json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in store.read_many(names).items()}))
"""


def start_hosts(
    net: Lan, env: dict[str, str], processes: Processes, config: Path, scheduler: WorkerMonitor, workers: Sequence[str]
) -> Hosts:
    """Start a scheduler on a host, and a worker on each of others."""
    env = env | {"XDG_CONFIG_HOME": str(config)}
    url = f"tls://{scheduler.address}:8786"
    arguments = ["scheduler", "--protocol", "tls", "--host", scheduler.address, "--port", "8786", "--no-dashboard"]
    start_on(scheduler, processes, [*arguments, *tls_arguments(config)], env)
    for name in workers:
        worker = ["worker", url, "--nthreads", "1", "--no-nanny", "--no-dashboard", *tls_arguments(config)]
        start_on(net[name], processes, worker, env)
    return Hosts(net, url, env, processes)


def start_on(host: WorkerMonitor, processes: Processes, command: Sequence[str], env: dict[str, str]) -> None:
    """Start one of dask's commands on a host, in the root folder, which is no project's."""
    line = host.command(COMMANDS / "dask", *command)
    processes.start(f"{command[0]}-{host.name}", line, env=clean_environment() | IDLE | env, cwd=Path("/"))


@pytest.fixture(scope="package")
def network(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lan, dict[str, str]]]:
    """Hosts and an S3 server; nothing of dask runs yet.

    Hosts a and b see nothing of what the tests write. The links of far, c and d may be cut.
    """
    base = tmp_path_factory.getbasetemp()
    with (
        lan(["driver", "a", "b", "far", "c", "d"], {"a": (base,), "b": (base,)}) as net,
        s3_server(net.switch, tmp_path_factory.mktemp("s3")) as s3,
    ):
        yield net, s3


@pytest.fixture(scope="package")
def shared_hosts(
    network: tuple[Lan, dict[str, str]], certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    """A scheduler on a, and workers on a and b: nothing may be done to them."""
    net, s3 = network
    with Processes(tmp_path_factory.mktemp("hosts")) as processes:
        yield start_hosts(net, s3, processes, certificates, net["a"], "ab")


@pytest.fixture
def frail_hosts(network: tuple[Lan, dict[str, str]], certificates: Path, tmp_path: Path) -> Iterator[Hosts]:
    """A scheduler on the switch, workers on c and d, whose links may be cut, and dask's shortest patience with them."""
    net, _ = network
    env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
    with Processes(tmp_path / "frail") as processes:
        yield start_hosts(net, env, processes, certificates, net.switch, "cd")
        for name in ("far", "c", "d"):
            net[name].join()


# --- projects --------------------------------------------------------------------------------------------------------
@pytest.fixture
def calls(common: Path) -> Iterator[Path]:
    """A folder that stages note their calls in, wherever they run."""
    folder = Path(tempfile.mkdtemp(dir=common))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def demo(project: Project, calls: Path) -> Project:
    """The demo, which counts its calls in `calls`."""
    project.write("experiments/demo.py", counting(DEMO, calls))
    return project


def counting(text: str, calls: Path) -> str:
    """The text of an experiment with another folder to count calls in."""
    assert NOTED in text
    return text.replace(NOTED, f"CALLS = Path({str(calls)!r})")


def counted(calls: Path) -> dict[str, int]:
    """How often each stage ran for each set; and forget it."""
    counts = {path.name: len(path.read_text()) for path in sorted(calls.glob("*_*"))}
    for path in calls.glob("*_*"):
        path.unlink()
    return counts


@pytest.fixture
def digits(tmp_path: Path) -> Project:
    """The example `digits`."""
    shutil.copytree(
        EXAMPLES / "digits", tmp_path / "digits", ignore=shutil.ignore_patterns("data", "logs", "__pycache__")
    )
    return Project(tmp_path / "digits")


@pytest.fixture(scope="session")
def digits_in_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of what the quick sets of `digits` give in one process."""
    folder = tmp_path_factory.mktemp("alone") / "digits"
    shutil.copytree(EXAMPLES / "digits", folder, ignore=shutil.ignore_patterns("data", "logs", "__pycache__"))
    done = Project(folder).experiment("digits", "-p", "quick", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    return payload(folder / "data" / "cache")


def payload(cache: Path, *, keys: bool = True) -> dict[str, str]:
    """The digests of the payload in a folder, by their names; without `keys`, whatever the code is."""
    files = [p for p in cache.iterdir() if not p.name.endswith("_metadata.json") and not p.name.startswith(".")]
    assert files
    found = {
        path.name if keys else without_key(path.name): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    assert len(found) == len(files)
    return found


def ran(project: Project) -> dict[str, int]:
    """How many tasks of each stage the last run carried out."""
    counts: dict[str, int] = {}
    for task in project.last_run()["tasks"]:
        if task["status"] == "done":
            counts[task["stage"]] = counts.get(task["stage"], 0) + 1
    return counts


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificates and no dask settings of whoever runs the tests."""
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in [name for name in os.environ if name.startswith("DASK_")]:
        monkeypatch.delenv(name)


assert sys.platform == "linux", "the tests of clusters use network namespaces and SLURM"
