"""A lazy output that is not resolved gives its path.

$ experiment lazy_paths
"""

import os

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, [cf.Lazy("data", resolve=False)], [JsonCacher])
def make(record):
    observe.ran("make")
    return {"a": 1}


@cf.stage(["data"], ["seen"])
def use(record, data):
    observe.ran("use")
    path = data.cacher.get_path()
    with open(path) as file:
        text = file.read()
    seen = [type(data).__name__, os.path.splitext(path)[1], os.path.exists(path), text, data.load()]
    observe.value("seen", seen)
    return seen


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        use(make(cf.Record(manager, params)))
