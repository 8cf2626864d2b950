"""Stages that write to their cacher's own path."""

import os
from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import PathRef

import observe


@dataclass
class Params(cf.ExperimentParameters):
    dataset: str = "numbers"


@cf.stage([], ["raw"], [PathRef("raw/data_{params.dataset}.csv")])
def download(record):
    observe.ran("download", record.params.name)
    path = record.stage_cachers[0].get_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(f"{record.params.dataset}\n1\n2\n")
    return path


@cf.stage(["raw"], ["clean"], [PathRef])
def clean(record, raw):
    observe.ran("clean", record.params.name)
    path = record.get_path("clean")
    with open(raw) as source, open(path, "w") as file:
        file.write(source.read().upper())
    return path


@cf.stage(["clean"], ["text"])
def read(record, clean):
    with open(clean) as file:
        return file.read()


manager = cf.ArtifactManager("path_references")
for dataset in ("numbers", "names"):
    record = read(clean(download(cf.Record(manager, Params(dataset, dataset=dataset)))))
    observe.value(dataset, [record.state["raw"], record.output])
    observe.value(f"{dataset} there", os.path.exists(record.state["clean"]))


@cf.stage([], ["elsewhere"], [PathRef])
def elsewhere(record):
    with open("elsewhere.txt", "w") as file:
        file.write("x")
    return "elsewhere.txt"


observe.error("another path", Exception, lambda: elsewhere(cf.Record(manager, Params("wrong"))).output)
