"""What is logged in a live session: what of it the log has, and what is shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import Project, clean_environment

TALK = """
import logging

import curidask as cf


@cf.stage(None, ["a"])
def talk(record):
    logging.info("told")
    logging.debug("detail")
    logging.warning("warned")
    record.logger.warning("of the record")
    return 1


with cf.ArtifactManager(NAME) as manager:
    talk(cf.Record(manager, None))
logging.warning("at the end")
"""


@pytest.mark.parametrize("file", ["script.py", "/tmp/ipykernel_1/cell.py"])
def test_a_live_log_has_what_the_project_logs_and_the_terminal_what_it_has_without(project: Project, file: str) -> None:
    project.write("script.py", f"exec(compile({TALK!r}, {file!r}, 'exec'), {{'NAME': 'session', '__name__': 'x'}})")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=project.root,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    (log,) = (project.root / "logs").glob("*.log")
    text = log.read_text()
    words = ("told", "detail", "warned", "of the record", "at the end")
    assert {word: text.count(word) for word in words} == dict(zip(words, (1, 0, 1, 1, 0), strict=True))
    assert done.stderr.splitlines() == ["warned", "WARNING:root:at the end"]
