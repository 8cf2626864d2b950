"""A procedure that is defined when the module is imported, and gets its manager when it is run.

$ experiment procedure_at_import
$ experiment procedure_at_import --map
$ experiment procedure_at_import --overwrite --dry
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return record.params.x


@cf.stage(["data"], ["doubled"], [JsonCacher])
def double(record, data):
    observe.ran("double", record.params.name)
    return 2 * data


@cf.aggregate(["doubled"], ["all"], [JsonCacher])
def gather(record, records, doubled):
    observe.ran("gather")
    result = {each.params.name: value for each, value in doubled.items()}
    observe.value("all", result)
    return result


each_set = cf.Procedure([load, double])
together = cf.Procedure([gather], previous_proc=each_set)


def get_params():
    return [Params("a", x=1), Params("b", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        each_set.run(params, manager=manager)
    together.run(None, manager=manager, records=each_set.records)
