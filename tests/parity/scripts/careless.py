"""What curifactory lets pass, or does in another way, and nobody should rely on."""

import glob
import os
from dataclasses import dataclass, field

import curifactory as cf
import pandas as pd
from curifactory.caching import FileReferenceCacher, JsonCacher, Lazy, PandasCsvCacher, PickleCacher
from curifactory.reporting import HTMLReporter

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    parts: list = field(default_factory=lambda: [1])


@cf.stage(None, ["numbers", Lazy("large")], [PickleCacher, PickleCacher])
def make(record):
    record.report(HTMLReporter("no name"))
    return [1, 2], [3]


@cf.stage(["numbers"], ["sorted"])
def change(record, numbers):
    numbers.append(3)
    record.params.parts.append(2)
    return len(numbers)


@cf.stage(["numbers"], ["seen"])
def look(record, numbers):
    return [numbers, record.params.parts]


manager = cf.ArtifactManager("careless")
record = look(change(make(cf.Record(manager, Params("one")))))
observe.value("changed in another stage", record.output)
observe.value("kept by the set", record.params.parts)
observe.value("items", [type(each).__name__ for name, each in record.state.items() if name == "large"])
observe.value("notes", manager.notes)
observe.value("name of a reportable", [each.name for each in manager.reportables])

folder = JsonCacher("below/by_hand.json").get_dir("_parts")
observe.value("folder", folder)
try:
    PandasCsvCacher("series.csv").save(pd.Series([1, 2], name="s"))
    observe.value("series", "written")
except Exception as error:
    observe.value("series", type(error).__name__)
try:
    FileReferenceCacher("gone.json").save(["nowhere.txt"])
    observe.value("gone", "written")
except Exception as error:
    observe.value("gone", type(error).__name__)
for name in ("with/slash", 3):
    try:
        observe.value(f"named {name}", cf.ArtifactManager(name).experiment_name)
    except Exception as error:
        observe.value(f"named {name}", type(error).__name__)

for written in glob.glob("series*") + glob.glob("gone*"):
    os.remove(written)

by_hand = JsonCacher("known.json", record=record)
by_hand.collect_metadata()
observe.value("run", sorted(by_hand.metadata["manager_run_info"]))
