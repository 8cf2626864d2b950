"""What must hold, whatever went wrong."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.randomly.damage import DAMAGES, SECRET, Place
from tests.faults.randomly.scenario import Scenario
from tests.faults.randomly.trial import CONTROLS, LEFT, OURS, Ended, Trial
from tests.faults.randomly.world import PASSED, Journal

DAMAGED = "to be made again"
REFUSED = "is a link"
"""Said of a folder through which nothing is written: somebody has to remove it."""


def try_out(trial: Trial, templates: Path) -> list[str]:
    """Run a scenario in a folder of its own; what should not be, in words."""
    root = trial.root
    shutil.rmtree(root, ignore_errors=True)
    trial.prepare(templates)
    try:
        found = [*_tried(trial, templates), *trial.problems]
    finally:
        for folder in root.rglob("*"):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o700)
    if not found:
        shutil.rmtree(root)
    return found


def smallest(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """The scenario with no more faults than it takes to fail."""
    for fault in scenario.faults:
        less = scenario.without(fault)
        if fails(less):
            scenario = less
    return scenario


def _tried(trial: Trial, templates: Path) -> Iterator[str]:
    scenario = trial.scenario
    place = Place(trial.root, trial.damaged, templates / f"{scenario.shape}-{scenario.key}" / "old")
    trial.damaged.mkdir(parents=True, exist_ok=True)
    for fault in scenario.faults:
        if fault.kind in DAMAGES:
            DAMAGES[fault.kind](Random(fault.seed), place)
    trial.settle()
    outside, before, n_records = seen(trial.root, ("outside", "home")), everything(trial), records(trial)
    faulty = trial.run(
        "run", "faults", *scenario.arguments,
        rules=scenario.rules, streams=_streams(scenario), clock=_clock(scenario),
        beside=("run", "faults", *scenario.arguments),
    )  # fmt: skip
    other = trial.beside()
    yield from _faulty(trial, faulty)
    if other is not None:
        yield from (f"beside: {problem}" for problem in _beside(trial, faulty, other))
    if scenario.has("folder_is_a_link"):
        remove_links(trial.damaged)
    if scenario.damages_nothing and DAMAGED in faulty.output + (other.output if other else ""):
        yield "damage was told where there was none"
    yield from _looked(trial)
    yield from _later(trial, faulty, other, before)
    expected = n_records + 3 + (other is not None)
    if scenario.keeps_records and not trial.problems and records(trial) != expected:
        yield f"there are records of {records(trial)} instead of {expected} runs"
    if seen(trial.root, ("outside", "home")) != outside:
        yield "what lies outside was changed"
    yield from _secrets(trial)


def _looked(trial: Trial) -> Iterator[str]:
    """A command that only looks, or cleans up."""
    look = trial.scenario.look
    if look:
        looked = trial.run(*look.split(), clock="hurry")
        yield from (f"{look}: {problem}" for problem in _said(looked))
        if looked.code not in (0, 1, 2):
            yield f"{look} ended with {looked.code}"


def _streams(scenario: Scenario) -> str:
    return next((fault.value for fault in scenario.faults if fault.kind == "stream"), "file file")


def _clock(scenario: Scenario) -> str:
    return "lease" if scenario.has("asleep") else "" if scenario.has("beside") else "hurry"


# --- the run that goes wrong -----------------------------------------------------------------------------------------
def _faulty(trial: Trial, ended: Ended) -> Iterator[str]:
    scenario = trial.scenario
    yield from _said(ended)
    allowed = {0}
    if scenario.may_fail or REFUSED in ended.output:
        allowed |= {1, 2}
    if scenario.has("kill"):
        allowed.add(-9)
    if scenario.has("interrupt"):
        allowed.add(130)
    if scenario.replaces_files:
        allowed.add(1)
    if ended.code not in allowed:
        yield f"it ended with {ended.code}"
    yield from ended.journal.problems(trial.calls, stays=scenario.stays)
    if scenario.stays and not scenario.has("asleep"):
        yield from (
            f"{stage} of {name} was called {n} times" for (stage, name), n in ended.journal.calls().items() if n > 1
        )


def _said(ended: Ended) -> Iterator[str]:
    if ended.code in (120, 121) or (ended.code < 0 and ended.code != -9):
        yield f"it broke off with {ended.code}"
    if ended.alive:
        yield "it left a process"
    if OURS.search(ended.output):
        yield "a traceback of ours"
    if CONTROLS.search(ended.output):
        yield "control characters"
    yield from ended.changed


def _beside(trial: Trial, faulty: Ended, other: Ended) -> Iterator[str]:
    scenario = trial.scenario
    yield from _said(other)
    if other.code and not scenario.replaces_files and REFUSED not in other.output:
        yield f"it ended with {other.code}"
    yield from other.journal.problems(trial.calls, stays=scenario.stays)
    if scenario.is_once and not scenario.arguments:
        calls = Counter(faulty.journal.calls()) + Counter(other.journal.calls())
        stored = {key: n for key, n in calls.items() if key[0] not in ("change", "right")}
        yield from (f"{stage} of {name} was computed {n} times" for (stage, name), n in stored.items() if n > 1)


# --- those that follow -----------------------------------------------------------------------------------------------
def _later(trial: Trial, faulty: Ended, other: Ended | None, before: set[str]) -> Iterator[str]:
    """A later run makes what is missing, and the one after that finds everything."""
    scenario = trial.scenario
    ended = trial.run("run", "faults", clock="hurry", times=2)
    yield from (f"later: {problem}" for problem in _said(ended))
    if ended.code:
        yield f"later: it ended with {ended.code}"
        return
    first, second = ended.journal.parts()
    for journal in (first, second):
        others = journal.other_inputs() if scenario.is_once and not scenario.arguments else ()
        yield from (f"later: {problem}" for problem in (*journal.problems(trial.calls), *others))
    if DAMAGED in ended.output.partition("again\n")[2] and scenario.tiers != "read-only":
        yield "damage was told twice"
    if DAMAGED in ended.output and scenario.damages_nothing:
        yield "later: damage was told where there was none"
    if not set(PASSED).intersection(scenario.reads):
        yield from _found(scenario, first, second)
        if "gc" not in scenario.look:
            yield from _stays(scenario, faulty, other, first)
    if scenario.leaves_all:
        yield from (f"left behind: {name}" for name in sorted(everything(trial) - before) if _is_left(trial, name))


def _found(scenario: Scenario, first: Journal, second: Journal) -> Iterator[str]:
    if second.calls():
        yield f"the run after the later one computed {second.calls()}"
    if second.served() != first.served():
        yield "the run after the later one was served something else"


def _stays(scenario: Scenario, faulty: Ended, other: Ended | None, first: Journal) -> Iterator[str]:
    """What was made stays: by the run that went well all the same, and by whoever took over while it slept."""
    if faulty.code == 0 and scenario.leaves_all:
        if first.calls():
            yield f"the later run computed {first.calls()}, which was made"
        if scenario.stays and not scenario.has("beside") and first.served() != faulty.journal.served():
            yield "the later run was served something else"
    in_a_stage = any(rule.action == "asleep" and rule.area == "stage" for rule in scenario.rules)
    if other is not None and in_a_stage and not scenario.arguments:
        replaced = [key for key, call in other.journal.served().items() if first.served().get(key) != call]
        yield from (f"{output} of {name} was replaced by who had slept" for output, name in replaced)


def records(trial: Trial) -> int:
    """How many runs were recorded."""
    return len(list(trial.areas["runs"].glob("*/run.json")))


def remove_links(place: Path) -> None:
    """Remove the folders that are links; a file that is one may have served what was made of it."""
    for path in place.rglob("*"):
        if path.is_symlink() and path.is_dir():
            path.unlink()


def _is_left(trial: Trial, name: str) -> bool:
    in_tmp = name.startswith("tmp/") and not trial.parallel  # dask has folders there
    return in_tmp or any(part in name for part in LEFT)


def everything(trial: Trial) -> set[str]:
    """What lies in caches and in the folder for temporary files."""
    places = [trial.cache, trial.team, trial.root / "tmp"]
    return {
        os.path.relpath(os.path.join(folder, name), trial.root)
        for place in places
        for folder, names, files in os.walk(place)
        for name in (*names, *files)
    }


def seen(root: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """What lies in folders, and what it is."""
    found: dict[str, Any] = {}
    for name in names:
        for path in sorted((root / name).rglob("*")):
            what = path.lstat()
            found[str(path)] = (what.st_mode, what.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def _secrets(trial: Trial) -> Iterator[str]:
    """Whether what nobody may see has come to where others see it."""
    for folder, _, names in os.walk(trial.root):
        if folder.startswith(str(trial.root / "outside")):
            continue
        for name in names:
            path = Path(folder, name)
            if (
                path.is_file()
                and not path.is_symlink()
                and path.stat().st_size < 1 << 24
                and SECRET.encode() in path.read_bytes()
            ):
                yield f"the secret came into {path.relative_to(trial.root)}"
