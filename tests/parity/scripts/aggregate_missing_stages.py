"""The same for what stages made, in an experiment.

$ experiment aggregate_missing_stages
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    detailed: bool = False


@cf.stage(None, ["short"], [JsonCacher])
def sketch(record):
    observe.ran("sketch", record.params.name)
    return "short"


@cf.stage(None, ["long"], [JsonCacher])
def describe(record):
    observe.ran("describe", record.params.name)
    return "long"


@cf.aggregate(["short", "long"], ["all"], [JsonCacher])
def collect(record, records, short, long):
    observe.ran("collect")
    found = {each.params.name: [each in short, each in long] for each in records}
    observe.value("all", found)
    return found


def get_params():
    return [Params("brief"), Params("full", detailed=True)]


def run(param_sets, manager):
    for params in param_sets:
        record = sketch(cf.Record(manager, params))
        if params.detailed:
            describe(record)
    collect(cf.Record(manager, None))
