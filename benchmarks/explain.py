"""Print how long `curidask explain` takes beyond planning, for many tasks, and what is told before a run.

Run it from the repository: ``python -m benchmarks.explain``. The cache is filled without computing anything; then each
case is looked at in a process of its own: nothing changed, a helper edited, a field of all parameter sets changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from curidask.cli.explain import explained
from curidask.core.artifact_names import manifest_name
from curidask.core.graph import Graph
from curidask.core.preview import describe_params
from curidask.execution.tracebacks import loaded_packages
from curidask.experiment import run_experiment
from curidask.session.explain.run_causes import RunCauses
from curidask.store.artifacts import ArtifactStore
from curidask.store.base import Store
from curidask.store.manifest import FileEntry, Manifest

EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher
import helper

@dataclass
class Params(cf.ExperimentParameters):
    seed: int = 0
    n_train: int = 100
    rate: float = 0.1
    depth: int = 3

@cf.stage(None, ["rows"], [JsonCacher], params=["seed", "n_train"])
def load(record):
    return helper.rows(record.params.seed)

@cf.stage(["rows"], ["model"], [JsonCacher])
def fit(record, rows):
    return [helper.scaled(rows), record.params.rate]

@cf.stage(["model"], ["score"], [JsonCacher])
def score(record, model, metric="accuracy"):
    return len(model)

@cf.aggregate(["score"], ["table"], [JsonCacher])
def table(record, records, score):
    return sum(score.values())

def get_params():
    return [Params(f"set{i}", seed=i, n_train=100 * (i % 7)) for i in range({sets})]

def run(param_sets, manager):
    records = [score(fit(load(cf.Record(manager, p)))) for p in param_sets]
    table(cf.Record(manager, None), records)
"""
HELPER = "def rows(seed):\n    return [seed]\n\n\ndef scaled(rows):\n    return [2 * row for row in rows]\n"

CASES = {
    "nothing changed": ("", "", ""),
    "a helper edited": ("helper.py", "[2 * row", "[3 * row"),
    "a field changed": ("experiments/many.py", "rate: float = 0.1", "rate: float = 0.2"),
    "all fields changed": ("experiments/many.py", "seed=i,", "seed=i + 1000000, rate=0.3, depth=i,"),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--inside", choices=["fill", *CASES], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside == "fill":
        fill()
    elif given.inside:
        measure(given.inside)
    else:
        measure_all(given.tasks)


def measure_all(n_tasks: int) -> None:
    """Make a project, and look at each case by a process of its own."""
    with tempfile.TemporaryDirectory(prefix="explain-") as folder:
        root = Path(folder)
        (root / "experiments").mkdir()
        files = {
            "curidask.toml": "",
            "helper.py": HELPER,
            "experiments/many.py": EXPERIMENT.replace("{sets}", str(n_tasks // 3)),
        }
        write(root, files)
        child(root, "fill")
        print("| | trace and plan | explain | requests | lines | before a run | requests | lines |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for case, (path, old, new) in CASES.items():
            write(root, files)
            if path:
                write(root, {path: files[path].replace(old, new)})
            child(root, case)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).write_text(text)


def child(root: Path, inside: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "benchmarks.explain", "--inside", inside]
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": path}, check=True)


def planned() -> Any:
    return run_experiment("many", map_only=True, quiet=True, mngr=True)


def fill() -> None:
    """Write what a run would have left in the cache."""
    graph: Graph = planned().manager.graph
    objects = ArtifactStore.open("data/cache").objects
    for task in graph:
        ref, stem = task.ref(0), task.store_stems[0]
        manifest = Manifest(
            key=ref.key,
            stem=stem,
            prefix="many",
            stage=task.spec.name,
            output=ref.name,
            params_hash=task.record.used_hash,
            set_name=task.record.name,
            components=dict(task.components),
            files=(FileEntry(".json", 1, "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"),),
            cacher="JsonCacher",
            params=describe_params(task.record.params, task.record.used_names),
            created="2026-01-01T00:00:00.000+00:00",
            packages=loaded_packages(),
        )
        objects.write(f"{stem}.json", b"1")
        objects.write(manifest_name(stem), manifest.to_bytes())


class Counted:
    """Counts what is asked of the objects of a store."""

    def __init__(self, store: Store) -> None:
        self.n_listed = self.n_read = 0
        objects: Any = store.objects
        entries, read_many = objects.entries, objects.read_many

        def counted_entries(prefix: str = "") -> Any:
            self.n_listed += 1
            return entries(prefix)

        def counted_reads(names: Any) -> Any:
            names = list(names)
            self.n_read += len(names)
            return read_many(names)

        objects.entries, objects.read_many = counted_entries, counted_reads

    def taken(self) -> str:
        """What was asked since the last call."""
        text = f"{self.n_listed} listings, {self.n_read} reads"
        self.n_listed = self.n_read = 0
        return text


def measure(case: str) -> None:
    """Print a row."""
    began = time.perf_counter()
    manager = planned().manager
    plan = manager.plan()
    planning = time.perf_counter() - began
    counted = Counted(manager.store)
    began = time.perf_counter()
    lines = [line for told in explained(manager, plan) for line in told.lines()]
    took = time.perf_counter() - began
    asked = counted.taken()
    told: list[str] = []
    causes = RunCauses(manager.store, lambda: manager.codes.by_key, lambda lines, n_more: told.extend(lines))
    began = time.perf_counter()
    causes.planned(manager.graph, plan)
    before = time.perf_counter() - began
    print(
        f"| {case}, {len(manager.graph):,} tasks | {planning:.2f} s | {took:.2f} s | {asked} | {len(lines):,} "
        f"| {before:.3f} s | {counted.taken()} | {len(told)} |"
    )


if __name__ == "__main__":
    main()
