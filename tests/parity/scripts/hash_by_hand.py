"""A hash that is given by hand names the artifacts."""

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


manager = cf.ArtifactManager("hash_by_hand")
record = load(cf.Record(manager, Params("given", hash="mine")))
observe.value("hash", [record.get_hash(), record.params.hash])
observe.value("output", record.output)
