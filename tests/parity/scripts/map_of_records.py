"""The plan, without running anything.

$ experiment map_of_records --map --quiet > compared
$ experiment map_of_records
$ experiment map_of_records --map --quiet > compared
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


@cf.stage(["a"], ["b", "c"])
def last(record, a):
    observe.ran("last", record.params.name)
    return a + 1, a + 2


@cf.aggregate(["b"], ["all"], [JsonCacher])
def gather(record, records, b):
    observe.ran("gather")
    return sum(b.values())


def get_params():
    return [Params("one", x=1), Params("two", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        last(first(cf.Record(manager, params)))
    gather(cf.Record(manager, None))
