"""How a run stands, for those who look at it from outside: a small file in its folder, kept up to date while it runs.

The run record has all of a run, but is written now and then only, since it is large. A run whose process is gone, or
that has not written for long on another machine, has died, whatever the file says.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import ref

from curidask.core.graph import Graph, Task
from curidask.core.planner import Plan
from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError, ProjectError
from curidask.execution.base import Outcome
from curidask.runs.announcing import announce
from curidask.runs.counts import COUNTED, Counts, StageCount
from curidask.runs.record import RunRecord
from curidask.runs.schema import read_record
from curidask.session.events import Listener
from curidask.store.processes import is_running, own_birth, place
from curidask.store.untrusted import is_count, is_name, is_pid, is_seconds, is_text, parse_object, read_file

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
    pid : int
    place : str
    born : float
        Of the process, see `curidask.store.processes`.
    started, updated : float
        When it began and when this was written, in seconds since the epoch.
    executor : str
        Where it runs.
    stages : dict of str to StageCount
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
class StatusKeeper(Listener):
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
            beside = self._folder / f".{FILE}.{os.getpid()}"
            with suppress(OSError):  # the disk is full or gone: the run goes on, and says so when it matters
                beside.write_text(text)
                os.replace(beside, self._folder / FILE)


def _beat(keeper: ref[StatusKeeper], ends: threading.Event) -> None:
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
