"""Randomised faults: damaged caches, failing file operations, kills, interrupts, clocks, closed streams, others beside.

Each scenario is drawn from a seed: a small project, how it is run, and what goes wrong, several things at once.
Whatever it is, served values are right and of one call, nothing outside of the cache is changed, the exit status tells
of the stages only, nothing is left behind, and the next run makes what is missing.

To try more of them, with another seed::

    CURIDASK_FAULTS=1000 CURIDASK_FAULTS_SEED=7 pytest tests/faults/test_random_faults.py

or, with more to choose from (worker processes, a place on S3, single scenarios, deliberate faults of curidask that must
be found)::

    python -m tests.faults.randomly --help

What fails is tried again with fewer of its faults, and the fewest that it takes are shown. ``--keep FOLDER`` keeps its
folders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import clean_environment

ROOT = Path(__file__).parents[2]
FAULTS = int(os.environ.get("CURIDASK_FAULTS", "84"))
SEED = os.environ.get("CURIDASK_FAULTS_SEED", "1")
EACH = 7
"""Faults of a scenario, since a run costs more than a fault."""


@pytest.mark.timeout(120 + FAULTS)
def test_nothing_goes_wrong_whatever_goes_wrong(tmp_path: Path) -> None:
    options = ["--seed", SEED, "--faults", str(FAULTS), "--each", str(EACH), "--keep", str(tmp_path / "kept")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.randomly", *options],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    tried = json.loads(done.stdout)
    assert tried["faults"] >= FAULTS
    assert not tried["failures"], json.dumps(tried["failures"], indent=1)
