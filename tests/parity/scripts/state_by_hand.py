"""What a script puts into a state itself is an input like any other."""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(["rate"], ["doubled"], [JsonCacher])
def double(record, rate):
    observe.ran("double")
    return 2 * rate


@cf.stage(["doubled", "rate"], ["both"])
def join(record, doubled, rate):
    return [doubled, rate]


manager = cf.ArtifactManager("state_by_hand")
record = cf.Record(manager, cf.ExperimentParameters("only"))
record.state["rate"] = 4
observe.value("before", record.state["rate"])
observe.value("after", join(double(record)).output)
record.state["doubled"] = 100
observe.value("changed", join(record).output)
record.state.update(rate=5)
observe.value("keys", sorted(record.state))
del record.state["both"]
observe.value("deleted", sorted(record.state))
