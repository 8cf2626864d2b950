"""An aggregate without inputs reads what it wants from the states of its records.

$ experiment aggregate_states --no-dag
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["score"], [JsonCacher])
def measure(record):
    observe.ran("measure", record.params.name)
    return record.params.x


@cf.aggregate(outputs=["total"], cachers=[JsonCacher])
def add(record, records):
    observe.ran("add")
    return sum(each.state["score"] for each in records)


def get_params():
    return [Params("a", x=1), Params("b", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        measure(cf.Record(manager, params))
    observe.value("total", add(cf.Record(manager, None)).output)
