"""What all tests share: temporary projects, and the command line run as a user runs it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import prepared
from tests.s3proxy import S3Proxy
from tests.s3server import S3Server
from tests.slurm import Slurm, slurm

DEMO = '''
"""Numbers, doubled and gathered."""
from dataclasses import dataclass
from pathlib import Path

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher

CALLS = Path(__file__).parent.parent / "calls"


def note(record, stage):
    """Count an execution through a file, since workers are processes."""
    CALLS.mkdir(exist_ok=True)
    with open(CALLS / f"{stage}_{record.name}", "a") as file:
        file.write("x")


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [PickleCacher])
def load(record):
    note(record, "load")
    return {"x": record.params.x}


@cf.stage(["data"], ["middle"])
def change(record, data):
    note(record, "change")
    data["x"] *= 10
    return data


@cf.stage(["middle", "data"], ["score"], [JsonCacher])
def score(record, middle, data):
    note(record, "score")
    return middle["x"] + data["x"]


@cf.aggregate(["score"], ["table"], [JsonCacher])
def gather(record, records, score):
    note(record, "gather")
    return {r.params.name: value for r, value in score.items()}


def get_params():
    return [Params(f"set{i}", x=i) for i in range(4)]


def run(param_sets, manager):
    for params in param_sets:
        score(change(load(cf.Record(manager, params))))
    return gather(cf.Record(manager, None)).state["table"]
'''

TABLE = {f"set{i}": 11 * i for i in range(4)}

SHARED = {"network": "hosts", "shared_slurm": "slurm", "shared_address": "address"}
"""Fixtures that take long to start, and what the tests that share them in one process are called there."""
GROUPS = Path(tempfile.gettempdir(), f"curidask-tests-{os.getpid()}.json")
"""Which tests belong together, as long as they are handed out."""


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Say to a test process where to write which tests belong together: here only the names of tests are known."""
    node.workerinput["groups"] = str(GROUPS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Write that down, in the first of the processes."""
    told: dict[str, str] = getattr(config, "workerinput", {})
    if told.get("workerid") == "gw0":
        Path(told["groups"]).write_text(json.dumps({item.nodeid: group_of(item) for item in items}))


def group_of(item: pytest.Item) -> str:
    """What a test shares with others: a fixture that takes long, or one of its file."""
    marked = item.get_closest_marker("xdist_group")
    if marked:
        return str(marked.args[0])
    assert isinstance(item, pytest.Function)
    for name, group in SHARED.items():
        if name in item.fixturenames:
            return group
    found = [definitions[-1] for definitions in item._fixtureinfo.name2fixturedefs.values()]
    return item.path.stem if any(each.scope == "module" and each.baseid for each in found) else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give what is started once for many tests to one process; the largest groups come first."""
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        @functools.cached_property
        def groups(self) -> dict[str, str]:
            found: dict[str, str] = json.loads(GROUPS.read_text())  # all processes have found their tests by now
            GROUPS.unlink()
            return found

        def _split_scope(self, nodeid: str) -> str:
            return self.groups.get(nodeid) or nodeid

    return Grouped(config, log)


STARTED: list[subprocess.Popen[str]] = []


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a started command with all its workers.

    Only when it was not waited for yet: until then nothing else can have its number, and after that it has ended its
    workers itself.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own, so this is its group's number
        process.communicate()


def without_key(name: str) -> str:
    """The name of an artifact's file without what stands for its key, which the code of its stage enters."""
    return re.sub(r"\.[0-9a-f]{12}(?=\.|$)", "", name)


@dataclass
class Project:
    """A temporary project folder.

    Attributes
    ----------
    root : Path
    started : bool
        Whether commands are started as a user starts them, also those that are forked to save time otherwise.
    """

    root: Path
    started: bool = False

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def script(self, name: str, *arguments: str) -> list[str]:
        """Run a script of the project by itself, which must end well; the lines it printed."""
        done = subprocess.run(
            [sys.executable, name, *arguments],
            cwd=self.root,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def experiment(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.command("experiment", *arguments, **options)

    def command(
        self,
        name: str,
        *arguments: str,
        timeout: float = 90,
        env: dict[str, str] | None = None,
        typed: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = clean_environment() | (env or {})
        if not self.started and typed is None and name in prepared.FORKED and not prepared.READ_EARLY & set(env or ()):
            return prepared.run(name, arguments, self.root, environment, timeout)
        process = self.start(*arguments, command=name, env=env, typed=typed is not None)
        try:
            output, errors = process.communicate(typed, timeout=timeout)
        except BaseException:
            end_group(process)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start(
        self, *arguments: str, command: str = "experiment", env: dict[str, str] | None = None, typed: bool = False
    ) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, which is ended after the test whatever becomes of the test."""
        process = subprocess.Popen(
            [prepared.COMMANDS / command, *arguments],
            cwd=self.root,
            stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment() | (env or {}),
            start_new_session=True,
        )
        STARTED.append(process)
        return process

    @property
    def cache(self) -> Path:
        return self.root / "data" / "cache"

    def artifacts(self, part: str = "") -> list[Path]:
        """Payload files, sorted, whose names have a part."""
        found = self.cache.glob(f"*{part}*" if part else "*")
        return sorted(p for p in found if not p.name.startswith(".") and not p.name.endswith("_metadata.json"))

    def calls(self) -> dict[str, int]:
        """How often each stage ran for each set, as counted through files; and forget it."""
        folder = self.root / "calls"
        counts = {p.name: len(p.read_text()) for p in sorted(folder.glob("*"))} if folder.exists() else {}
        for path in folder.glob("*"):
            path.unlink()
        return counts

    def last_run(self) -> dict[str, Any]:
        """The newest run record."""
        paths = (self.root / "data" / "runs").glob("*/run.json")
        return json.loads(max(paths, key=lambda p: int(p.parent.name.split("_")[-2])).read_text())


def clean_environment() -> dict[str, str]:
    """The environment without this project's variables, and with no say of the test runner's."""
    kept = ("CURIDASK_NEAR_CACHE",)  # the test's own
    others = ("CURIDASK_", "DASK_", "PYTEST_", "PYTHONUNBUFFERED")
    found = {k: v for k, v in os.environ.items() if k in kept or not k.startswith(others)}
    return found | {"PYTHONFAULTHANDLER": "1"}  # what hangs says where, when it is aborted


@pytest.fixture(scope="session")
def shared_slurm() -> Iterator[Slurm]:
    """A SLURM with two nodes."""
    with slurm() as made:
        yield made


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, started when the first test of this process asks for it; `kill` and `restart` are allowed."""
    folder = tmp_path_factory.mktemp("s3")
    server = S3Server(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty place in the bucket, with the owner's credentials in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    s3_server.ensure_running()
    return s3_server.url(f"test-{os.urandom(6).hex()}")


@pytest.fixture
def s3_proxy(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy before the server, through which all requests of this test go."""
    with S3Proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with the demo experiment."""
    made = Project(tmp_path / "project")
    made.write("curidask.toml", "")
    made.write("experiments/demo.py", DEMO)
    return made


@pytest.fixture
def in_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The same, with this process in its folder; its modules are forgotten afterwards."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield project
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(project.root)) or name.partition(".")[0] in ("experiments", "params"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """A test that fails midway leaves no experiment running."""
    yield
    while STARTED:
        end_group(STARTED.pop())


@pytest.fixture(autouse=True)
def _no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's home or the folder the tests are started from."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CURIDASK_NEAR_CACHE", str(tmp_path / "near cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plain_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file for what is configured for S3, in an environment where nothing is."""
    import botocore.loaders

    global _knowledge  # noqa: PLW0603 - what botocore knows of services is read once for all tests
    _knowledge = _knowledge or botocore.loaders.create_loader()
    for name in list(os.environ):
        if name.startswith(("AWS_", "FSSPEC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws_config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws_credentials"))
    monkeypatch.setenv("FSSPEC_CONFIG_DIR", str(tmp_path / "fsspec"))
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: _knowledge)
    return tmp_path / "aws_config"


_knowledge: Any = None
