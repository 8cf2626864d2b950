"""An aggregate over more records is another artifact; the same records again are the same one."""

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


@cf.aggregate(["score"], ["total"], [JsonCacher])
def add(record, records, score):
    observe.ran("add", str(len(records)))
    return sum(score.values())


for count in (2, 3, 2):
    manager = cf.ArtifactManager("aggregate_growing")
    for x in range(count):
        measure(cf.Record(manager, Params(f"set {x}", x=x)))
    observe.value(f"total of {count}", add(cf.Record(manager, None)).output)
