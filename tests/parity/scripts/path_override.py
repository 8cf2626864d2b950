"""Artifacts at paths of one's own, some with parts of the run in them."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    kind: str = "good"


@cf.stage(
    None,
    ["fixed", "by_parameter", "by_name"],
    [
        JsonCacher("fixed.json"),
        JsonCacher("result_{params.kind}_{params.x}.json"),
        JsonCacher("{experiment}_{stage}_{name}.json"),
    ],
)
def publish(record):
    observe.ran("publish", record.params.name)
    return {"fixed": True}, {"x": record.params.x}, {"name": "by_name"}


@cf.stage(None, ["in_cache"], [JsonCacher("{cache}/by_hand_{stage}.json")])
def into_cache(record):
    observe.ran("into_cache")
    return [1]


@cf.stage(None, ["as_usual"], [JsonCacher("copy_{artifact_filename}")])
def with_usual_name(record):
    observe.ran("with_usual_name")
    return [2]


manager = cf.ArtifactManager("path_override")
record = publish(cf.Record(manager, Params("first")))
observe.value("state", dict(record.state))
observe.value("in cache", into_cache(record).output)
observe.value("usual name", with_usual_name(record).output)
observe.value("loaded", JsonCacher("result_good_1.json").load())
