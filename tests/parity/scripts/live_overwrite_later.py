"""A session that is told in the middle to overwrite, as one does after a cell was edited."""

import os
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
    return int(os.environ["LATER"])


@cf.stage(["first"], ["second"], [JsonCacher])
def two(record, first):
    observe.ran("two", record.params.name)
    return first * 10


def cell(name):
    record = two(one(cf.Record(manager, Params(name))))
    return [record.state["first"], record.state["second"]]


manager = cf.ArtifactManager("later")
os.environ["LATER"] = "1"
observe.value("before", cell("set"))
os.environ["LATER"] = "2"
observe.value("kept", cell("set"))
manager.overwrite = True
observe.value("everything", cell("set"))
os.environ["LATER"] = "3"
observe.value("everything again", cell("set"))
manager.overwrite = False
manager.overwrite_stages = ["two"]
observe.value("last", cell("set"))
os.environ["LATER"] = "4"
manager.overwrite_stages = ["one", "two"]
observe.value("both", cell("set"))
