"""Stages without cachers run when something needs them, and only then.

$ experiment not_cached_in_between
$ experiment not_cached_in_between --no-dag
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["raw"])
def read(record):
    observe.ran("read")
    return [3, 1, 2]


@cf.stage(["raw"], ["ordered"], [JsonCacher])
def order(record, raw):
    observe.ran("order")
    return sorted(raw)


@cf.stage(["ordered"], ["best"])
def pick(record, ordered):
    observe.ran("pick")
    return ordered[0]


@cf.stage(["best"])
def show(record, best):
    observe.ran("show")
    observe.value("best", best)


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        show(pick(order(read(cf.Record(manager, params)))))
