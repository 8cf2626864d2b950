"""What a stage found steers what is called next: a value is there when it is read.

$ experiment steering --no-dag
$ experiment steering
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["score"], [JsonCacher])
def measure(record):
    observe.ran("measure", record.params.name)
    return record.params.x


@cf.stage(["score"], ["refined"], [JsonCacher])
def refine(record, score):
    observe.ran("refine", record.params.name)
    return score * 10


def get_params():
    return [Params("low", x=1), Params("high", x=5)]


def run(param_sets, manager):
    best = max((measure(cf.Record(manager, params)) for params in param_sets), key=lambda each: each.state["score"])
    observe.value("best", [best.params.name, refine(best).state["refined"]])
