"""What `overwrite` of a parameter set or a manager computes again."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["first"], [JsonCacher])
def one(record):
    observe.ran("one", record.params.name)
    return record.params.x


@cf.stage(["first"], ["second"], [JsonCacher])
def two(record, first):
    observe.ran("two", record.params.name)
    return first + 1


manager = cf.ArtifactManager("live_overwrite")
observe.value("kept", two(one(cf.Record(manager, Params("kept")))).output)
observe.value("set", two(one(cf.Record(manager, Params("set", x=2, overwrite=True)))).output)

stages = cf.ArtifactManager("live_overwrite")
stages.overwrite_stages = ["two"]
observe.value("stage", two(one(cf.Record(stages, Params("stage", x=3)))).output)

everything = cf.ArtifactManager("live_overwrite")
everything.overwrite = True
observe.value("manager", two(one(cf.Record(everything, Params("manager", x=4)))).output)

again = cf.ArtifactManager("live_overwrite")
again.overwrite_stages = ["one"]
observe.value("first stage", two(one(cf.Record(again, Params("again", x=3)))).output)
