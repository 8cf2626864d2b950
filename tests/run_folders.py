"""Folders of runs as tests want them, written as a run writes them but without running anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curidask.core.graph import RecordInfo
from curidask.execution.base import Reported
from curidask.runs.reportables import ReportCollector

STATUS = {"done": "run", "failed": "run", "blocked": "run", "reused": "reuse", "not needed": "prune", "not run": "run"}


def described(preview: str) -> dict[str, Any]:
    """What is said of an artifact."""
    return {"preview": preview, "size_bytes": 5, "digest": "0" * 64, "run": "", "files": ["f"]}


def task(number: int, stage: str, record: int, name: str, after: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """A row of a run record."""
    status = more.pop("status", "done")
    row = {
        "id": number,
        "stage": stage,
        "record": record,
        "set": name,
        "hash": f"{record:032x}",
        "key": f"{number:064x}",
        "after": list(after),
        "inputs": {"value": list(after)} if after else {},
        "outputs": ["value"],
        "artifacts": [f"demo_{stage}_{number}"],
        "described": {"value": described(f"of {name}")},
        "action": STATUS[status],
        "reason": "not in the cache",
        "status": status,
    }
    if status in ("done", "failed"):
        row |= {"seconds": 0.25, "worker": "host:1"}
    if status == "failed":
        row["error"] = {"type": "ValueError", "message": f"about {name}", "traceback": f"in {name}\n"}
    return row | more


def run_record(names: Sequence[str] = ("one", "two"), *, failing: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """A run of two stages a set and an aggregate over all of them."""
    tasks, records = [], []
    for i, name in enumerate(names):
        failed = i in failing
        first = task(2 * i, "load", i, name, status="failed" if failed else "done")
        tasks += [first, task(2 * i + 1, "fit", i, name, [2 * i], status="blocked" if failed else "done")]
        records.append(
            {
                "index": i,
                "name": name,
                "hash": f"{i:032x}",
                "aggregate": False,
                "inputs": [],
                "tasks": [2 * i, 2 * i + 1],
            }
        )
    n = len(names)
    last = [2 * i + 1 for i in range(n)]
    tasks.append(task(2 * n, "compare", n, "None", last, status="blocked" if failing else "done"))
    records.append(
        {"index": n, "name": "None", "hash": "f" * 32, "aggregate": True, "inputs": list(range(n)), "tasks": [2 * n]}
    )
    return {
        "version": 1,
        "name": "demo",
        "number": 1,
        "reference": "demo_1_2026-05-01-T101500",
        "status": "failed" if failing else "done",
        "command": ["/somewhere/bin/experiment", "demo", "--parallel", "2"],
        "started": "2026-05-01T10:15:00+00:00",
        "seconds": 3.5,
        "cache": "/project/data/cache",
        "executor": "on 2 local worker processes",
        "user": "ada",
        "host": "engine",
        "python": "3.12.1",
        "git": {},
        "warnings": [],
        "param_sets": {f"{i:032x}": {"name": name, "values": {"name": name, "x": i}} for i, name in enumerate(names)},
        "reportables": [],
        "records": records,
        "stages": {"load": {"doc": "Load it.", "place": "/project/experiments/demo.py:3", "cachers": {}}},
        "tasks": tasks,
    } | more


def write_run(runs: Path, data: dict[str, Any], reported: Sequence[tuple[int, Reported]] = ()) -> Path:
    """Write a run record with what tasks (by number) reported; the run's folder."""
    folder = runs / data["reference"]
    collector = ReportCollector(folder)
    rows = {row["id"]: row for row in data["tasks"]}
    for number, item in reported:
        row = rows[number]
        record = RecordInfo(row["record"], row["set"], None, row["hash"])
        collector.add(item, record, row["stage"], number)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data | {"reportables": collector.rows})
    (folder / "run.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    return folder
