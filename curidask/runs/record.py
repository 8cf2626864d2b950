"""Run records: what a run did, in ``run.json`` of its own folder; displays of past runs are made from it alone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from curidask import __version__
from curidask.core.graph import ArtifactRef, Graph, Task
from curidask.core.planner import Action, Plan
from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError
from curidask.execution.artifact_io import cacher_name
from curidask.execution.base import MADE, ArtifactInfo, Outcome
from curidask.execution.listener import Listener
from curidask.execution.tracebacks import loaded_packages, user_name
from curidask.store.atomic import write_atomically
from curidask.store.backends.local import locked

RESERVE_ATTEMPTS = 1000
MOST_DIGITS = 9
"""Of a run's number; a folder of somebody else may be called anything."""

TIMESTAMP_FORMAT = "%Y-%m-%d-T%H%M%S"
"""The time in the reference of a run."""

logger = logging.getLogger("curidask.run")

NO_REPOSITORY = (
    "the project is in no git repository, so nothing tells which code made the results; `git init` makes one"
)


@dataclass(slots=True)
class RunRecord(Listener):
    """A run, as it is known so far. It listens to the runner.

    Attributes
    ----------
    name : str
        The experiment's name.
    number : int
        Counts the runs of that experiment.
    reference : str
        ``name_number_time``.
    decisions : dict
        Task to action and reason.
    results : dict
        Task to how it ended.
    described : dict
        Store name to what is known of an artifact that this run did not make.
    prefix : str
        How its artifacts' names begin.
    notes : str
        What the user says of the run; the first line is its title.
    options : dict
        What selects the parameter sets and decides what is computed, by the names of `run_experiment`.
    overwrites : list of str
        The stages that were to be computed anew; ``*`` for all.
    records : list of dict
        The manager's records: index, set's name, hash, tasks, and the records that went in.
    folder, log : str
        Where the command was given, and the log file.
    reproduce : list of str
        The words of the command that gives the results again out of the folder of a store-full run.
    git : dict or None
        The state of the project's repository when the record was written first.
    """

    told_as: ClassVar[str] = "the run record"
    name: str
    number: int
    reference: str
    cache: str
    command: Sequence[str]
    started: float = field(default_factory=time.time)
    status: str = "running"
    executor: str = ""
    warnings: list[str] = field(default_factory=list)
    decisions: dict[int, tuple[Action, str]] = field(default_factory=dict)
    results: dict[int, Outcome] = field(default_factory=dict)
    blocked_tasks: set[int] = field(default_factory=set)
    described: dict[str, ArtifactInfo] = field(default_factory=dict)
    ended_at: float | None = None
    prefix: str = ""
    notes: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    overwrites: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    folder: str = field(default_factory=os.getcwd)
    log: str = ""
    reproduce: list[str] = field(default_factory=list)
    git: dict[str, Any] | None = None

    # --- Listener ----------------------------------------------------------------------------------------------------
    def planned(self, graph: Graph, plan: Plan) -> None:
        """Keep the decisions."""
        for task, decision in plan.decisions.items():
            if task in self.decisions and decision.action is Action.PRUNE:
                continue  # it ran, and what it gave is not needed again
            self.decisions[task] = (decision.action, str(decision.reason))

    def started_executor(self, description: str) -> None:
        """Keep where it ran."""
        self.executor = description

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Keep how a task ended."""
        self.results[task.id] = outcome

    def blocked(self, task: Task) -> None:
        """Keep that a task did not run."""
        self.blocked_tasks.add(task.id)

    def warned(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    # --- writing -----------------------------------------------------------------------------------------------------
    def as_dict(
        self, graph: Graph, param_sets: Mapping[str, Any], reportables: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """The record as plain JSON values."""
        if self.git is None:
            self.git = git_state(Path(self.folder))
        return {
            "version": 1,
            "name": self.name,
            "number": self.number,
            "reference": self.reference,
            "status": self.status,
            "command": list(self.command),
            "prefix": self.prefix,
            "options": self.options,
            "overwrites": self.overwrites,
            "notes": self.notes,
            "started": datetime.fromtimestamp(self.started).astimezone().isoformat(timespec="seconds"),
            "seconds": round((self.ended_at or time.time()) - self.started, 3),
            "cache": self.cache,
            "executor": self.executor,
            "user": user_name(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "curidask": __version__,
            "platform": platform.platform(terse=True),
            "packages": loaded_packages(),
            "folder": self.folder,
            "log": self.log,
            "reproduce": self.reproduce,
            "git": self.git,
            "warnings": self.warnings,
            "param_sets": dict(param_sets),
            "reportables": list(reportables),
            "records": self.records,
            "stages": _stages(graph),
            "tasks": [self._row(task) for task in graph if task.id in self.decisions],
        }

    def _row(self, task: Task) -> dict[str, Any]:
        action, reason = self.decisions[task.id]
        outcome = self.results.get(task.id)
        row: dict[str, Any] = {
            "id": task.id,
            "stage": task.spec.name,
            "record": task.record.index,
            "set": task.record.name,
            "hash": task.record.params_hash,
            "key": task.key,
            "after": task.dependencies,
            "inputs": _input_tasks(task),
            "outputs": [o.name for o in task.outputs],
            "artifacts": list(task.stems),
            "marker": task.marker,
            "described": {info.name: _described(info) for info in self._artifacts(task)},
            "action": action.value,
            "reason": reason,
            "status": self.status_of(task.id),
        }
        if outcome is not None:
            row |= {"seconds": round(outcome.seconds, 6), "worker": outcome.worker}
            if outcome.peak_bytes:
                row["peak_bytes"] = outcome.peak_bytes
            if outcome.error is not None:
                error = outcome.error
                row["error"] = {"type": error.type, "message": error.message, "traceback": error.traceback_text}
                if error.output:
                    row["error"]["output"] = error.output
        return row

    def _artifacts(self, task: Task) -> Sequence[ArtifactInfo]:
        outcome = self.results.get(task.id)
        if outcome is not None and outcome.artifacts:
            return outcome.artifacts
        return [self.described[stem] for stem in task.stems if stem in self.described]

    def status_of(self, task: int) -> str:
        """How a task stands, in one word."""
        outcome = self.results.get(task)
        if outcome is not None:
            return outcome.kind.value if outcome.kind in MADE else "failed"
        if task in self.blocked_tasks:
            return "blocked"
        action = self.decisions[task][0]
        return {Action.RUN: "not run", Action.REUSE: "reused", Action.PRUNE: "not needed"}[action]


def _input_tasks(task: Task) -> dict[str, list[int]]:
    """The tasks that each input comes from; none for a value that the experiment put into the state itself."""
    found: dict[str, dict[int, None]] = {}
    for inputs in (task.inputs, *(gathered.artifacts for gathered in task.gathered)):
        for name, ref in inputs.items():
            tasks = found.setdefault(name, {})
            if isinstance(ref, ArtifactRef):
                tasks[ref.task] = None
    return {name: list(tasks) for name, tasks in found.items()}


def _described(info: ArtifactInfo) -> dict[str, Any]:
    return {
        "preview": info.preview,
        "size_bytes": info.size_bytes,
        "digest": info.digest,
        "run": info.run,
        "files": list(info.files),
    }


def _stages(graph: Graph) -> dict[str, Any]:
    """What the stages are: the first line of their docstring, where they are defined, what stores their outputs."""
    found: dict[str, Any] = {}
    for task in graph:
        if task.spec.name not in found:
            code = getattr(task.spec.function, "__code__", None)
            found[task.spec.name] = {
                "doc": (task.spec.function.__doc__ or "").strip().partition("\n")[0],
                "place": f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "",
                "aggregate": task.spec.is_aggregate,
                "cachers": {o.name: cacher_name(o.cacher) if o.cacher is not None else "" for o in task.outputs},
            }
    return found


def new_reference(name: str, runs: Path, *, reserve: bool) -> tuple[int, str]:
    """The number and the reference of a new run.

    Parameters
    ----------
    name : str
        The experiment's.
    runs : Path
        The folder of all runs.
    reserve : bool
        Make the run's folder, so that no other run gets the same; where it cannot be made, none is.
    """
    if not reserve:
        return _next_reference(name, runs)
    with contextlib.suppress(OSError):
        runs.mkdir(parents=True, exist_ok=True)
        # The lock keeps numbers apart. A file system without locks still makes a folder once only.
        with locked(lambda: os.open(runs, os.O_RDONLY)):
            for _ in range(RESERVE_ATTEMPTS):
                number, reference = _next_reference(name, runs)
                with contextlib.suppress(FileExistsError):
                    (runs / reference).mkdir()
                    return number, reference
    return _next_reference(name, runs)


def _next_reference(name: str, runs: Path) -> tuple[int, str]:
    """The number is one more than the highest; what has a number that no run comes to is no run's."""
    pattern = re.compile(rf"{re.escape(name)}_(\d{{1,{MOST_DIGITS}}})_")
    numbers = [int(m[1]) for entry in _entries(runs) if (m := pattern.match(entry))]
    number = max(numbers, default=0) + 1
    return number, f"{name}_{number}_{datetime.now().strftime(TIMESTAMP_FORMAT)}"


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # there is none yet, or this user may not look
        return []


def drop_unused(folder: Path) -> None:
    """Remove the folder of a run in which nothing happened."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def save(
    record: RunRecord,
    graph: Graph,
    param_sets: Mapping[str, Any],
    runs: Path,
    reportables: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a run record, in one step.

    Parameters
    ----------
    param_sets : mapping
        By hash, for people to read.
    runs : Path
        The folder of all runs.
    reportables : sequence of mapping
        The rows of a `ReportCollector`.

    Raises
    ------
    CacheError
        When the runs folder cannot be written.
    """
    path = runs / record.reference / "run.json"
    text = hide_secrets(json.dumps(record.as_dict(graph, param_sets, reportables), separators=(",", ":")))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise CacheError(
            f"The run record cannot be written: {error.strerror or error}.",
            where=str(path),
            fix="make the folder writable, set `runs` in the configuration, or use --dry",
        ) from error
    return path


def in_repository(folder: Path) -> bool:
    """Whether a folder lies in a git repository. Nothing is started to find out, since every run asks."""
    return "GIT_DIR" in os.environ or any(os.path.exists(place / ".git") for place in (folder, *folder.parents))


def warn_without_repository(folder: Path) -> None:
    """Log a warning when a folder lies in no git repository; the report tells it by the run record."""
    if not in_repository(folder):
        logger.warning("%s", NO_REPOSITORY, extra={"notice": True, "stage": ""})


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of a folder's repository and whether there are changes; ``repository`` is False outside of one."""
    if not in_repository(folder):
        return {"repository": False}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = _git(folder, "rev-parse", "HEAD")
        if commit:
            return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    return {}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
