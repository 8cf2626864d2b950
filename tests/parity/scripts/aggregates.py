"""Aggregates get each input as a dictionary by record."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["score", "size"], [JsonCacher] * 2)
def measure(record):
    observe.ran("measure", record.params.name)
    return record.params.x * 10, record.params.x


@cf.aggregate(inputs=["score", "size"], outputs=["table"], cachers=[JsonCacher])
def gather(record, records, score, size):
    observe.ran("gather")
    observe.value("records", [each.params.name for each in records])
    return {each.params.name: [value, size[each]] for each, value in score.items()}


@cf.stage(["table"], ["best"])
def best(record, table):
    return max(table, key=table.get)


manager = cf.ArtifactManager("aggregates")
for name, x in (("a", 1), ("b", 3), ("c", 2)):
    measure(cf.Record(manager, Params(name, x=x)))
everything = gather(cf.Record(manager, None))
observe.value("table", everything.output)
observe.value("best", best(everything).output)
observe.value("is aggregate", everything.is_aggregate)
observe.value("inputs", [each.params.name for each in everything.input_records])

some = gather(cf.Record(manager, None), manager.records[:2])
observe.value("some", some.output)
own = gather(cf.Record(manager, Params("own", x=9)), manager.records[1:3])
observe.value("own", own.output)
observe.value("own name", own.params.name)
observe.value("hashes differ", len({everything.get_hash(), some.get_hash(), own.get_hash()}))
