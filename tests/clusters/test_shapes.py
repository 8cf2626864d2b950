"""Projects of many shapes do the same in this process, on local workers, and where workers do not have the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import shape_runs
from tests.clusters.shapes import SHAPES, Shape
from tests.conftest import clean_environment
from tests.processes import Processes, free_port

FAILING = ("an_exception_of_the_project", "an_error_three_modules_deep")

Found = dict[str, list[dict[str, Any]]]


class Places:
    """Runs all shapes in a place, once."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._projects = folder / "projects"
        self._caches = folder / "caches"
        self._processes = processes
        for shape in SHAPES:
            for name, text in {**shape.files, "experiment": shape.experiment}.items():
                path = self._projects / shape.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    @cache  # noqa: B019  # as long as the places are there
    def __getitem__(self, mode: str) -> Found:
        address = [self._hidden_workers()] if mode == "address" else []
        done = subprocess.run(
            [sys.executable, shape_runs.__file__, str(self._projects), str(self._caches), mode, *address],
            env=clean_environment() | {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "False"},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: Found = json.loads(done.stdout.splitlines()[-1])
        return found

    def _hidden_workers(self) -> str:
        """A scheduler with two workers for which the folder of the projects is empty."""
        assert os.geteuid() == 0, "a view of the disk of their own needs root"
        port = free_port()
        dask = [sys.executable, "-m", "dask"]
        scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        self._processes.start("scheduler", scheduler)
        address = f"tcp://127.0.0.1:{port}"
        for number in (1, 2):
            worker = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard"]
            hide = f'mount -t tmpfs tmpfs {self._projects} && exec "$@"'
            isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"]
            self._processes.start(f"worker {number}", [*isolated, *worker])
        return address


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("shapes")
    with Processes(folder / "logs") as processes:
        yield Places(folder, processes)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_it_works_in_this_process(shape: Shape, places: Places) -> None:
    cold, warm = places["here"][shape.name]
    assert "error" not in cold, cold
    assert ("failed" in cold) == (shape.name in FAILING), cold
    if "failed" not in cold:
        assert warm["value"] == cold["value"]
    assert warm["keys"] == cold["keys"]


@pytest.mark.parametrize("mode", ["workers", "address", "local"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_it_does_the_same_elsewhere(shape: Shape, mode: str, places: Places) -> None:
    if mode == "local" and shape.name not in shape_runs.LOCAL:
        return
    assert places[mode][shape.name] == places["here"][shape.name][:1]


def test_there_are_enough_shapes() -> None:
    assert len(SHAPES) >= 60
    assert set(shape_runs.LOCAL) < {shape.name for shape in SHAPES}
