"""Runs without a terminal: started with --detach, listed by `runs`, followed by `attach`, however they end."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from curidask.runs.status import read_status
from tests.conftest import DEMO, TABLE, Project
from tests.processes import wait_for

GATED = DEMO.replace(
    'note(record, "load")',
    """note(record, "load")
    import time
    print("loading", record.name)
    while not (CALLS.parent / "open").exists():
        time.sleep(0.02)""",
)


@pytest.fixture
def gated(project: Project) -> Project:
    """The demo, in which the first stage of each set waits until a file opens the gate."""
    project.write("experiments/demo.py", GATED)
    return project


def detach(project: Project, *arguments: str) -> tuple[str, int]:
    """Start a run; its reference and its process."""
    done = project.experiment("demo", "--parallel", "2", "--detach", *arguments)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\S+) runs as process (\d+)$", done.stderr, re.MULTILINE)
    assert found is not None, done.stderr
    return found[1], int(found[2])


def status(project: Project, reference: str) -> str:
    found = read_status(project.root / "data" / "runs" / reference)
    assert found is not None
    return found.status


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_detached_run_goes_on_and_can_be_followed(gated: Project) -> None:
    reference, pid = detach(gated)
    assert os.getsid(pid) == pid  # a session of its own, so that the terminal's end is not its end
    assert status(gated, reference) == "running"
    listed = gated.command("curidask", "runs")
    assert re.match(rf"{re.escape(reference)} +running ", listed.stdout), listed.stdout
    following = gated.start("attach", command="curidask")
    wait_for(lambda: "loading" in (gated.root / "logs" / f"{reference}.out").read_text(), what="output")
    (gated.root / "open").touch()
    output, errors = following.communicate(timeout=60)
    assert following.returncode == 0, errors
    assert "[set0 load] loading set0" in output
    assert f"{reference} is done" in errors
    assert "12 ran" in errors or "13 ran" in errors
    wait_for(lambda: gone(pid), what="the driver's end")
    (table,) = gated.artifacts("gather_table")
    assert json.loads(table.read_text()) == TABLE
    assert gated.last_run()["status"] == "done"
    assert not list((gated.root / "logs").glob("detached-*"))
    # Of a run that is over, the end is told at once.
    again = gated.command("curidask", "attach", "demo_1")
    assert again.returncode == 0
    assert "is done" in again.stderr


def test_ctrl_c_ends_the_following_and_not_the_run(gated: Project) -> None:
    reference, pid = detach(gated)
    following = gated.start("attach", reference, command="curidask")
    wait_for(lambda: len(list((gated.root / "calls").glob("load_*"))) == 2, what="two stages")
    wait_for(lambda: following.poll() is not None or status(gated, reference) == "running")
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=20)
    assert following.returncode == 0, errors
    assert "goes on" in errors
    assert not gone(pid)
    os.kill(pid, signal.SIGTERM)  # as the command's own words say
    wait_for(lambda: gone(pid), what="the driver's end")
    assert status(gated, reference) == "interrupted"
    ended = gated.command("curidask", "attach", reference)
    assert ended.returncode == 130


def test_a_driver_that_is_killed_has_died_and_the_next_run_does_the_rest(gated: Project) -> None:
    reference, pid = detach(gated)
    wait_for(lambda: len(list((gated.root / "calls").glob("load_*"))) == 2, what="two stages")
    os.killpg(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid), what="the driver's end")
    assert status(gated, reference) == "died"
    followed = gated.command("curidask", "attach", reference)
    assert followed.returncode == 1
    assert "died" in followed.stderr
    listed = gated.command("curidask", "runs", "demo")
    assert re.match(rf"{re.escape(reference)} +died ", listed.stdout)
    assert gated.last_run()["status"] == "running"  # what it wrote last
    (gated.root / "open").touch()
    done = gated.experiment("demo", "--parallel", "2")
    assert done.returncode == 0, done.stderr


def test_mistakes_of_a_detached_run_come_back_at_once(project: Project) -> None:
    unknown = project.experiment("demo", "-n", "nobody", "--detach")
    assert unknown.returncode == 2
    assert "nobody" in unknown.stderr
    assert not list((project.root / "logs").glob("detached-*"))
    for flags in (["--dry"], ["--map"], ["--notes"]):
        refused = project.command("experiment", "demo", "--detach", *flags)
        assert refused.returncode == 2
        assert "--detach" in refused.stderr
    nothing = project.command("curidask", "attach")
    assert nothing.returncode == 2
    assert "curidask runs" in nothing.stderr
    assert "no runs" in project.command("curidask", "runs").stderr
