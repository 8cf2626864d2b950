"""A record without a parameter set."""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load")
    return {"params": record.params}


@cf.stage(["data"], ["size"])
def measure(record, data):
    observe.ran("measure")
    return len(data)


manager = cf.ArtifactManager("no_parameters")
record = measure(load(cf.Record(manager, None)))
observe.value("state", dict(record.state))
observe.value("params", record.params)
observe.value("reference", record.get_reference_name())
