"""What local workers are forked from."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from curidask.clusters.base import Connection
from curidask.clusters.fork_server import ENVIRONMENT, METHOD, PRELOADED, SERVER
from curidask.clusters.local import local
from tests.conftest import Project

pytestmark = pytest.mark.skipif(METHOD != "forkserver", reason="workers start from nothing on this system")


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    with local(2) as connection:
        yield connection


def on_each(workers: Connection, function: Any) -> list[Any]:
    return list(workers.client.run(function).values())


def test_it_starts_with_the_variables_that_dask_has(workers: Connection) -> None:
    import dask

    given = dask.config.get("distributed.nanny.pre-spawn-environ")
    assert {"PYTHONHASHSEED": 6640, **given} == ENVIRONMENT

    def variables_at_start() -> set[str]:
        return set(Path(f"/proc/{os.getppid()}/environ").read_text().split("\0"))

    for found in on_each(workers, variables_at_start):
        assert found >= {f"{name}={os.environ.get(name, value)}" for name, value in ENVIRONMENT.items()}


def test_what_it_imports_starts_no_thread() -> None:
    code = f"import {', '.join(PRELOADED)}, os; print(len(os.listdir('/proc/self/task')))"
    variables = os.environ | {name: str(value) for name, value in ENVIRONMENT.items()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout == "1\n"


def test_this_process_does_not_import_what_dask_could_use() -> None:
    code = "import sys\nfrom curidask.clusters.local import local\nwith local(1):\n    print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]


def test_workers_draw_random_numbers_of_their_own(workers: Connection) -> None:
    def draw() -> Any:
        import random

        import numpy as np

        return np.random.rand(), random.random(), np.random.default_rng().random()

    first, second = on_each(workers, draw)
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_what_workers_write_is_private_and_nothing_is_imported_from_there(workers: Connection) -> None:
    def place(dask_worker: Any) -> tuple[str, list[str]]:
        return dask_worker.local_directory, sys.path

    for folder, path in on_each(workers, place):
        (private,) = [p for p in Path(folder).parents if p.parent.name == f"curidask-{os.getuid()}"]
        assert private.stat().st_mode & 0o077 == 0
        assert private.parent.stat().st_mode & 0o077 == 0
        assert not [entry for entry in [*path, *sys.path] if Path(entry).is_relative_to(private)]


def test_a_fork_server_of_a_stage_is_its_workers_own(workers: Connection) -> None:
    def parents() -> tuple[int, int]:
        import multiprocessing.process

        multiprocessing.process.current_process()._config["daemon"] = False  # as it is for stages
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            started = pool.apply(os.getppid)
            return os.getpid(), psutil.Process(started).ppid()

    for worker, parent in on_each(workers, parents):
        assert parent == worker
    workers.client.run(lambda: multiprocessing.forkserver._forkserver._stop())


def test_it_ends_with_the_last_of_the_clusters_that_use_it() -> None:
    def parent() -> int:
        return os.getppid()

    before = {child.pid for child in psutil.Process().children()}
    with local(1) as first:
        with local(1) as second:
            (server,) = {*on_each(first, parent), *on_each(second, parent)}
        assert psutil.pid_exists(server)
        assert on_each(first, parent) == [server]
    left = {child.pid for child in psutil.Process().children()} - before
    assert server not in left or SERVER._n_users


RUN = """
import os, pathlib, signal
from dataclasses import dataclass

import curidask as cf

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["n"], [cf.caching.JsonCacher])
def kill(record):
    mark = pathlib.Path("killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
    return record.params.x

@cf.stage(["n"], ["doubled"])
def double(record, n):
    return 2 * n

def get_params():
    return [Params(f"p{x}", x=x) for x in range(6)]

def run(param_sets, manager):
    print(sum(double(kill(cf.Record(manager, p))).state["doubled"] for p in param_sets))
"""


def test_a_run_goes_on_when_it_is_killed(project: Project) -> None:
    project.write("experiments/killed.py", RUN)
    done = project.experiment("killed", "--parallel", "2", timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]


WORLD = """
import atexit, os, pathlib, signal, subprocess, sys

import curidask as cf

HERE = pathlib.Path(__file__).parent.parent
atexit.register(lambda: (HERE / f"ended {os.getpid()}").touch())

@cf.stage(None, ["path", "seed", "child"])
def look(record):
    sleeps = "import time; print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", sleeps], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    (HERE / f"ran {os.getpid()}").touch()
    return sys.path, [hash("a"), os.environ.get("PYTHONHASHSEED")], child.wait(30)

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    path, seed, child = look(cf.Record(manager, param_sets[0])).state.values()
    print([entry for entry in [*path, *sys.path] if "scratch" in entry], seed, child, os.environ.get("PYTHONHASHSEED"))
"""


def test_a_stage_finds_the_same_process(project: Project) -> None:
    """Nothing is imported from where dask's workers write, Python hashes as asked, and children can be interrupted."""
    project.write("experiments/world.py", WORLD)
    told = []
    for n_workers in ("0", "1"):
        done = project.experiment("world", "--parallel", n_workers, "--overwrite", env={"PYTHONHASHSEED": "42"})
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert told[0] == told[1]
    assert told[0].startswith("[] [")
    assert told[0].endswith(", '42'] -2 42\n")
    ran, ended = ({path.name.split()[1] for path in project.root.glob(f"{what} *")} for what in ("ran", "ended"))
    assert len(ran) == 2
    assert ran <= ended


FORKED = """
import multiprocessing, sys
import curidask as cf

@cf.stage(None, ["n"])
def one(record):
    return 1

def go(name):
    try:
        with cf.ArtifactManager(name, parallel=1) as manager:
            print(one(cf.Record(manager, None)).state["n"])
    except cf.errors.ClusterError as error:
        print(error, flush=True)

def in_child(name):
    child = multiprocessing.get_context("fork").Process(target=go, args=[name])
    child.start()
    child.join()

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(go, ["daemonic"])
    in_child("fresh")
    go("first")
    in_child("forked")
"""


def test_a_child_that_can_have_no_workers_says_why(project: Project) -> None:
    project.write("forked.py", FORKED)
    done = subprocess.run(
        [sys.executable, "forked.py"], cwd=project.root, capture_output=True, text=True, timeout=120, check=True
    )
    daemonic, fresh, first, forked = re.split(r"^(?=1$|This|The 1)", done.stdout, flags=re.M)[1:]
    assert "daemonic processes are not allowed to have children" in daemonic
    assert "--parallel 0" in daemonic
    assert (fresh, first) == ("1\n", "1\n")
    assert "was forked from one that has used worker processes" in forked
    assert "get_context('spawn')" in forked


def test_nothing_is_left_in_the_temporary_folder(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    done = project.experiment("demo", "--parallel", "2", env={"TMPDIR": str(folder)})
    assert done.returncode == 0, done.stderr
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []


def test_an_interpreter_that_cannot_start_is_heard(tmp_path: Path) -> None:
    """In a process of its own, which has no fork server yet."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'first words' >&2\necho 'the folder of Python may not be read' >&2\nexit 1\n")
    broken.chmod(0o755)
    code = (
        "import multiprocessing, sys\n"
        "from multiprocessing import resource_tracker\n"
        "resource_tracker.ensure_running()\n"
        "multiprocessing.set_executable(sys.argv[1])\n"
        "from curidask.clusters.local import local\n"
        "from curidask.errors import ClusterError\n"
        "try:\n    local(1).__enter__()\n"
        "except ClusterError as error:\n    print(error.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(broken)], capture_output=True, text=True, timeout=90, check=True
    )
    assert "did not start" in done.stdout
    assert f"{broken} ends with 'the folder of Python may not be read'." in done.stdout
