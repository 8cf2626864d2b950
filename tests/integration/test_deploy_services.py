"""What the files under deploy/ start, really run: the services of compose.yaml, and the driver's job on a SLURM."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DEMO, Project, clean_environment
from tests.containers import REPOSITORY, Compose, Image, running
from tests.slurm import Slurm

DEPLOY = REPOSITORY / "deploy"
TWO_SETS = ("digits", "-n", "svm-300-seed1", "-n", "logistic-300-seed1", "--plain")

# The official image's own start script gives the volume to an unprivileged user, and then runs this.
STORE = {"chrislusf/seaweedfs": Image(entrypoint=["weed"])}

RESULTS = """
import json, sys
from curidask.store.backends.base import open_objects
found = []
for cache in sys.argv[1:]:
    store = open_objects(cache)
    names = [name for name in store.list() if name.endswith(".json") and not name.endswith("_metadata.json")]
    found.append({name.rpartition("/")[2]: store.read(name).decode() for name in names})
print(json.dumps(found))
"""

KNOCKS = """
import socket, ssl, sys

def knock(certificate=None):
    context = ssl.create_default_context(cafile="/srv/tls/ca.pem")
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(f"{certificate}/node.pem", f"{certificate}/node.key")
    try:
        with socket.create_connection(("scheduler", 8786), 10) as plain, context.wrap_socket(plain) as secured:
            return "let in" if secured.recv(1) else "turned away"  # a scheduler speaks first
    except ssl.SSLError:
        return "turned away"

def knock_without_tls():
    try:
        with socket.create_connection(("scheduler", 8786), 10) as plain:
            plain.sendall(bytes(64))
            return "turned away" if plain.recv(1) in (b"", bytes([21])) else "let in"  # 21 is an alert of TLS
    except ConnectionResetError:
        return "turned away"

print(knock("/srv/tls"), knock("/tmp/other"), knock(), knock_without_tls(), sep=", ")
"""

pytestmark = pytest.mark.timeout(600)  # processes that import much; a busy machine takes its time


# --- compose ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    work = tmp_path_factory.mktemp("compose")
    checkout = work / "checkout"
    shutil.copytree(DEPLOY, checkout / "deploy", ignore=shutil.ignore_patterns("s3.env"))
    shutil.copytree(REPOSITORY / "examples" / "digits", checkout / "examples" / "digits")
    subprocess.run(["sh", checkout / "deploy" / "secrets.sh"], check=True, capture_output=True)
    with running(checkout / "deploy" / "compose.yaml", work, STORE) as made:
        yield made


@pytest.fixture(scope="module")
def first(compose: Compose) -> subprocess.CompletedProcess[str]:
    """The first run of the experiment."""
    return compose.run("driver", *TWO_SETS)


def test_the_driver_runs_the_example_on_the_workers(compose: Compose, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout
    assert "2 workers" in first.stdout
    (record,) = (compose.work / "volumes" / "output" / "runs").glob("*/run.json")
    assert json.loads(record.read_text())["status"] == "done"


def test_it_gives_what_a_run_in_one_process_gives(compose: Compose, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout
    caches = "/srv/output/cache", "s3://curidask/cache"
    alone = compose.run("driver", *TWO_SETS, "--parallel", "0", "-c", caches[0], entrypoint=["experiment"])
    assert alone.returncode == 0, alone.stdout
    done = compose.run("driver", "-c", RESULTS, *caches, entrypoint=["python"])
    assert done.returncode == 0, done.stdout
    expected, found = json.loads(done.stdout.splitlines()[-1])
    assert any("leaderboard" in name for name in expected)
    assert found == expected


def test_the_second_run_reuses_everything(compose: Compose, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout
    second = compose.run("driver", *TWO_SETS)
    assert second.returncode == 0, second.stdout
    assert "everything was in the cache" in second.stdout
    assert [line for line in second.stdout.splitlines() if line.startswith("svm,")] == [
        line for line in first.stdout.splitlines() if line.startswith("svm,")
    ]


def test_the_check_of_the_cluster_finds_no_fault(compose: Compose) -> None:
    done = compose.run("driver", "cluster", "check", "tls://scheduler:8786", entrypoint=["curidask"])
    assert done.returncode == 0, done.stdout


def test_scheduler_and_workers_open_no_port_but_those_of_the_cluster(compose: Compose) -> None:
    compose.up_dependencies("driver")
    assert open_ports(compose, "scheduler-1") == {"8786"}
    assert "8787" not in open_ports(compose, "worker-1")


def open_ports(compose: Compose, container: str) -> set[str]:
    """What others can connect to."""
    listed = compose.inside(container, "ss", "--listening", "--tcp", "--numeric", "--no-header").stdout
    addresses = [line.split()[3] for line in listed.splitlines()]
    assert addresses
    return {a.rpartition(":")[2] for a in addresses if not a.startswith(("127.", "[::1]"))}


def test_only_who_has_a_certificate_of_the_authority_is_let_in(compose: Compose) -> None:
    script = 'curidask cluster certs --folder /tmp/other >/dev/null && exec python -c "$0"'
    done = compose.run("driver", "-c", script, KNOCKS, entrypoint=["sh"])
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip() == "let in, turned away, turned away, turned away"


def test_the_store_asks_for_the_key(compose: Compose) -> None:
    compose.up_dependencies("driver")
    url = "http://store:8333/curidask/?list-type=2"
    done = compose.run("driver", "-q", "-S", "-O", "-", url, entrypoint=["wget"])
    assert done.returncode != 0
    assert "403" in done.stdout


def test_containers_can_write_nothing_but_their_volumes(compose: Compose) -> None:
    tries = "for f in / /srv /srv/project /srv/tls /etc; do touch $f/x && echo wrote $f; done"
    script = f"{tries}; touch /tmp/x /srv/output/x"
    done = compose.run("driver", "-c", script, entrypoint=["sh"])
    assert done.returncode == 0, done.stdout
    assert "wrote" not in done.stdout


# --- SLURM -----------------------------------------------------------------------------------------------------------
SITE = {"queue": "debug", "account": None, "interface": "lo", "memory": "500MB", "maximum": 2, "walltime": "00:10:00",
        "wait_seconds": 120, "job_script_prologue": ["export OMP_NUM_THREADS=1"],
        "worker_extra_args": ["--lifetime", "9m", "--lifetime-stagger", "10s"]}  # fmt: skip
"""What differs here from the site that the configuration is written for."""


@pytest.fixture
def on_slurm(tmp_path: Path) -> Project:
    """A project with the site's configuration and the driver's script."""
    made = Project(tmp_path / "project")
    made.write("experiments/demo.py", DEMO)
    shutil.copy(DEPLOY / "slurm" / "driver.sbatch", made.root)
    table = tomllib.loads((DEPLOY / "slurm" / "curidask.toml").read_text())["cluster"]["slurm"]
    assert set(SITE) <= set(table)
    lines = [f"{key} = {json.dumps(value)}" for key, value in (table | SITE).items() if value is not None]
    made.write("curidask.toml", "\n".join(["[cluster.slurm]", *lines, ""]))
    return made


def submit(shared_slurm: Slurm, project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = clean_environment() | shared_slurm.env
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sbatch", "--parsable", "--mem=100M", "--time=10", *arguments]
    return subprocess.run(command, cwd=project.root, env=variables, capture_output=True, text=True, check=False)


def test_the_driver_as_a_job_runs_its_workers_as_jobs(shared_slurm: Slurm, on_slurm: Project) -> None:
    done = submit(shared_slurm, on_slurm, "--wait", "driver.sbatch", "demo")
    said = "".join(path.read_text() for path in on_slurm.root.glob("curidask-driver-*.out"))
    assert done.returncode == 0, done.stderr + said
    assert re.search(r"cluster 'slurm'", said), said
    assert on_slurm.calls()["gather_None"] == 1
    assert on_slurm.last_run()["status"] == "done"
    assert shared_slurm.command("squeue", "--noheader", "--name=dask-worker", "--states=RUNNING,PENDING") == ""


def test_a_driver_without_an_experiment_says_how_to_use_it(shared_slurm: Slurm, on_slurm: Project) -> None:
    done = submit(shared_slurm, on_slurm, "--wait", "driver.sbatch")
    said = "".join(path.read_text() for path in on_slurm.root.glob("curidask-driver-*.out"))
    assert done.returncode == 2
    assert "usage" in said
