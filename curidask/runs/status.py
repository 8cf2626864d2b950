"""How a run stands, for those who look at it from outside: a small file in its folder, kept up to date while it runs.

The run record has all of a run, but is written now and then only, since it is large. A run whose process is gone, or
that has not written for long on another machine, has died, whatever the file says.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import ref

from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Decision, Plan
from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError, ProjectError
from curidask.execution.base import Kind, Outcome
from curidask.execution.listener import Listener
from curidask.runs.layout import announce
from curidask.runs.record import RunRecord
from curidask.runs.schema import read_record
from curidask.store.atomic import write_atomically
from curidask.store.claims import is_running, own_birth, place
from curidask.store.manifest import is_count, is_name, is_pid, is_seconds, is_text, parse_object, read_file

# --- how many tasks of each stage have run, are to run, are reused ---------------------------------------------------
# Counted from what the runner tells.

COUNTED = ("to_run", "done", "failed", "blocked", "reused", "pruned", "found", "unchanged")


@dataclass(slots=True)
class StageCount:
    """The tasks of one stage by how they stand.

    Attributes
    ----------
    found : int
        Of those that are done: what somebody else had made meanwhile.
    unchanged : int
        Of those that are done: what was there, and was made from what the inputs hold now.
    seconds : float
        Sum over the tasks that ran.
    sets : int
        The records for which tasks are to run; more than tasks when some share one.
    """

    to_run: int = 0
    done: int = 0
    failed: int = 0
    blocked: int = 0
    reused: int = 0
    pruned: int = 0
    found: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    sets: int = 0

    @property
    def ran(self) -> int:
        """Tasks that ran here."""
        return self.done - self.found - self.unchanged

    @property
    def left(self) -> int:
        """Tasks that are still to end."""
        return self.to_run - self.done - self.failed - self.blocked

    def count(self, action: Action, by: int) -> None:
        """Count tasks with an action, or one less of them."""
        if action is Action.RUN:
            self.to_run += by
        elif action is Action.REUSE:
            self.reused += by
        else:
            self.pruned += by


@dataclass(slots=True)
class Counts:
    """The counts of all stages, in the order in which they were planned.

    Attributes
    ----------
    decisions : dict of int to Decision
        What was planned last for each task.
    """

    stages: dict[str, StageCount] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _found: dict[int, Kind] = field(default_factory=dict)

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Count what will happen."""
        for task, decision in plan.decisions.items():
            before = self.decisions.get(task)
            if before is not None and decision.action is Action.PRUNE:
                continue  # it ran, and what it gave is not needed again
            count = self.stages.setdefault(graph[task].spec.name, StageCount())
            if before is not None:
                count.count(before.action, -1)
            count.count(decision.action, 1)
            if decision.action is Action.RUN and before is None:
                count.sets += graph.n_sharing(task)
            self.decisions[task] = decision

    def ended(self, task: Task, outcome: Outcome) -> StageCount:
        """Count a task that ended, once however often it ran; what its stage stands at."""
        count = self.stages[task.spec.name]
        was_done = task.id in self._done
        if outcome.kind is Kind.FAILED:
            count.failed += 1
            count.done -= was_done
            self._count_found(count, self._found.pop(task.id, None), -1)
            self._done.discard(task.id)
        else:
            count.done += not was_done
            if outcome.kind is not Kind.DONE and not was_done:
                self._count_found(count, outcome.kind, 1)
                self._found[task.id] = outcome.kind
            count.seconds += outcome.seconds
            self._done.add(task.id)
        return count

    def _count_found(self, count: StageCount, kind: Kind | None, by: int) -> None:
        count.found += by * (kind is Kind.FOUND)
        count.unchanged += by * (kind is Kind.UNCHANGED)

    def blocked(self, task: Task) -> None:
        """Count a task that will not run."""
        self.stages[task.spec.name].blocked += 1


# --- status ----------------------------------------------------------------------------------------------------------
FILE = "status.json"

RUNNING, DIED = "running", "died"

WRITE_SECONDS = 0.5
"""How often the file is written at most while tasks end."""

BEAT_SECONDS = 5.0
"""How often it is written when nothing happens."""

SILENT_SECONDS = 120.0
"""After how long without a word a run on another machine is taken for dead."""

SAVE_SECONDS = 30.0
SAVE_SHARE = 0.02
"""How often the whole record is written while the run goes on, at most: in time, and of the time."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    Attributes
    ----------
    reference, name : str
        Of the run, and of the experiment.
    status : str
        ``running``, ``done``, ``failed``, ``interrupted`` or ``died``.
    title : str
        The first line of its notes.
    born : float
        Of the process, see `curidask.store.claims`.
    started, updated : float
        When it began and when this was written, in seconds since the epoch.
    executor : str
        Where it runs.
    """

    reference: str
    name: str
    status: str
    title: str = ""
    pid: int = 0
    place: str = ""
    born: float = 0.0
    started: float = 0.0
    updated: float = 0.0
    executor: str = ""
    stages: dict[str, StageCount] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        return (time.time() if self.status == RUNNING else self.updated) - self.started

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status != RUNNING


# --- writing ---------------------------------------------------------------------------------------------------------
class StatusWriter(Listener):
    """Writes how a run stands; it listens to the runner.

    Parameters
    ----------
    record : RunRecord
        Of the run.
    folder : Path
        Of the run; made with the first plan. Nothing is written before.
    save : callable
        Writes the run record; told whether with all its tasks.
    """

    told_as = "the keeping of how the run stands"

    def __init__(self, record: RunRecord, folder: Path, save: Callable[[bool], object]) -> None:
        self._record = record
        self._status = RunStatus(
            record.reference,
            record.name,
            RUNNING,
            pid=os.getpid(),
            place=place(),
            born=own_birth(),
            started=record.started,
        )
        self._folder = folder
        self._save = save
        self._counts = Counts()
        self._lock = threading.RLock()
        self._ends = threading.Event()
        self._has_begun = False
        self._written = self._saved = 0.0
        self._save_cost = 0.0

    # --- Listener ----------------------------------------------------------------------------------------------------
    def planned(self, graph: Graph, plan: Plan) -> None:
        """Count what will happen, and begin to write."""
        with self._lock:
            self._counts.planned(graph, plan)
        if plan.decisions and not self._has_begun:
            self._begin()
        self._write_when_due()

    def started_executor(self, description: str) -> None:
        """Keep where it runs."""
        with self._lock:
            self._status = replace(self._status, executor=description)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Count a task that ended, and write when it is time."""
        with self._lock:
            self._counts.ended(task, outcome)
        self._write_when_due()
        if time.monotonic() - self._saved > max(SAVE_SECONDS, self._save_cost / SAVE_SHARE):
            with suppress(CacheError):  # the run goes on; at its end it is told
                self._save_record(whole=True)

    def blocked(self, task: Task) -> None:
        """Count a task that will not run."""
        with self._lock:
            self._counts.blocked(task)

    # --- the file ----------------------------------------------------------------------------------------------------
    def close(self, status: str) -> None:
        """Write how the run ended."""
        if self._has_begun:
            self._ends.set()
            with self._lock:
                self._status = replace(self._status, status=status)
            self._write()

    def _begin(self) -> None:
        self._has_begun = True
        with self._lock:
            self._status = replace(self._status, title=hide_secrets(self._record.notes.partition("\n")[0]))
        self._save_record(whole=False)
        threading.Thread(target=_beat, args=(ref(self), self._ends), name="curidask-status", daemon=True).start()
        self._write()
        announce(self._status.reference)

    def _save_record(self, *, whole: bool) -> None:
        started = time.monotonic()
        self._save(whole)
        self._saved = time.monotonic()
        self._save_cost = self._saved - started

    def beat(self) -> None:
        """Write, that it may be seen that the run goes on."""
        if time.monotonic() - self._written >= BEAT_SECONDS / 2:
            self._write()

    def _write_when_due(self) -> None:
        if self._has_begun and time.monotonic() - self._written > WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        with self._lock:
            self._written = time.monotonic()
            self._status = replace(self._status, updated=time.time(), stages=self._counts.stages)
            text = json.dumps(asdict(self._status), separators=(",", ":"))
            with suppress(OSError):  # the disk is full or gone: the run goes on, and says so when it matters
                write_atomically(self._folder / FILE, text)


def _beat(keeper: ref[StatusWriter], ends: threading.Event) -> None:
    """Have it write now and then until the run ends, or nothing leads to it any more."""
    while not ends.wait(BEAT_SECONDS):
        found = keeper()
        if found is None:
            return
        found.beat()
        del found


# --- reading ---------------------------------------------------------------------------------------------------------
def read_status(folder: Path) -> RunStatus | None:
    """How a run stands; None for a folder that is none of a run."""
    try:
        data = parse_object(read_file(folder / FILE))
        stages = {name: StageCount(**counts) for name, counts in data.pop("stages").items()}
        status = RunStatus(**data, stages=stages)
        written = (folder / FILE).stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _from_record(folder)
    if not _is_right(status):
        return _from_record(folder)
    if status.status == RUNNING and not _is_alive(status, written):
        return replace(status, status=DIED)
    return status


def _is_right(status: RunStatus) -> bool:
    texts = (status.name, status.status, status.title, status.place, status.executor, *status.stages)
    times = (status.born, status.started, status.updated, *(count.seconds for count in status.stages.values()))
    counts = [getattr(c, name) for c in status.stages.values() for name in COUNTED]
    named = is_name(status.reference) and all(map(is_text, texts))
    return named and is_count(status.pid) and all(map(is_seconds, times)) and all(map(is_count, counts))


def _is_alive(status: RunStatus, written: float) -> bool:
    if status.place == place() and is_pid(status.pid):
        return is_running(status.pid, status.born)
    return time.time() - written < SILENT_SECONDS


def _from_record(folder: Path) -> RunStatus | None:
    """Out of the record of a run that kept no status."""
    from datetime import datetime

    try:
        data = read_record(folder)
        started = datetime.fromisoformat(data["started"]).timestamp()
        status, name = data["status"], data["name"]
    except (ProjectError, ValueError, KeyError, OverflowError):
        return None
    stages: dict[str, StageCount] = {}
    for row in data["tasks"]:
        _count(stages.setdefault(row["stage"], StageCount()), row)
    return RunStatus(
        reference=data["reference"],
        name=name,
        status=DIED if status == RUNNING else status,
        title=data.get("notes", "").partition("\n")[0],
        started=started,
        updated=started + data.get("seconds", 0.0),
        executor=data.get("executor", ""),
        stages=stages,
    )


def _count(count: StageCount, row: dict[str, Any]) -> None:
    status = row.get("status", "not run")
    if status == "reused":
        count.reused += 1
    elif status == "not needed":
        count.pruned += 1
    else:
        count.to_run += 1
        count.done += status in ("done", "found", "unchanged")
        count.found += status == "found"
        count.unchanged += status == "unchanged"
        count.failed += status == "failed"
        count.blocked += status == "blocked"
    count.seconds += row.get("seconds", 0.0)


def all_runs(runs: Path) -> Iterator[RunStatus]:
    """How each run stands whose folder is there."""
    try:
        folders = [entry.path for entry in os.scandir(runs) if entry.is_dir()]
    except OSError:
        return
    for folder in folders:
        status = read_status(Path(folder))
        if status is not None:
            yield status


# --- runs that were to compute anew what is cached, and were broken off ----------------------------------------------
# The same command goes on where they ended.

BROKEN_OFF = ("failed", "interrupted", "died")


def broken_off(record: RunRecord, runs: Path) -> list[str]:
    """The runs right before one that were to compute the same anew in the same cache, none of which came to its end.

    Parameters
    ----------
    record : RunRecord
        Of the run that begins.
    runs : Path
        The folder of all runs.

    Returns
    -------
    list of str
        References, the last first; none for a run that computes nothing anew.
    """
    if not record.overwrites:
        return []
    wanted = json.loads(json.dumps({"options": record.options, "overwrites": record.overwrites, "cache": record.cache}))
    found: list[str] = []
    for reference in _before(record, runs):
        status = read_status(runs / reference)
        if status is None:  # nothing happened in it
            continue
        if status.status not in BROKEN_OFF or not _is_alike(runs / reference, wanted):
            break
        found.append(reference)
    return found


def _before(record: RunRecord, runs: Path) -> Iterator[str]:
    pattern = re.compile(rf"{re.escape(record.name)}_(\d{{1,9}})_")
    with suppress(OSError):
        numbers = {name: int(m[1]) for name in os.listdir(runs) if (m := pattern.match(name))}
        yield from (n for n in sorted(numbers, key=lambda n: -numbers[n]) if numbers[n] < record.number)


def _is_alike(folder: Path, wanted: Mapping[str, Any]) -> bool:
    with suppress(ProjectError):
        record = read_record(folder)
        return all(record.get(name) == value for name, value in wanted.items())
    return False
