"""Files that stages write at paths of their record, and later stages read."""

import os
from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["written"], [JsonCacher])
def write(record):
    observe.ran("write", record.params.name)
    with open(record.get_path("notes.txt"), "w") as file:
        file.write(f"x is {record.params.x}")
    folder = record.get_dir("parts")
    for number in range(2):
        with open(os.path.join(folder, f"part{number}.txt"), "w") as file:
            file.write(str(number))
    with open(record.get_path("inside.txt", subdir="below"), "w") as file:
        file.write("inside")
    with open(record.get_path("named.txt", prefix="shared"), "w") as file:
        file.write("named")
    with open(record.get_path("untracked.txt", track=False), "w") as file:
        file.write("untracked")
    return "done"


@cf.stage(["written"], ["read"])
def read(record, written):
    observe.ran("read", record.params.name)
    with open(record.get_path("notes.txt", stage_name="write")) as file:
        notes = file.read()
    folder = record.get_dir("parts", stage_name="write")
    return [written, notes, sorted(os.listdir(folder))]


manager = cf.ArtifactManager("record_paths")
for x in (1, 2):
    observe.value(f"read {x}", read(write(cf.Record(manager, Params(f"set {x}", x=x)))).output)
