"""The cachers of the stage that runs, seen from inside.

$ experiment stage_cachers
"""

import os

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@cf.stage(None, ["a", "b"], [JsonCacher, PickleCacher])
def make(record):
    observe.ran("make")
    cachers = record.stage_cachers
    observe.value("kinds", [type(each).__name__ for each in cachers])
    observe.value("endings", [os.path.splitext(each.get_path())[1] for each in cachers])
    observe.value("names", [each.name for each in cachers])
    observe.value("stage", record.stages[-1])
    return 1, 2


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        make(cf.Record(manager, params))
