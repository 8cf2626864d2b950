"""Exit codes of what goes wrong.

$ experiment failing
$ experiment failing --names bad
$ experiment failing --names good
$ experiment failing --no-such-flag
$ experiment nowhere
$ experiment failing --indices 7
$ experiment failing --global-indices 7
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    fails: bool = False


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    if record.params.fails:
        raise ZeroDivisionError("it fails")
    return 1


@cf.stage(["data"], ["more"], [JsonCacher])
def change(record, data):
    observe.ran("change", record.params.name)
    return data + 1


def get_params():
    return [Params("bad", fails=True), Params("good")]


def run(param_sets, manager):
    for params in param_sets:
        change(load(cf.Record(manager, params)))
