"""Artifacts under another name than the experiment's, and in another cache.

$ experiment prefixes --prefix shared
$ experiment prefixes
$ experiment prefixes --prefix shared
$ experiment prefixes --cache other/cache
$ experiment prefixes -c other/cache
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
    for params in param_sets:
        load(cf.Record(manager, params))
