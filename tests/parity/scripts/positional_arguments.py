"""What follows the record by position is for the function's parameters in their order."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    which: str = ""


@cf.stage(None, ["data"], [JsonCacher])
def make(record, scale, offset=0):
    return [scale, offset]


@cf.stage(["data"], ["more"], [JsonCacher])
def change(record, scale, data):
    return [scale, data]


@cf.stage(["data"], ["last"], [JsonCacher])
def follow(record, data, scale):
    return [scale, data]


@cf.aggregate(["data"], ["all"], [JsonCacher])
def gather(record, records, data, scale=1):
    return [scale, list(data.values())]


manager = cf.ArtifactManager("positional_arguments")


def record(name):
    return cf.Record(manager, Params(name, which=name))


observe.value("one", make(record("one"), 10).output)
observe.value("two", make(record("two"), 10, 5).output)
observe.value("mixed", make(record("mixed"), 10, offset=6).output)
made = make(record("made"), 10)
observe.value("before an input", change(made, 3).output)
observe.error("at the place of an input", TypeError, follow, made, 3)
observe.error("too many", TypeError, make, record("many"), 1, 2, 3)
observe.error("twice", TypeError, make, record("twice"), 1, scale=3)
observe.error("too few", TypeError, make, record("few"))
members = [made]
observe.value("records by position", gather(record("all"), members).output)
observe.error("more than the records", TypeError, gather, record("all"), members, 3)
