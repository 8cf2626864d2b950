"""All outputs lazy, or none.

$ experiment lazy_flags
$ experiment lazy_flags --lazy --prefix lazy
$ experiment lazy_flags --ignore-lazy --prefix eager
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["plain"], [JsonCacher])
def make(record):
    observe.ran("make")
    return [1, 2]


@cf.stage(["plain"], [cf.Lazy("lazy")], [JsonCacher])
def change(record, plain):
    observe.ran("change")
    return [*plain, 3]


@cf.stage(["lazy"], ["total"], [JsonCacher])
def add(record, lazy):
    observe.ran("add")
    observe.value("total", sum(lazy))
    return sum(lazy)


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        add(change(make(cf.Record(manager, params))))
