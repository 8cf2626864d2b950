"""One path for all parameter sets: what the first one made is what the others load."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["shared"], [JsonCacher("static.json")])
def transform(record):
    observe.ran("transform", record.params.name)
    return {"a": 1}


manager = cf.ArtifactManager("path_override_sets")
for x in (1, 2):
    observe.value(f"set {x}", transform(cf.Record(manager, Params(f"set {x}", x=x))).output)
