"""What cannot be told never stops what is computed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curidask.logs import log_file

EXPERIMENT = """
import curidask as cf
from curidask.caching import JsonCacher


@cf.stage(None, ["value"], [JsonCacher])
def load(record):
    print("said \\ud800 by the stage")
    return record.params.name


def get_params():
    return [cf.ExperimentParameters("one")]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
"""
COMMAND = "from curidask.cli.curidask import main; main()"


def run(project: Path, redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the experiment by a shell, with streams as it redirects them."""
    (project / "experiments").mkdir(exist_ok=True)
    (project / "experiments" / "telling.py").write_text(EXPERIMENT)
    line = f'exec "$0" -c "$1" run telling --no-report {" ".join(arguments)} {redirected}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        ["sh", "-c", line, sys.executable, COMMAND],
        cwd=project, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=150, check=False,
    )  # fmt: skip


def n_stored(project: Path) -> int:
    return len(list((project / "data" / "cache").glob("telling_*_metadata.json")))


@pytest.mark.parametrize("redirected", ["2>/dev/full", ">/dev/full", "2>&-", ">&-", ">&- 2>&-", ">/dev/full 2>&1"])
def test_streams_that_are_full_or_closed(tmp_path: Path, redirected: str) -> None:
    done = run(tmp_path, redirected, "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stdout + done.stderr
    if redirected in ("2>/dev/full", ">/dev/full"):
        assert (done.stdout + done.stderr).count("is lost from here on: No space left on device") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


def test_all_of_it_on_workers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("logs", "data/runs"):
        (tmp_path / name).touch()
    done = run(tmp_path, ">/dev/full", "--parallel", "1")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("is not written") == 1
    assert done.stderr.count("is lost from here on") == 1
    assert done.stderr.count("nothing is kept of how it went") == 1


def test_logs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    done = run(tmp_path, "", "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("is not written: File exists; the run goes on") == 1
    assert "said \\ud800 by the stage" in done.stdout


def test_a_log_that_is_full_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "full.log").symlink_to("/dev/full")
    with log_file(tmp_path / "full.log", tmp_path):
        for number in range(3):
            logging.getLogger("curidask.run").warning("told %d", number)
    told = [record.getMessage() for record in caplog.records]
    assert sum("is not written: No space left on device" in text for text in told) == 1
    assert len(told) == 4


def test_runs_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runs").touch()
    done = run(tmp_path, "", "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("nothing is kept of how it went") == 1
    assert "record:" not in done.stderr
