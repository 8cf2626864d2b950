"""A trial."""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return 1


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
