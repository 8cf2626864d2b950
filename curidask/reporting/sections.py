"""What the sections of a report show, with what is too much left to files."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.reporting.cards import is_plain
from curidask.reporting.model import RecordView, RunView, TaskView

MOST_RECORDS = 200
MOST_FAILURES = 30
MOST_WARNINGS = 100
MOST_SETS = 500
MOST_COLUMNS = 40
MOST_LOG_LINES = 400
LOG_TAIL_BYTES = 200_000

LOG_LEVEL = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]")


def facts(run: RunView) -> list[tuple[str, str]]:
    """What was run."""
    data = run.data
    command = [Path(str(word)).name if i == 0 else str(word) for i, word in enumerate(data.get("command", ()))]
    rows = [
        ("Run", run.reference),
        ("Status", data.get("status")),
        ("Command", shlex.join(command) if run.reproduce() else "interactive session"),
        ("Cache", data.get("cache")),
        ("Ran", data.get("executor") or ("nowhere: nothing had to run" if not run.looks["ran"] else "")),
    ]
    return [(label, str(value)) for label, value in rows if value]


def surroundings(run: RunView) -> list[tuple[str, str]]:
    """Where, by whom, with what."""
    data = run.data
    git = data.get("git") or {}
    commit = git.get("commit", "")
    rows = [
        ("User and host", f"{data.get('user')} on {data.get('host')}"),
        ("Folder", data.get("folder")),
        ("Git commit", commit + (" with uncommitted changes" if git.get("changed") else "") if commit else "none"),
        ("Python", data.get("python")),
        ("curidask", data.get("curidask")),
        ("Platform", data.get("platform")),
    ]
    return [(label, str(value)) for label, value in rows if value]


@dataclass(slots=True)
class Failure:
    """A stage that failed; `stopped` counts what did not run since it depends on it."""

    stage: str
    record: str
    worker: str
    error: Mapping[str, str]
    link: str
    stopped: int


def failures(run: RunView, shown_tasks: set[int]) -> list[Failure]:
    """The first failures."""
    dependents: dict[int, list[int]] = {}
    for task in run.tasks.values():
        for before in task.after:
            dependents.setdefault(before, []).append(task.id)
    return [
        Failure(
            task.stage,
            run.record_of_task[task.id].label,
            str(task.row.get("worker") or ""),
            {"type": "Error", "message": "", "traceback": ""} | dict(task.error or {}),
            f"#task-{task.id}" if task.id in shown_tasks else "",
            _stopped(run, task, dependents),
        )
        for task in run.failures[:MOST_FAILURES]
    ]


def _stopped(run: RunView, task: TaskView, dependents: Mapping[int, list[int]]) -> int:
    seen: set[int] = set()
    stack = list(dependents.get(task.id, ()))
    while stack:
        current = stack.pop()
        if current not in seen:
            seen.add(current)
            stack.extend(dependents.get(current, ()))
    return sum(run.tasks[other].look.key == "notrun" for other in seen)


def chosen_records(run: RunView) -> tuple[list[RecordView], str]:
    """The records that are shown in detail, and a note when that is not all of them.

    Of too many, those with failures and the aggregates come before the first ones.
    """
    if len(run.records) <= MOST_RECORDS:
        return run.records, ""

    def weight(record: RecordView) -> int:
        return 0 if record.looks["failed"] else 1 if record.is_aggregate else 2

    chosen = sorted(sorted(run.records, key=weight)[:MOST_RECORDS], key=lambda record: record.number)
    note = (
        f"Shown are {len(chosen)} of {len(run.records):,} records: those that failed, aggregates, and the first ones."
    )
    return chosen, note


# --- parameter sets --------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Cell:
    """A value of a field; `odd` when most other sets have another."""

    text: str
    odd: bool


@dataclass(slots=True)
class SetRow:
    """A parameter set."""

    name: str
    hash: str
    cells: list[Cell]


@dataclass(slots=True)
class SetTable:
    """The parameter sets: the fields that vary as columns, the others once."""

    varying: list[str]
    constant: list[tuple[str, str]]
    rows: list[SetRow]
    more: bool


def parameter_sets(run: RunView) -> SetTable:
    """The table of parameter sets."""
    sets: Mapping[str, Any] = run.data.get("param_sets", {})
    fields = _fields(sets)
    texts = {name: [_text(made["values"].get(name)) for made in sets.values()] for name in fields}
    counts = {name: Counter(column) for name, column in texts.items()}
    varying = [name for name in fields if len(counts[name]) > 1]
    usual = {name: _usual(counts[name], len(sets)) for name in varying}
    shown = varying[:MOST_COLUMNS]
    rows = []
    for i, (hash_, made) in enumerate(sets.items()):
        if i == MOST_SETS:
            break
        cells = [Cell(texts[name][i], usual[name] not in (None, texts[name][i])) for name in shown]
        rows.append(SetRow(made["name"], hash_, cells))
    constant = [(name, texts[name][0]) for name in fields if name not in varying]
    return SetTable(shown, constant, rows, len(sets) > len(rows) or len(varying) > len(shown))


def _fields(sets: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys(name for made in sets.values() for name in made["values"]) if name != "name"]


def _usual(counts: Counter[str], n_sets: int) -> str | None:
    """The value that most sets have, where there is one."""
    value, count = counts.most_common(1)[0]
    return value if count * 2 > n_sets else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parameter_sets_csv(run: RunView) -> str:
    """All parameter sets, a line each."""
    sets: Mapping[str, Any] = run.data.get("param_sets", {})
    fields = _fields(sets)
    rows = ([made["name"], hash_, *(_text(made["values"].get(f)) for f in fields)] for hash_, made in sets.items())
    return _csv(["name", "hash", *fields], rows)


def stages_csv(run: RunView) -> str:
    """All stages of all records, a line each."""
    return _csv(
        [
            "task",
            "stage",
            "record",
            "set",
            "hash",
            "status",
            "reason",
            "seconds",
            "worker",
            "after",
            "outputs",
            "error",
        ],
        (
            [
                task.id,
                task.stage,
                task.row.get("record"),
                task.row.get("set"),
                task.row.get("hash"),
                task.row.get("status"),
                task.row.get("reason"),
                task.row.get("seconds", ""),
                task.row.get("worker", ""),
                " ".join(map(str, task.after)),
                " ".join(task.row.get("outputs", ())),
                f"{task.error.get('type')}: {task.error.get('message')}" if task.error else "",
            ]
            for task in run.tasks.values()
        ),
    )


def _csv(header: list[str], rows: Iterator[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


# --- the log ---------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class LogTail:
    """The end of the log: kind (``warning``, ``error`` or nothing) and text of each line; how many come before."""

    lines: list[tuple[str, str]]
    skipped: int


def log_path(run: RunView, logs: Path | None = None) -> Path | None:
    """Where the log is: among the project's logs, or in the run's folder; a record cannot name another place."""
    places = [] if logs is None else [logs / f"{run.reference}.log"]
    if run.folder is not None:
        places += [run.folder / "log.txt", *sorted(run.folder.glob("*.log"))]
    return next((place for place in places if is_plain(place)), None)


def log_tail(path: Path) -> LogTail:
    """The end of a log."""
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - LOG_TAIL_BYTES)
        before = sum(block.count(b"\n") for block in _blocks(file, start))
        text = file.read().decode("utf-8", errors="replace")
    lines = text.splitlines()
    if start and len(lines) > 1:
        lines, before = lines[1:], before + 1  # it begins within a line
    shown = lines[-MOST_LOG_LINES:]
    return LogTail([(_kind(line), line) for line in shown], before + len(lines) - len(shown))


def _blocks(file: io.BufferedReader, end: int) -> Iterator[bytes]:
    while left := end - file.tell():
        yield file.read(min(left, 1 << 20))


def _kind(line: str) -> str:
    level = LOG_LEVEL.search(line[:60])
    return "" if level is None else "warning" if level[1] == "WARNING" else "error"
