"""What is computed again when it is asked for.

$ experiment overwrite
$ experiment overwrite --overwrite
$ experiment overwrite --overwrite-stage middle
$ experiment overwrite --overwrite-stage middle --no-dag
$ experiment overwrite --overwrite-stage first --overwrite-stage gather
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a"], [JsonCacher])
def first(record):
    observe.ran("first", record.params.name)
    return record.params.x


@cf.stage(["a"], ["b"], [JsonCacher])
def middle(record, a):
    observe.ran("middle", record.params.name)
    return a + 1


@cf.stage(["b"], ["c"], [JsonCacher])
def last(record, b):
    observe.ran("last", record.params.name)
    return b + 1


@cf.aggregate(["c"], ["all"], [JsonCacher])
def gather(record, records, c):
    observe.ran("gather")
    observe.value("all", sum(c.values()))
    return sum(c.values())


def get_params():
    return [Params("one", x=1), Params("two", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        last(middle(first(cf.Record(manager, params))))
    gather(cf.Record(manager, None))
