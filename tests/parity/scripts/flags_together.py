"""Flags that say something about the same.

$ experiment flags_together
$ experiment flags_together --dry --store-full
$ experiment flags_together --lazy --ignore-lazy
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load")
    return [1, 2]


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    load(cf.Record(manager, param_sets[0]))
