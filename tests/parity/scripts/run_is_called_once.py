"""How often `run` itself is called.

$ experiment run_is_called_once
$ experiment run_is_called_once --no-dag
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load")
    return 1


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    observe.ran("run")
    for params in param_sets:
        load(cf.Record(manager, params))
