"""A stage with cachers runs once for a parameter set; what is cached is loaded, also by another record and process."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    size: int = 3


@cf.stage(None, ["numbers", "names"], [JsonCacher, PickleCacher])
def load(record):
    observe.ran("load", record.params.name)
    return list(range(record.params.size)), {"first", "second"}


@cf.stage(["numbers"], ["total"], [JsonCacher])
def add(record, numbers):
    observe.ran("add", record.params.name)
    return sum(numbers)


manager = cf.ArtifactManager("live_cache")
for name, size in (("small", 3), ("large", 5), ("small again", 3)):
    record = add(load(cf.Record(manager, Params(name=name, size=size))))
    observe.value(name, dict(record.state))
    observe.value(f"{name} output", record.output)
