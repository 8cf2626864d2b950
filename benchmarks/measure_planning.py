"""Trace and plan chained diamonds, and print as JSON how long it took (nothing is executed).

A child of ``overhead.py``. In a diamond two stages read one artifact and a third joins what they make; walked path by
path instead of task by task, a chain of n diamonds has 2^n paths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import curidask as cf
from curidask.caching import JsonCacher
from curidask.core.planner import Action, Force, plan

REPEATS = 7


@cf.stage(None, ["joined"], [JsonCacher])
def top(record: cf.Record) -> int:
    return 1


@cf.stage(["joined"], ["left"], [JsonCacher])
def go_left(record: cf.Record, joined: int) -> int:
    return joined


@cf.stage(["joined"], ["right"], [JsonCacher])
def go_right(record: cf.Record, joined: int) -> int:
    return joined


@cf.stage(["left", "right"], ["joined"], [JsonCacher])
def join(record: cf.Record, left: int, right: int) -> int:
    return left + right


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--diamonds", type=int, default=64)
    parser.add_argument("--cache", required=True)
    options = parser.parse_args()

    began = time.perf_counter()
    manager = cf.ArtifactManager("diamonds", cache=options.cache, live=False, dry=True)
    record = top(cf.Record(manager, None))
    for _ in range(options.diamonds):
        record = join(go_right(go_left(record)))
    traced = time.perf_counter() - began

    pure, whole = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        made = plan(manager.graph, frozenset(), Force(), manager.graph.targets())
        pure.append(time.perf_counter() - began)
        began = time.perf_counter()
        manager.plan()
        whole.append(time.perf_counter() - began)
    n_tasks = len(made.ids(Action.RUN))
    if n_tasks != 3 * options.diamonds + 1:
        raise RuntimeError(f"{n_tasks} tasks would run")
    medians = {"plan": statistics.median(pure), "plan_with_listing": statistics.median(whole)}
    print(json.dumps({"tasks": n_tasks, "trace": traced, **medians}))


if __name__ == "__main__":
    main()
