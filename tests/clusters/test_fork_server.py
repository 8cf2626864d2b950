"""What local workers are forked from."""

from __future__ import annotations

import multiprocessing
import os
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


def test_workers_draw_random_numbers_of_their_own(workers: Connection) -> None:
    pytest.importorskip("numpy")

    def draw() -> Any:
        import random

        import numpy as np

        return np.random.rand(), random.random(), np.random.default_rng().random()

    first, second = on_each(workers, draw)
    assert all(one != other for one, other in zip(first, second, strict=True))


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
