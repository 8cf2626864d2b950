"""The same in worker processes.

$ CURIDASK_PARALLEL=2 experiment experiment_workers --parallel 2
"""

import os
from dataclasses import dataclass

import curifactory as cf
import numpy as np
from curifactory.caching import FileReferenceCacher, JsonCacher, PickleCacher
from curifactory.reporting import HTMLReporter

import observe


@dataclass
class Point:
    x: int


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["points", "numbers"], [PickleCacher, PickleCacher])
def load(record):
    observe.ran("load", record.params.name)
    record.report(HTMLReporter(f"<b>loaded {record.params.name}</b>", name="loaded"))
    return [Point(record.params.x), Point(2)], np.arange(record.params.x)


@cf.stage(["points"], ["files"], [FileReferenceCacher])
def write(record, points):
    folder = record.get_dir("points")
    paths = [os.path.join(folder, f"{point.x}.txt") for point in points]
    for path in paths:
        with open(path, "w") as file:
            file.write(record.params.name)
    return paths


@cf.stage(["numbers", "files"], ["score"], [JsonCacher])
def measure(record, numbers, files):
    observe.ran("measure", record.params.name)
    return [int(numbers.sum()), len(set(files))]


@cf.aggregate(["score", "files"], ["table"], [JsonCacher])
def gather(record, records, score, files):
    observe.ran("gather", f"of {len(records)}")
    table = {each.params.name: value for each, value in score.items()}
    if len(records) == 3:
        observe.value("table", table)
        observe.value("texts", [observe.text(paths[0]) for paths in files.values()])
    return table


def get_params():
    return [Params(f"set{x}", x=x) for x in range(3, 6)]


def run(param_sets, manager):
    for params in param_sets:
        measure(write(load(cf.Record(manager, params))))
    gather(cf.Record(manager, None))
