"""A referenced file that is gone is made again."""

import os

import curifactory as cf
from curifactory.caching import FileReferenceCacher

import observe


@cf.stage(None, ["file"], [FileReferenceCacher])
def publish(record):
    observe.ran("publish")
    os.makedirs("published", exist_ok=True)
    with open("published/result.txt", "w") as file:
        file.write("result")
    return "published/result.txt"


for _ in range(2):
    manager = cf.ArtifactManager("file_reference_gone")
    observe.value("file", publish(cf.Record(manager, cf.ExperimentParameters("only"))).output)
os.remove("published/result.txt")
manager = cf.ArtifactManager("file_reference_gone")
observe.value("again", publish(cf.Record(manager, cf.ExperimentParameters("only"))).output)
observe.value("there", os.path.exists("published/result.txt"))
