"""Where cachers of a stage put their files: prefix, subfolder, no tracking, another name."""

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@cf.stage(
    None,
    ["prefixed", "below", "untracked", "plain"],
    [JsonCacher(prefix="shared"), JsonCacher(subdir="some/where"), PickleCacher(track=False), JsonCacher()],
)
def make(record):
    observe.ran("make")
    return 1, 2, 3, 4


@cf.stage(None, ["side"], [JsonCacher])
def aside(record):
    observe.ran("aside")
    own = JsonCacher(name="own", record=record)
    own.save({"made": "inside"})
    observe.value("own", JsonCacher(name="own", record=record).load())
    observe.value("stage cachers", [type(each).__name__ for each in record.stage_cachers])
    observe.value("own name", record.stage_cachers[0].name)
    return 5


manager = cf.ArtifactManager("cacher_arguments")
record = aside(make(cf.Record(manager, cf.ExperimentParameters("only"))))
observe.value("state", dict(record.state))
other = cf.ArtifactManager("another_name")
observe.value("by another experiment", dict(make(cf.Record(other, cf.ExperimentParameters("only"))).state))
