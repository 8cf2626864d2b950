"""Lazy outputs are cached at once and loaded where they are used."""

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe


@cf.stage(None, ["small", cf.Lazy("large")], [JsonCacher, PickleCacher])
def make(record):
    observe.ran("make")
    return 1, list(range(1000))


@cf.stage(["large"], ["total"])
def add(record, large):
    observe.ran("add")
    return [type(large).__name__, sum(large)]


manager = cf.ArtifactManager("lazies")
record = make(cf.Record(manager, cf.ExperimentParameters("only")))
record.state.resolve = False
lazy = record.state["large"]
observe.value("without resolving", type(lazy))
observe.value("small", record.state["small"])
observe.value("name", [lazy.name, str(lazy), lazy.resolve])
observe.value("loaded", len(lazy.load()))
record.state.resolve = True
observe.value("resolved", [type(record.state["large"]), len(record.state["large"])])
observe.value("added", add(record).output)
observe.value("exported", cf.Lazy is cf.caching.Lazy)
