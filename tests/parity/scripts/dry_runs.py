"""Nothing is written, or nothing into the cache.

$ experiment dry_runs --dry
$ experiment dry_runs --dry-cache
$ experiment dry_runs
$ experiment dry_runs --dry
$ experiment dry_runs --dry --overwrite
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load")
    return [1, 2]


@cf.stage(["data"], ["total"], [JsonCacher])
def add(record, data):
    observe.ran("add")
    observe.value("total", sum(data))
    return sum(data)


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        add(load(cf.Record(manager, params)))
