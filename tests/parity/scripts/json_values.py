"""What JSON cannot hold exactly: the value of the run that computes it, and of one that loads it."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    kind: str = ""


VALUES = {"keys": {1: "a", 2: "b"}, "tuple": {"pair": (1, 2)}, "set": {"a set": [1]}, "plain": {"a": [1, 2.5, None]}}


@cf.stage(None, ["value"], [JsonCacher])
def make(record):
    observe.ran("make", record.params.kind)
    return VALUES[record.params.kind]


manager = cf.ArtifactManager("json_values")
for kind in VALUES:
    observe.value(kind, make(cf.Record(manager, Params(kind, kind=kind))).output)
