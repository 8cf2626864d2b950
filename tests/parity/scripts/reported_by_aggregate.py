"""What an aggregate reports on the records that went into it."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import JsonCacher
from curifactory.reporting import HTMLReporter

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["v"], [JsonCacher])
def make(record):
    record.report(HTMLReporter("first", name="made"))
    return record.params.x


@cf.aggregate(["v"], ["total"])
def add(record, records, v):
    for each in records:
        each.report(HTMLReporter("other", name="seen", group="seen"))
    record.report(HTMLReporter("own", name="own"))
    return sum(v.values())


manager = cf.ArtifactManager("reported")
records = [make(cf.Record(manager, Params(name, x=x))) for x, name in enumerate(("one", "two"), 1)]
records[0].report(HTMLReporter("by hand", name="between"))
add(cf.Record(manager, None), records)
observe.value("reported", [each.qualified_name for each in manager.reportables])
observe.value("records", [each.record.get_reference_name() for each in manager.reportables])
observe.value("stages", [each.stage for each in manager.reportables])
observe.value("grouped", [each.qualified_name for each in manager.get_grouped_reportables()["seen"]])
