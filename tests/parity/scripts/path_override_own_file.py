"""A path at which the user has a file: it is the artifact, for every set, and stays as it is."""

import os
from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher, PandasCsvCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


if not os.path.exists("mine.json"):
    with open("mine.json", "w") as file:
        file.write('{"mine": [1, 2]}')
    with open("table.csv", "w") as file:
        file.write(",a,b\n0,1,x\n1,2,y\n")


@cf.stage(None, ["mine"], [JsonCacher("mine.json")])
def load(record):
    observe.ran("load", record.params.name)
    return {"computed": True}


@cf.stage(None, ["table"], [PandasCsvCacher("table.csv")])
def load_table(record):
    observe.ran("load_table", record.params.name)
    raise AssertionError("the file is there")


@cf.stage(["mine"], ["size"])
def measure(record, mine):
    return len(mine)


manager = cf.ArtifactManager("path_override_own_file")
for x in (1, 2):
    record = measure(load(cf.Record(manager, Params(f"set {x}", x=x))))
    observe.value(f"mine {x}", dict(record.state))
observe.value("table", load_table(cf.Record(manager, Params())).output)
