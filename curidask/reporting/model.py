"""A run as displays see it: read from ``run.json``, put in order, nothing decided anew."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from curidask.runs.schema import read_record


@dataclass(frozen=True, slots=True)
class Look:
    """How a task ended, as it is shown.

    Attributes
    ----------
    key : str
        In style sheets.
    word, mark : str
        For people; the mark tells it without colour.
    """

    key: str
    word: str
    mark: str


LOOKS = {
    "ran": Look("ran", "ran", "●"),
    "reused": Look("reused", "reused", "↺"),
    "unneeded": Look("unneeded", "not needed", "·"),
    "failed": Look("failed", "failed", "✕"),
    "notrun": Look("notrun", "not run", "○"),
}
LOOK_OF_STATUS = {
    "done": LOOKS["ran"],
    "found": LOOKS["reused"],
    "unchanged": LOOKS["reused"],
    "reused": LOOKS["reused"],
    "not needed": LOOKS["unneeded"],
    "failed": LOOKS["failed"],
}
"""What is in no list (blocked, not run) did not run."""

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("name", "status", "started", "cache", "executor", "user", "host", "python"), ""),
    **dict.fromkeys(("curidask", "platform", "folder", "log", "notes"), ""),
    **dict.fromkeys(("command", "reproduce", "warnings", "reportables", "records", "tasks"), ()),
    **{name: {} for name in ("git", "packages", "param_sets", "stages")},
    "number": 0,
    "seconds": 0.0,
}
"""What a run record lacks that was written by another version."""

NO_SET = "None"
"""What the record of no parameter set is named."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An output of a task.

    Attributes
    ----------
    name, preview, digest : str
    paths : list of str
        Its files in the cache; empty when it is not stored, or when its run record does not tell.
    stem : str
        Its name in the cache, empty when it is not stored.
    run : str
        The run that made it, empty for this one.
    """

    name: str
    preview: str
    digest: str
    size_bytes: int | None
    paths: list[str]
    stem: str
    run: str
    cacher: str


@dataclass(eq=False)
class TaskView:
    """A stage on a record, or on several that share it."""

    row: Mapping[str, Any]
    cache: str = ""
    reference: str = ""
    cachers: Mapping[str, str] = field(default_factory=dict)
    n_sharing: int = 1

    @property
    def id(self) -> int:
        """Its number in the run."""
        return int(self.row["id"])

    @property
    def stage(self) -> str:
        """The stage's name."""
        return str(self.row["stage"])

    @property
    def look(self) -> Look:
        """How it ended."""
        return LOOK_OF_STATUS.get(self.row.get("status", ""), LOOKS["notrun"])

    @property
    def after(self) -> list[int]:
        """The tasks it read from."""
        return list(self.row.get("after", ()))

    @property
    def seconds(self) -> float | None:
        """How long it took, None when it did not run."""
        return self.row.get("seconds") if self.look.key in ("ran", "failed") else None

    @property
    def error(self) -> Mapping[str, str] | None:
        """What it failed with."""
        return self.row.get("error")

    @property
    def reason(self) -> str:
        """Why it was to run or not, and what came of it."""
        text = str(self.row.get("reason", ""))
        extra = {"blocked": "a stage before it failed", "found": "made elsewhere meanwhile", "unchanged": "unchanged"}
        shared = f"shared by {self.n_sharing} sets" if self.n_sharing > 1 else ""
        return "; ".join(filter(None, (text, extra.get(self.row.get("status", "")), shared)))

    @property
    def inputs(self) -> list[tuple[str, list[int]]]:
        """Input names, with the tasks they come from."""
        return list(self.row.get("inputs", {}).items())

    @cached_property
    def artifacts(self) -> list[Artifact]:
        """Its outputs."""
        names = self.row.get("outputs", ())
        return [
            self._artifact(name, stem or "") for name, stem in zip(names, self.row.get("artifacts", ()), strict=False)
        ]

    def _artifact(self, name: str, stem: str) -> Artifact:
        known = self.row.get("described", {}).get(name, {})
        run = known.get("run", "")
        return Artifact(
            name=name,
            preview=known.get("preview", ""),
            digest=known.get("digest", ""),
            size_bytes=known.get("size_bytes"),
            paths=[f"{self.cache.rstrip('/')}/{file}" for file in known.get("files", ())],
            stem=stem,
            run="" if run == self.reference else run,
            cacher=self.cachers.get(name, ""),
        )


@dataclass(slots=True, eq=False)
class RecordView:
    """A record with its tasks; `shared` are those that another record has already."""

    number: int
    index: int
    name: str
    hash: str
    is_aggregate: bool
    inputs: list[int]
    tasks: list[TaskView]
    shared: list[TaskView]

    @property
    def label(self) -> str:
        """The record as the user knows it."""
        kind = f"Record {self.index}" if self.index >= 0 else "hidden record"
        name = self.name if self.name != NO_SET else "aggregate" if self.is_aggregate else ""
        return f"{kind} ({name})" if name else kind

    @property
    def title(self) -> str:
        """A short name: the set's, where there is one."""
        return self.name if self.name != NO_SET else "all records" if self.is_aggregate else "no parameters"

    @property
    def looks(self) -> Counter[str]:
        """How many of its tasks ended how."""
        return count_looks(self.tasks)


def count_looks(tasks: Iterable[TaskView]) -> Counter[str]:
    """How many tasks ended how, by the look's key."""
    return Counter(task.look.key for task in tasks)


@dataclass(slots=True, eq=False)
class StageView:
    """A stage over all records."""

    number: int
    name: str
    about: Mapping[str, Any]
    tasks: list[TaskView]

    @property
    def looks(self) -> Counter[str]:
        """How many of its tasks ended how."""
        return count_looks(self.tasks)

    @property
    def seconds(self) -> list[float]:
        """How long those took that ran."""
        return [task.seconds for task in self.tasks if task.seconds is not None]


class RunView:
    """A run.

    Parameters
    ----------
    data : mapping
        What ``run.json`` holds.
    folder : Path or None
        Where the reportables' folders lie.
    """

    def __init__(self, data: Mapping[str, Any], folder: Path | None = None) -> None:
        self.data: Mapping[str, Any] = DEFAULTS | {name: value for name, value in data.items() if value is not None}
        self.folder = folder
        self.reference = str(data["reference"])

    @cached_property
    def tasks(self) -> dict[int, TaskView]:
        """By number."""
        stages = self.data.get("stages", {})
        cache = self.data.get("cache", "")
        sharing = Counter(task for record in self.data.get("records", ()) for task in set(record["tasks"]))
        return {
            row["id"]: TaskView(
                row,
                cache,
                self.reference,
                stages.get(row["stage"], {}).get("cachers", {}),
                max(1, sharing[row["id"]]),
            )
            for row in self.data.get("tasks", ())
        }

    @cached_property
    def looks(self) -> Counter[str]:
        """How many tasks ended how."""
        return count_looks(self.tasks.values())

    @cached_property
    def records(self) -> list[RecordView]:
        """In the order of the manager, hidden ones last; those none of whose stages came to a plan are left out."""
        found: list[RecordView] = []
        owned: set[int] = set()
        for row in self._record_rows():
            ids = [task for task in row["tasks"] if task in self.tasks]
            own = [self.tasks[task] for task in ids if task not in owned]
            shared = [self.tasks[task] for task in ids if task in owned]
            owned.update(ids)
            if ids:
                found.append(
                    RecordView(
                        len(found), row["index"], row["name"], row["hash"], row["aggregate"], row["inputs"], own, shared
                    )
                )
        return found

    def _record_rows(self) -> Iterator[Mapping[str, Any]]:
        rows = list(self.data.get("records", ()))
        yield from rows
        listed = {task for row in rows for task in row["tasks"]}
        hidden: dict[tuple[int, str], dict[str, Any]] = {}
        for task in self.tasks.values():
            if task.id not in listed:
                key = (task.row["record"], task.row["set"])
                made = {"index": key[0], "name": key[1], "hash": task.row["hash"]}
                row = hidden.setdefault(key, made | {"aggregate": False, "inputs": [], "tasks": []})
                row["tasks"].append(task.id)
        yield from hidden.values()

    @cached_property
    def record_of_task(self) -> dict[int, RecordView]:
        """The record that each task is shown with."""
        return {task.id: record for record in self.records for task in record.tasks}

    @cached_property
    def stages(self) -> list[StageView]:
        """In the order of first use."""
        about = self.data.get("stages", {})
        by_name: dict[str, list[TaskView]] = {}
        for task in self.tasks.values():
            by_name.setdefault(task.stage, []).append(task)
        return [StageView(n, name, about.get(name, {}), tasks) for n, (name, tasks) in enumerate(by_name.items())]

    @property
    def failures(self) -> list[TaskView]:
        """The tasks that failed themselves."""
        return [task for task in self.tasks.values() if task.look.key == "failed"]

    @property
    def title(self) -> str:
        """The first line of the notes."""
        return str(self.data["notes"]).strip().partition("\n")[0]

    @property
    def n_sets(self) -> int:
        """How many parameter sets it had."""
        return len(self.data.get("param_sets", ()))

    def summary(self) -> dict[str, Any]:
        """What a list of runs shows of it."""
        kept = ("reference", "name", "number", "status", "started", "seconds", "user", "host")
        return {key: self.data.get(key) for key in kept} | {
            "sets": self.n_sets,
            "title": self.title,
            "looks": dict(self.looks),
            "reportables": len(self.data.get("reportables", ())),
        }

    def reproduce(self) -> list[str]:
        """Shell commands that do the run again; empty for one that no command started (a notebook)."""
        command = [str(word) for word in self.data.get("command", ())]
        if not command or "ipykernel" in command[0] or not command[0]:
            return []
        program = Path(command[0])
        return self._from_project(["python", *command] if program.suffix == ".py" else [program.name, *command[1:]])

    def reproduce_from_folder(self) -> list[str]:
        """Shell commands that give its results again out of the folder of a store-full run; empty for any other run."""
        words = [str(word) for word in self.data["reproduce"]]
        return self._from_project(words) if words else []

    def _from_project(self, words: list[str]) -> list[str]:
        lines = []
        if folder := self.data.get("folder"):
            lines.append(f"cd {shlex.quote(folder)}")
        if commit := self.data.get("git", {}).get("commit"):
            lines.append(f"git checkout {shlex.quote(commit)}")
        return [*lines, shlex.join(words)]


def read_run(folder: Path) -> RunView:
    """Read a run from its folder.

    Parameters
    ----------
    folder : Path
        Of a run, or of its report: it has a ``run.json``.

    Raises
    ------
    ProjectError
        When there is no run record, or it cannot be read.
    """
    return RunView(read_record(folder), folder)
