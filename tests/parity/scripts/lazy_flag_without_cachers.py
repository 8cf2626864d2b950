"""All outputs lazy, also those of stages that name no cacher.

$ experiment lazy_flag_without_cachers --lazy
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["plain"])
def make(record):
    observe.ran("make")
    return [1, 2]


@cf.stage(["plain"], ["total"], [JsonCacher])
def add(record, plain):
    observe.ran("add")
    observe.value("total", sum(plain))
    return sum(plain)


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        add(make(cf.Record(manager, params)))
