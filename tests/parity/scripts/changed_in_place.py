"""What `run()` or a script changes in place in a value that it has read is what the stages called then get.

$ python changed_in_place.py
"""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher, Lazy, PickleCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    which: str = ""


@cf.stage(None, ["d"], [PickleCacher])
def cached(record):
    return [1, 2]


@cf.stage(None, ["d"])
def in_memory(record):
    return [1, 2]


@cf.stage(None, [Lazy("d")], [PickleCacher])
def lazily(record):
    return [1, 2]


@cf.stage(["d"], ["seen"])
def see(record, d):
    return list(d)


@cf.stage(["d"], ["kept"], [JsonCacher])
def keep(record, d):
    observe.ran("keep", record.params.which)
    return [*d, 0]


@cf.aggregate(["d"], ["all"])
def gather(record, records, d):
    return [list(each) for each in d.values()]


manager = cf.ArtifactManager("changed_in_place")


def record(which):
    return cf.Record(manager, Params(which, which=which))


for load in (cached, in_memory, lazily):
    name = load.__name__
    first = load(record(name))
    first.state["d"].append(10)
    observe.value(f"{name} in the state", first.state["d"])
    observe.value(f"{name} in a stage", see(first).state["seen"])
    observe.value(f"{name} stored", keep(first).state["kept"])
    first.state["d"].append(20)
    copied = first.make_copy(Params("copy", which=f"copy of {name}"))
    first.state["d"].append(30)
    observe.value(f"{name} in a copy", see(copied).state["seen"])
    observe.value(f"{name} in an aggregate", gather(record(f"all of {name}"), [first, copied]).output)

given = record("output")
cached(given).output.append(10)
observe.value("through output", see(given).output)
by_hand = record("by hand")
by_hand.state["d"] = [1]
by_hand.state["d"].append(2)
observe.value("by hand", see(by_hand).output)
