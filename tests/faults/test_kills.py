"""Runs killed at 200 random points: what is there afterwards is whole, and the rest is made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curidask.store.backends.base import open_objects
from tests.conftest import clean_environment

KILLS = {"folder": 176, "s3": 24}

SCRIPT = """
import json, os, random, signal, sys, time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import psutil, curidask as cf, curidask.manager, curidask.store.disk_cache.near, curidask.store.backends.conditional_put
from curidask.caching import JsonCacher, PickleCacher
from curidask.session.config import load_config

cache, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
if "://" in cache:
    import obstore, curidask.store.backends.obstore
OURS = os.path.dirname(cf.__file__)
AT_ONCE = 4
config = load_config(folder)
chance = random.Random(11)


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0


def note(record, stage):
    with open(folder / "calls" / f"{stage}_{record.params.x}", "a") as file:
        file.write("x")


@cf.stage(None, ["data", "more"], [PickleCacher, JsonCacher])
def load(record):
    note(record, "load")
    Path(record.get_path("log.txt")).write_text(f"log {record.params.x}")
    return {"x": record.params.x, "differs": os.urandom(8)}, [record.params.x] * 3


@cf.stage(["data", "more"], ["score"], [JsonCacher])
def score(record, data, more):
    note(record, "score")
    return {"sum": data["x"] + sum(more), "differs": os.urandom(4).hex()}


def run(numbers, overwrite=False):
    with cf.ArtifactManager(
        "killed", cache=cache, parallel=0, live=False, config=config, overwrite=overwrite
    ) as manager:
        records = [score(load(cf.Record(manager, Params(f"p{x}", x=x)))) for x in numbers]
        manager.finish()
        for x, record in zip(numbers, records):
            assert record.state["data"]["x"] == x
            assert record.state["more"] == [x] * 3
            assert record.state["score"]["sum"] == 4 * x
    return manager.run_record


class Lines:
    '''Counts the lines of the library that are run, and ends the process at one of them.'''

    def __init__(self, last=0):
        self.count, self.last = 0, last

    def __call__(self, frame, event, value):
        if event == "call":
            return self if frame.f_code.co_filename.startswith(OURS) else None
        self.count += event == "line"
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return self


def child(action):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def counted(number):
    lines = Lines()
    sys.settrace(lines)
    run([number])
    sys.settrace(None)
    (folder / "lines").write_text(str(lines.count))


def dying(number, last):
    sys.settrace(Lines(last))
    run([number], overwrite=number % 4 == 0)


# What a run takes undisturbed, in seconds and in lines.
assert end(child(lambda: counted(kills))) == 0
n_lines = int((folder / "lines").read_text())
took = []
for number in range(kills + 1, kills + 4):
    started = time.monotonic()
    assert end(child(lambda: run([number]))) == 0
    took.append(time.monotonic() - started)
seconds = sorted(took)[1]

# Some are there, and are replaced by the run that is killed.
assert end(child(lambda: run(range(0, kills, 4)))) == 0
for path in (folder / "calls").iterdir():
    path.unlink()

results, started = [], deque()
for number in range(kills):
    by_line = number < kills // 2
    if by_line:
        started.append(child(lambda last=chance.randint(1, n_lines): dying(number, last)))
    else:
        pid = child(lambda: run([number], overwrite=number % 4 == 0))
        time.sleep(chance.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        started.append(pid)
    if not by_line or len(started) == AT_ONCE or number == kills // 2 - 1:
        results += [end(started.popleft()) for _ in range(len(started) if number >= kills // 2 - 1 else 1)]
before = {path.name: path.stat().st_size for path in (folder / "calls").iterdir()}


def finish():
    first = run(range(kills))
    calls = {path.name: path.stat().st_size for path in (folder / "calls").iterdir()}
    further = run(range(kills))
    assert calls == {path.name: path.stat().st_size for path in (folder / "calls").iterdir()}
    said = {"warnings": [*first.warnings, *further.warnings], "before": before, "after": calls}
    (folder / "said.json").write_text(json.dumps(said))


assert end(child(finish)) == 0
(folder / "results.json").write_text(json.dumps(results))
"""


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_runs_killed_at_random_points_leave_nothing_wrong(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    cache = str(tmp_path / "cache") if place == "folder" else str(request.getfixturevalue("s3"))
    open_objects(cache).probe_exclusive()
    for name in ("calls", "working"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, cache, str(tmp_path), str(KILLS[place])],
        capture_output=True,
        text=True,
        timeout=170,
        env=clean_environment() | {"TMPDIR": str(tmp_path / "working")},  # those who die leave their folders
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    n = KILLS[place]
    assert len(results) == n
    assert set(results) <= {0, -9}
    assert results[: n // 2].count(-9) == n // 2
    assert results.count(-9) > 0.6 * n
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["warnings"] == []
    before, after = said["before"], said["after"]
    # What had been committed was not computed again, what had not was computed, once.
    again = {name for name, count in after.items() if count == before.get(name, 0) + 1}
    assert {name for name, count in after.items() if count > before.get(name, 0) + 1} == set()
    assert again.intersection(before)
    assert set(before) - again
