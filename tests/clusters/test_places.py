"""One experiment in many places: by address, on SLURM, on hosts that share only S3. Results are the same everywhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import curidask as cf
from tests.clusters.conftest import SLURM_CLUSTER, Address, Hosts, counted, payload, ran
from tests.conftest import DEMO, TABLE, Project
from tests.slurm import Slurm


def test_digits_by_address_and_on_slurm(
    digits: Project, shared_address: Address, shared_slurm: Slurm, digits_in_process: dict[str, str]
) -> None:
    digits.write("curidask.toml", SLURM_CLUSTER)
    env = shared_address.env | shared_slurm.env
    by_address = digits.experiment("digits", "-p", "quick", "--scheduler", shared_address.url, env=env)
    assert by_address.returncode == 0, by_address.stderr
    assert payload(digits.cache) == digits_in_process
    on_slurm = digits.experiment("digits", "-p", "quick", "--cluster", "slurm", "-c", "other", env=env)
    assert on_slurm.returncode == 0, on_slurm.stderr
    assert payload(digits.root / "other") == digits_in_process
    workers = {task["worker"] for task in digits.last_run()["tasks"] if task["status"] == "done"}
    assert len(workers) == 2
    # What the first cluster made, the second reuses.
    options = ["--cluster", "slurm", "--overwrite-stage", "compare"]
    again = digits.experiment("digits", "-p", "quick", *options, env=env)
    assert again.returncode == 0, again.stderr
    assert ran(digits) == {"compare": 1}
    assert payload(digits.cache) == digits_in_process
    assert not shared_slurm.jobs()


def test_digits_on_hosts_that_share_only_s3(
    digits: Project, shared_hosts: Hosts, digits_in_process: dict[str, str]
) -> None:
    options = ["digits", "-p", "quick", "--cache", "s3://cache/digits"]
    done = shared_hosts.run(digits, "experiment", *options, "--scheduler", shared_hosts.url)
    assert done.returncode == 0, done.stderr
    assert shared_hosts.digests(digits, "s3://cache/digits") == digits_in_process
    hosts = {task["worker"].partition(":")[0] for task in digits.last_run()["tasks"] if task["status"] == "done"}
    assert hosts == {"a", "b"}
    again = shared_hosts.run(digits, "experiment", *options, "--parallel", "2", "--overwrite-stage", "compare")
    assert again.returncode == 0, again.stderr
    assert ran(digits) == {"compare": 1}


FILES = '''
import json, os, sys, warnings
from pathlib import Path

import curidask as cf
from curidask.caching import JsonCacher

HERE = Path(__file__).parent
FOLDER = os.path.dirname(os.path.dirname(__file__))


@cf.stage(None, ["read"], [JsonCacher])
def read(record):
    """Find the same files by several ways, and a module that is imported here only."""
    from lib.sub import late
    from lib import later

    warnings.warn("the data look odd")
    paths = ["project/data.json", HERE.parent / "project/data.json", os.path.join(FOLDER, "project/data.json")]
    return [json.loads(Path(path).read_text()) for path in paths] + [late.NAME, later.NAME]


@cf.stage(["read"], ["other"])
def read_other(record, read):
    return Path("project/other.txt").read_text()


@cf.stage(["read"], ["program"])
def ask(record, read):
    return os.path.basename(sys.argv[0])


@cf.stage(["read"], ["bad"], [JsonCacher])
def fail(record, read):
    raise ValueError("this line is shown")


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    record = read(cf.Record(manager, param_sets[0]))
    print("read:", record.state["read"], ask(record).state["program"])
    read_other(record.make_copy())
    fail(record)
'''


@pytest.fixture
def files(project: Project) -> Project:
    """A project with a data file, and modules that only a stage imports."""
    project.write("curidask.toml", 'ship = ["project/*.json"]')
    project.write("experiments/files.py", FILES)
    project.write("project/data.json", '{"x": 1}')
    project.write("project/other.txt", "which is not shipped")
    project.write("lib/__init__.py", "")
    project.write("lib/sub/late.py", "from . import deep\nNAME = deep.NAME + '!'")
    project.write("lib/sub/deep.py", "NAME = 'deep'")
    project.write("lib/later.py", "NAME = 'later'")
    return project


@pytest.mark.parametrize(
    "where",
    [
        "in process",
        "2 workers",
        pytest.param("by address", marks=pytest.mark.xdist_group("address")),
        pytest.param("hosts", marks=pytest.mark.xdist_group("hosts")),
    ],
)
def test_files_are_found_under_the_same_path(files: Project, where: str, request: pytest.FixtureRequest) -> None:
    if where == "hosts":
        hosts: Hosts = request.getfixturevalue("shared_hosts")
        done = hosts.run(files, "experiment", "files", "--scheduler", hosts.url, "--cache", "s3://cache/files")
    else:
        place, env = ["--parallel", "2" if where == "2 workers" else "0"], {}
        if where == "by address":
            address: Address = request.getfixturevalue("shared_address")
            place, env = ["--scheduler", address.url], address.env
        done = files.experiment("files", *place, env=env)
    assert done.stdout.strip() == "read: [{'x': 1}, {'x': 1}, {'x': 1}, 'deep!', 'later'] experiment", done.stderr
    assert done.returncode == 1
    # The user's file and line, also where the worker does not have them.
    assert str(files.root / "experiments/files.py") in done.stderr
    assert 'raise ValueError("this line is shown")' in done.stderr
    shown = [line for line in done.stderr.splitlines() if "UserWarning: the data look odd" in line]
    prefix = "" if where == "in process" else "[only read] "
    source = '    warnings.warn("the data look odd")'
    at = f"{files.root}/experiments/files.py:{FILES.splitlines().index(source) + 1}"
    assert shown == [f"{prefix}{at}: UserWarning: the data look odd"]
    assert prefix + source[2:] in done.stderr.splitlines()
    assert ("`ship` in the configuration names: add 'project/other.txt'" in done.stderr) == (where == "hosts")


def test_patterns_that_ship_nothing_or_too_far_are_mistakes(files: Project, shared_hosts: Hosts) -> None:
    options = ["files", "--scheduler", shared_hosts.url, "--cache", "s3://cache/patterns"]
    for pattern, said in (("project/*.csv", "No file matches"), ("../*.json", "leads out")):
        files.write("curidask.toml", f'ship = ["{pattern}"]')
        refused = shared_hosts.run(files, "experiment", *options)
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr


def test_long_lived_workers_run_the_code_of_today(demo: Project, calls: Path, shared_address: Address) -> None:
    options = ["demo", "--scheduler", shared_address.url]
    assert demo.experiment(*options, env=shared_address.env).returncode == 0
    text = (demo.root / "experiments/demo.py").read_text()
    demo.write("experiments/demo.py", text.replace("*= 10", "*= 20"))
    changed = demo.experiment(*options, env=shared_address.env)
    assert changed.returncode == 0, changed.stderr
    assert sorted('"set3": 63' in table.read_text() for table in demo.artifacts("gather_table")) == [False, True]


def test_drivers_with_modules_of_the_same_names_at_once(tmp_path: Path, calls: Path, own_address: Address) -> None:
    own_address.start_worker("--nthreads", "3", "--no-nanny")
    runs: list[tuple[Project, int, subprocess.Popen[str]]] = []
    for factor in (10, 20, 30):
        project = Project(tmp_path / f"of {factor}")
        project.write("curidask.toml", f'[cluster.own]\nkind = "address"\naddress = "{own_address.url}"')
        text = DEMO.replace("*= 10", "*= lib.FACTOR").replace(
            "import curidask as cf", "import curidask as cf\nimport lib"
        )
        project.write("experiments/demo.py", text.replace('note(record, "score")', "import time; time.sleep(0.2)"))
        project.write("lib.py", f"FACTOR = {factor}")
        runs.append((project, factor, project.start("demo", "--cluster", "own", env=own_address.env)))
    for project, factor, process in runs:
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
        (table,) = project.artifacts("gather_table")
        assert f'"set3": {3 + 3 * factor}' in table.read_text()


def test_names_addresses_clients_and_clusters_from_python(
    in_project: Project, shared_address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    from curidask.clusters.tls import find_tls

    monkeypatch.setenv("XDG_CONFIG_HOME", shared_address.env["XDG_CONFIG_HOME"])
    in_project.write("curidask.toml", f'[cluster.lab]\nkind = "address"\naddress = "{shared_address.url}"')
    assert cf.run_experiment("demo", cluster="lab") == TABLE
    assert len(in_project.calls()) == 13
    assert cf.run_experiment("demo", cluster=shared_address.url, overwrite=True) == TABLE
    with Client(shared_address.url, security=find_tls(None).as_security(), set_as_default=False) as client:
        assert cf.run_experiment("demo", cluster=client, overwrite=True) == TABLE
        assert client.status == "running"
        assert client.submit(int, 5).result() == 5
    with LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        assert cf.run_experiment("demo", cluster=cluster, overwrite=True) == TABLE
        assert cluster.status.name == "running"
        assert len(cluster.scheduler_info["workers"]) == 2
        with pytest.raises(cf.errors.ConfigurationError):
            cf.run_experiment("demo", cluster=cluster, parallel=2)
    assert len(in_project.calls()) == 13
    with pytest.raises(cf.errors.ConfigurationError):
        cf.run_experiment("demo", cluster=42)


def test_live_session_on_a_cluster_returns_at_once(
    in_project: Project, shared_address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", shared_address.env["XDG_CONFIG_HOME"])
    gate = in_project.root / "gate"

    @cf.stage(None, ["x"])
    def wait(record):
        while not gate.exists():
            pass
        return record.params.name

    with cf.ArtifactManager("live", cluster=shared_address.url) as manager:
        record = wait(cf.Record(manager, cf.ExperimentParameters("one")))
        gate.touch()  # comes to pass only because the stage did not keep us
        assert record.state["x"] == "one"


def test_other_classes_of_clusters(demo: Project, calls: Path) -> None:
    demo.write(
        "curidask.toml",
        """
        default_cluster = "two"
        [cluster.two]
        kind = "distributed:LocalCluster"
        minimum = 0
        maximum = 2
        threads_per_worker = 1
        host = "127.0.0.1"
        dashboard_address = "127.0.0.1:0"
        [cluster.threads]
        kind = "distributed:LocalCluster"
        n_workers = 1
        processes = false
        dashboard_address = "127.0.0.1:0"
        """,
    )
    done = demo.experiment("demo")
    assert done.returncode == 0, done.stderr
    assert "cluster 'two'" in done.stderr
    assert len(counted(calls)) == 13
    refused = demo.experiment("demo", "--cluster", "threads", "--overwrite")
    assert refused.returncode == 1
    assert "thread of this very process" in refused.stderr
    assert counted(calls) == {}
