"""What differs a little: texts for people, names, files of another record, arguments that are one object."""

import os
from dataclasses import dataclass

import curifactory as cf
from curifactory import utils

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a"])
def write(record):
    with open(record.get_path("a.txt"), "w") as file:
        file.write("a")
    return record.params.x


@cf.stage(["a"], ["again"])
def read(record, a):
    with open(record.get_path("a.txt", stage_name="write")) as file:
        return file.read()


@cf.stage(None, ["same"])
def compare(record, one, other):
    return one is other


manager = cf.ArtifactManager("small")
observe.value("prefix", manager.prefix)
observe.value("given prefix", cf.ArtifactManager("small", prefix="shared").prefix)

record = read(write(cf.Record(manager, Params("one"))))
observe.value("own file", record.output)
other = cf.Record(manager, Params("one"))
observe.value("another record's file", os.path.exists(other.get_path("a.txt", stage_name="write")))

numbers = [1, 2]
observe.value("one object", compare(cf.Record(manager, Params("two", x=2)), one=numbers, other=numbers).output)

observe.value("seconds", utils.human_readable_time(61))
observe.value("bytes", utils.human_readable_mem_usage(1500))
observe.value("preview", utils.preview_object([1, 2, 3]))
