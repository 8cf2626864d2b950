"""A record's copy goes on from its state with another parameter set."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return [1, 2, 3]


@cf.stage(["data"], ["scaled"], [JsonCacher])
def scale(record, data):
    observe.ran("scale", record.params.name)
    return [record.params.x * each for each in data]


manager = cf.ArtifactManager("make_copy")
common = load(cf.Record(manager, Params("common")))
for x in (2, 3):
    copy = common.make_copy(Params(f"times {x}", x=x))
    observe.value(f"state {x}", dict(copy.state))
    observe.value(f"scaled {x}", scale(copy).output)
    observe.value(f"stages {x}", copy.stages)
    observe.value(f"from {x}", [each.params.name for each in copy.input_records])
by_keyword = common.make_copy(param_set=Params("keyword", x=4))
observe.value("keyword", [by_keyword.params.name, scale(by_keyword).output])
same = common.make_copy()
observe.value("same", [same.params.name, scale(same).output])
hidden = common.make_copy(Params("hidden", x=5), add_to_manager=False)
observe.value("hidden", [hidden.params.name, scale(hidden).output])
observe.value("records", [each.params.name for each in manager.records])
observe.value("common", dict(common.state))
copy.state["data"].append(4)
copy.state["other"] = 1
observe.value("kept apart", dict(common.state))
