"""Records of all parameter sets, and an aggregate over them; again, with a set more, and with other values.

$ experiment experiment_basic
$ experiment experiment_basic -p experiment_basic
$ MORE_SETS=1 experiment experiment_basic
"""

import os
from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [PickleCacher])
def load(record):
    observe.ran("load", record.params.name)
    return {"x": record.params.x}


@cf.stage(["data"], ["middle"], [PickleCacher])
def change(record, data):
    observe.ran("change", record.params.name)
    return data["x"] * 10


@cf.stage(["middle", "data"], ["score"], [JsonCacher])
def score(record, middle, data):
    observe.ran("score", record.params.name)
    return middle + data["x"]


@cf.aggregate(["score"], ["table"], [JsonCacher])
def gather(record, records, score):
    observe.ran("gather")
    observe.value("names", [each.params.name for each in records])
    table = {each.params.name: value for each, value in score.items()}
    observe.value("table", table)
    return table


def get_params():
    count = 3 if os.environ.get("MORE_SETS") else 2
    return [Params(f"set{x}", x=x) for x in range(count)]


def run(param_sets, manager):
    for params in param_sets:
        score(change(load(cf.Record(manager, params))))
    gather(cf.Record(manager, None))
