"""Stages in a row, over records of their own or given ones."""

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
    return [record.params.x]


@cf.stage(["data"], ["size"])
def measure(record, data):
    observe.ran("measure", record.params.name)
    return data[0] * 10


@cf.stage(["size"], ["more"])
def add(record, size):
    observe.ran("add", record.params.name)
    return size + 1


@cf.aggregate(["size"], ["sizes"])
def gather(record, records, size):
    return {each.params.name: value for each, value in size.items()}


manager = cf.ArtifactManager("procedures")
first = cf.Procedure([load, measure], manager)
done = first.run(Params("a", x=1))
observe.value("a", [done.output, done.stages])
first.run(Params("b", x=2))
observe.value("records", [each.params.name for each in first.records])
observe.value("record", first.record.params.name)

second = cf.Procedure([add], manager, name="second")
observe.value("given record", second.run(None, record=done).output)
observe.value("hidden", first.run(Params("hidden", x=7), hide=True).output)
observe.value("manager's", [each.params.name for each in manager.records])

cf.Procedure([load, measure], manager).run(Params("c", x=3))
observe.value("all", cf.Procedure([gather], manager).run(None).output)
observe.value("previous", cf.Procedure([gather], manager, previous_proc=second).run(None).output)
observe.value("previous two", cf.Procedure([gather], manager, previous_proc=first).run(None).output)
some = manager.records[:1]
observe.value("records at first", cf.Procedure([gather], manager, records=some).run(None).output)
observe.value("records of the run", cf.Procedure([gather], manager).run(None, records=manager.records[1:2]).output)
