"""Stages that write files, with and without tracking."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data", "large"], [JsonCacher, PickleCacher(track=False)])
def load(record):
    observe.ran("load", record.params.name)
    with open(record.get_path("notes.txt"), "w") as file:
        file.write("notes")
    return record.params.x, list(range(100))


@cf.stage(["data"], ["more"], [JsonCacher(subdir="below")])
def change(record, data):
    observe.ran("change", record.params.name)
    return data + 1


@cf.aggregate(["more"], ["total"], [JsonCacher])
def add(record, records, more):
    observe.ran("add")
    return sum(more.values())


def get_params():
    return [Params("one", x=1), Params("two", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        change(load(cf.Record(manager, params)))
    add(cf.Record(manager, None))
