"""The two systems, each with a process that has imported it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.environment import NotInstalledError, python_with_curifactory, shipped_with
from tests.parity.systems import System

SHARED_IMPORTS = ["IPython.display", "matplotlib.pyplot", "pandas", "pyarrow.orc", "pyarrow.parquet"]
THEIR_IMPORTS = ["curifactory", "curifactory.cli", *SHARED_IMPORTS]
OUR_IMPORTS = [
    "curidask.cli.run",
    "curidask.execution.dask.executor",
    "curidask.experiment_run",
    "curidask.session.attachments",
    "curidask.reporting.notebook",
    "curidask.session.progress",
    "curidask.reporting.graph_layout",
    "distributed",
    "igraph",
]


@pytest.fixture(scope="session")
def curifactory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    try:
        python = python_with_curifactory(shared / "curifactory", THEIR_IMPORTS)
    except NotInstalledError as error:
        pytest.skip(str(error))
    system = System("curifactory", python, THEIR_IMPORTS, shipped_with(python))
    yield system
    system.close()


@pytest.fixture(scope="session")
def curidask(curifactory: System) -> Iterator[System]:
    system = System("curidask", Path(sys.executable), [*OUR_IMPORTS, *SHARED_IMPORTS], curifactory.shipped)
    yield system
    system.close()
