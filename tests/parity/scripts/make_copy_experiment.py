"""One data set for all parameter sets of an experiment.

$ experiment make_copy_experiment
$ experiment make_copy_experiment --overwrite-stage load
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return [1, 2, 3]


@cf.stage(["data"], ["scaled"], [JsonCacher])
def scale(record, data):
    observe.ran("scale", record.params.name)
    return [record.params.x * each for each in data]


@cf.aggregate(["scaled"], ["all"], [JsonCacher])
def join(record, records, scaled):
    observe.ran("join")
    result = {each.params.name: value for each, value in scaled.items()}
    observe.value("all", result)
    return result


def get_params():
    return [Params("two", x=2), Params("three", x=3)]


def run(param_sets, manager):
    common = load(cf.Record(manager, Params("common")))
    records = [scale(common.make_copy(params)) for params in param_sets]
    join(cf.Record(manager, None), records)
