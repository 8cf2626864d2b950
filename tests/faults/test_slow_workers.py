"""A run survives workers that do not want to end."""

from __future__ import annotations

from tests.conftest import Project
from tests.faults.test_runs import processes_of

LINGERING = """
import threading

import curidask as cf
from curidask.caching import JsonCacher


@cf.stage(None, ["a"], [JsonCacher])
def make(record):
    threading.Thread(target=threading.Event().wait).start()  # the process would never end by itself
    return 1


def get_params():
    return [cf.ExperimentParameters("one")]


def run(param_sets, manager):
    for params in param_sets:
        make(cf.Record(manager, params))
"""


def test_a_stage_that_leaves_a_thread_behind_fails_no_run(project: Project) -> None:
    project.write("experiments/lingering.py", LINGERING)
    running = project.start("lingering", "--parallel", "1")
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert project.last_run()["status"] == "done"
    assert processes_of(running.pid) == []
