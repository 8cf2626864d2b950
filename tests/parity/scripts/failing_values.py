"""How an error of a stage shows in a live session: the stage's own class, and the message."""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


class OwnError(Exception):
    pass


@cf.stage(None, ["before"])
def prepare(record):
    return "there"


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load")
    raise OwnError("something is wrong")


manager = cf.ArtifactManager("failing_values")
record = prepare(cf.Record(manager, cf.ExperimentParameters("only")))
try:
    observe.value("output", load(record).output)
except OwnError as error:
    observe.value("error", [type(error).__name__, str(error), error.args])
observe.value("another value", record.state["before"])
observe.error("its value", Exception, lambda: record.state["data"])
observe.error("again", OwnError, load, cf.Record(manager, cf.ExperimentParameters("other")))
raise OwnError("at the end")
