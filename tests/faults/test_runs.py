"""What a run survives: killed workers, interrupts, failing sets, damage. Executions are counted through files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DEMO, TABLE, Project, without_key
from tests.processes import wait_for

SLOW = DEMO.replace(
    'note(record, "change")',
    """note(record, "change")
    import os, time
    if record.params.x >= GATE_FROM:
        (CALLS / f"pid_{os.getpid()}").touch()
        while not (CALLS.parent / "open").exists():
            time.sleep(0.01)""",
)


def results(project: Project) -> dict[str, bytes]:
    found = {without_key(path.name): path.read_bytes() for path in project.artifacts() if path.suffix == ".json"}
    assert found
    return found


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The JSON results of an undisturbed run in this process, of a project of its own."""
    other = Project(tmp_path_factory.mktemp("undisturbed"))
    other.write("curidask.toml", "")
    other.write("experiments/demo.py", DEMO)
    assert other.experiment("demo", "--parallel", "0").returncode == 0
    return results(other)


def stage_pids(project: Project) -> list[int]:
    return [int(path.name.split("_")[1]) for path in (project.root / "calls").glob("pid_*")]


def processes_of(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    return [
        line for line in listed.splitlines() if line.split()[0] == str(group) and not line.split()[1].startswith("Z")
    ]


@pytest.fixture
def slow(project: Project) -> Project:
    """The demo, in which sets from 1 on wait in the stage `change` until a file opens the gate."""
    project.write("experiments/demo.py", SLOW.replace("GATE_FROM", "1"))
    return project


def test_killed_worker_costs_one_warning(slow: Project, expected: dict[str, bytes]) -> None:
    run = slow.start("demo", "--parallel", "2")
    wait_for(lambda: len(stage_pids(slow)) == 2)
    os.kill(stage_pids(slow)[0], signal.SIGKILL)
    (slow.root / "open").touch()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert errors.count("warning:") == 1
    assert "died" in errors
    assert results(slow) == expected
    assert not processes_of(run.pid)
    assert not list(slow.cache.glob(".work-*"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_soon_and_keeps_what_is_committed(
    slow: Project, expected: dict[str, bytes], sent: signal.Signals
) -> None:
    run = slow.start("demo", "--parallel", "2")
    wait_for(lambda: len(stage_pids(slow)) == 2)
    committed = [path.name for path in slow.artifacts() if path.is_file()]
    assert committed
    os.killpg(run.pid, sent) if sent == signal.SIGINT else run.send_signal(sent)
    _, errors = run.communicate(timeout=30)  # the stages would wait for ever
    assert run.returncode == 130, errors
    assert "interrupted" in errors
    wait_for(lambda: not processes_of(run.pid), seconds=3)
    assert {path.name for path in slow.artifacts()} >= set(committed)
    slow.calls()
    (slow.root / "open").touch()
    assert slow.experiment("demo", "--parallel", "0").returncode == 0
    assert sum(name.startswith("load") for name in slow.calls()) == 4 - sum("load_data" in name for name in committed)
    assert results(slow) == expected


FINALIZED = """
import signal, time
from curidask.cli.exit_codes import guarded

class Future:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def command():
    Future()
    time.sleep(60)  # only an interrupt ends it before the test gives up

guarded(command)
"""


def test_interrupt_that_arrives_in_a_finalizer_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", FINALIZED], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted")


def test_interrupt_in_this_process(slow: Project) -> None:
    run = slow.start("demo", "--parallel", "0")
    wait_for(lambda: stage_pids(slow))
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130, errors
    assert slow.artifacts("score_score")


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_failing_set_leaves_the_others(project: Project, expected: dict[str, bytes], parallel: str) -> None:
    text = DEMO.replace(
        'note(record, "change")',
        'note(record, "change")\n    if record.params.x == 2 and not Path("mended").exists(): raise ValueError("two!")',
    )
    stopping = 'return gather(cf.Record(manager, None)).state["table"]'
    project.write("experiments/demo.py", text.replace(stopping, "gather(cf.Record(manager, None))"))
    failed = project.experiment("demo", "--parallel", parallel)
    assert failed.returncode == 1
    for said in ("ValueError: two!", "stage 'change' of Record 2 (set2)", "demo.py", "in change"):
        assert said in failed.stderr
    assert "curidask/" not in failed.stderr.replace(str(project.root), "")
    assert len(project.artifacts("score_score")) == 3
    assert not project.artifacts("gather_table")
    statuses = {(t["stage"], t["set"]): t["status"] for t in project.last_run()["tasks"]}
    assert statuses["change", "set2"] == "failed"
    assert statuses["score", "set2"] == statuses["gather", "None"] == "blocked"
    assert statuses["score", "set3"] == "done"
    project.calls()
    project.write("mended", "")
    project.write("experiments/demo.py", text)
    assert project.experiment("demo", "--parallel", "0").returncode == 0
    assert project.calls() == dict.fromkeys(["change_set2", "gather_None", "score_set2"], 1)
    assert results(project) == expected


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_failing_set_that_run_reads_leaves_the_others(project: Project, parallel: str) -> None:
    text = DEMO.replace(
        'note(record, "change")', 'note(record, "change")\n    if record.params.x == 0: raise ValueError("zero!")'
    )
    text = text.replace("        score(change", "        last = score(change").replace(
        'return gather(cf.Record(manager, None)).state["table"]', 'return manager.records[0].state["score"]'
    )
    project.write("experiments/demo.py", text)
    failed = project.experiment("demo", "--parallel", parallel)
    assert failed.returncode == 1
    assert "ValueError: zero!" in failed.stderr
    assert len(project.artifacts("score_score")) == 3
    statuses = {(t["stage"], t["set"]): t["status"] for t in project.last_run()["tasks"]}
    assert statuses["change", "set0"] == "failed"
    assert statuses["score", "set3"] == "done"


MANY = 120
"""Enough sets that a worker gets whole chains at a time instead of single tasks."""

MANY_SETS = DEMO.replace("range(4)", f"range({MANY})")


def test_failing_set_among_many(project: Project) -> None:
    text = MANY_SETS.replace(
        'note(record, "change")',
        'note(record, "change")\n    if record.params.x == 57 and not Path("mended").exists(): raise ValueError("57!")',
    )
    project.write("experiments/demo.py", text.replace('return gather(cf.Record(manager, None)).state["table"]', "pass"))
    failed = project.experiment("demo", "--parallel", "2")
    assert failed.returncode == 1
    assert "ValueError: 57!" in failed.stderr
    assert len(project.artifacts("score_score")) == MANY - 1
    project.calls()
    project.write("mended", "")
    project.write("experiments/demo.py", text)
    done = project.experiment("demo", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    assert project.calls() == dict.fromkeys(["change_set57", "gather_None", "score_set57"], 1)


def test_killed_worker_among_many_sets(project: Project, tmp_path: Path) -> None:
    text = MANY_SETS.replace(
        'note(record, "change")',
        """note(record, "change")
    import os, signal
    if record.params.x == 40:
        first = CALLS.parent / "died"
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)""",
    )
    project.write("experiments/demo.py", text)
    done = project.experiment("demo", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning:") == 1
    assert (project.root / "died").exists()
    calls = project.calls()
    assert calls["gather_None"] == 1
    # What was committed before the death is not computed again: each stage is stored, but for `change`.
    assert {name for name, count in calls.items() if count > 1 and not name.startswith("change")} <= {"load_set40"}
    other = Project(tmp_path / "undisturbed")
    other.write("curidask.toml", "")
    other.write("experiments/demo.py", MANY_SETS)
    assert other.experiment("demo", "--parallel", "0").returncode == 0
    assert results(project) == results(other)


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("parallel", "damage", "of_manifest"),
    [
        ("0", damage_truncate, False),
        ("0", damage_truncate, True),
        ("0", damage_empty, False),
        ("0", damage_empty, True),
        ("0", damage_flip, True),
        ("2", damage_flip, False),
    ],
)
def test_damage_is_noticed_and_recomputed(
    project: Project, expected: dict[str, bytes], parallel: str, damage: Callable[[Path], None], of_manifest: bool
) -> None:
    assert project.experiment("demo", "--parallel", "0").returncode == 0
    project.calls()
    hit = [project.artifacts("gather_table")[0], project.artifacts("score_score")[0], project.artifacts("load_data")[0]]
    for payload in hit:
        manifest = payload.with_name(payload.name.removesuffix(payload.suffix) + "_metadata.json")
        damage(manifest if of_manifest else payload)
    done = project.experiment("demo", "--parallel", parallel)
    assert done.returncode == 0, done.stderr
    assert "damaged artifact, to be made again" in done.stderr
    assert results(project) == expected
    assert {name.partition("_")[0] for name in project.calls()} == {"load", "change", "score", "gather"}
    again = project.experiment("demo", "--parallel", "0")
    assert "everything was in the cache" in again.stderr
    assert project.calls() == {}


def test_same_bytes_in_process_and_on_workers(project: Project, expected: dict[str, bytes]) -> None:
    assert project.experiment("demo", "--parallel", "2").returncode == 0
    assert results(project) == expected
    assert len(TABLE) + 1 == len(results(project))


def test_poison_stage_is_named_and_the_others_finish(project: Project) -> None:
    text = DEMO.replace(
        'note(record, "change")', 'import os\n    note(record, "change")\n    if record.params.x == 2: os._exit(3)'
    )
    text = text.replace('return gather(cf.Record(manager, None)).state["table"]', "pass")
    project.write("experiments/demo.py", text)
    done = project.experiment("demo", "--parallel", "2")
    assert done.returncode == 1
    assert "stage 'change' of Record 2 (set2)" in done.stderr
    assert "the worker process died each time" in done.stderr
    assert len(project.artifacts("score_score")) == 3


LIVE = """
from dataclasses import dataclass

import curidask as cf


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["y"])
def fit(record):
    return record.params.x + 1


@cf.stage(["y"], ["z"])
def more(record, y):
    return y + 1


manager = cf.ArtifactManager("live", parallel=2)
records = [cf.Record(manager, Params(x=x)) for x in range(3)]
state = records[0].state
for record in records:
    more(fit(record))
print([record.state["z"] for record in records])
manager.close()
"""


def test_what_a_script_holds_of_its_session_stays_there(project: Project) -> None:
    project.write("live.py", LIVE)
    done = project.command("python", "live.py", timeout=40)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[2, 3, 4]\n"


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_a_script_that_just_ends_ends_its_session(project: Project, parallel: str) -> None:
    """What it asked for is made, and a failure that nobody looked at is told."""
    made = LIVE.partition("state = ")[0].replace("parallel=2", f"parallel={parallel}")
    project.write("live.py", made + ENDS)
    done = project.command("python", "live.py", timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "the last line\n"
    recorded = project.last_run()
    assert recorded["status"] == "failed"
    assert sorted(task["status"] for task in recorded["tasks"]) == ["done", "done", "failed"]
    if parallel == "2":
        assert "1 stage failed, whose outputs nobody asked for:\n  stage 'invert' of Record 0 (UNNAMED)" in done.stderr
        assert "ZeroDivisionError: division by zero" in done.stderr


ENDS = """
@cf.stage(None, ["y"])
def invert(record):
    return 1 / record.params.x

for record in records:
    try:
        invert(record)
    except ZeroDivisionError:
        pass
print("the last line")
"""


def test_a_script_that_fails_runs_nothing_more(project: Project) -> None:
    """Stages wait on workers until somebody asks for what they make; after an error nobody does."""
    made = LIVE.partition("state = ")[0]
    project.write("live.py", made + "for record in records:\n    fit(record)\nraise ValueError('mine')\n")
    done = project.command("python", "live.py", timeout=60)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: mine\n"), done.stderr
    assert not project.artifacts()


FORKS = """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=print, args=("from a child",))
child.start()
child.join()
print([fit(record).state["y"] for record in records])
"""


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_a_child_of_a_session_leaves_it_open(project: Project, parallel: str) -> None:
    made = LIVE.partition("state = ")[0].replace("parallel=2", f"parallel={parallel}")
    project.write("live.py", made + "fit(records[0])\n" + FORKS)
    done = project.command("python", "live.py", timeout=60)
    assert done.stdout == "from a child\n[1, 2, 3]\n", done.stderr
    assert project.last_run()["status"] == "done"
    assert "Traceback" not in done.stderr


TALKS_BACK = """
import gc
import pdb
import curidask as cf


@cf.stage(None, ["y"])
def ask(record, how):
    if how == "input":
        input("name? ")
    gc.disable()  # or the debugger may stop in what others have called then
    breakpoint() if how == "breakpoint" else pdb.set_trace()
    return 1


if __name__ == "__main__":
    with cf.ArtifactManager("live", parallel=1) as manager:
        for how in ("input", "breakpoint", "set_trace"):
            try:
                ask(cf.Record(manager, None), how=how).state["y"]
            except Exception as error:
                print(type(error).__name__, error.__notes__[-1])
"""


def test_a_worker_has_no_terminal_and_says_so(project: Project) -> None:
    project.write("live.py", TALKS_BACK)
    done = project.command("python", "live.py", timeout=60)
    told = [line for line in done.stdout.splitlines() if line.startswith(("EOFError", "BdbQuit"))]
    fix = "fix: a worker has no terminal: run with --parallel 0, in this process"
    assert told == [f"EOFError {fix}", f"BdbQuit {fix}", f"BdbQuit {fix}"], done.stdout + done.stderr
