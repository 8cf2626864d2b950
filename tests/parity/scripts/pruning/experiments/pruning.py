"""Only what the ends need is computed: with the graph, and without it.

$ experiment pruning
$ python forget.py middle
$ experiment pruning
$ python forget.py last
$ experiment pruning
$ python forget.py last middle
$ experiment pruning --no-dag
$ python forget.py first middle last
$ experiment pruning
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
    observe.ran("first")
    return 1


@cf.stage(["a"], ["b"], [JsonCacher])
def middle(record, a):
    observe.ran("middle")
    return a + 1


@cf.stage(["b"], ["c"], [JsonCacher])
def last(record, b):
    observe.ran("last")
    return b + 1


@cf.stage(["a"], ["side"], [JsonCacher])
def aside(record, a):
    observe.ran("aside")
    return a


def get_params():
    return [Params("only")]


def run(param_sets, manager):
    for params in param_sets:
        aside(last(middle(first(cf.Record(manager, params)))))
