"""What a record and its manager tell of themselves."""

import os
from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a", "b"])
def first(record):
    return 1, 2


@cf.stage(["a"], ["c"])
def second(record, a):
    observe.value("inside", [record.params.name, record.stages])
    return a + 2


manager = cf.ArtifactManager("record_attributes", notes="some notes")
record = cf.Record(manager, Params("one"))
observe.value("hash is set", record.params.hash == record.get_hash())
observe.value("hash agrees", Params("other").params_hash() == record.get_hash())
second(first(record))
hidden = cf.Record(manager, Params("hidden"), hide=True)
observe.value("manager", record.manager is manager)
observe.value("records", [each.params.name for each in manager.records])
observe.value("stages", record.stages)
observe.value("inputs", [len(each) for each in record.stage_inputs])
observe.value("outputs", [len(each) for each in record.stage_outputs])
observe.value("artifacts", sorted(record.state_artifact_reps))
observe.value("reference", record.get_reference_name())
observe.value("aggregate", [record.is_aggregate, record.combo_hash, record.input_records])
observe.value("experiment", manager.experiment_name)
observe.value("status", manager.status)
observe.value("notes", manager.notes)
paths = [manager.cache_path, manager.runs_path, manager.logs_path, manager.reports_path]
observe.value("paths", [os.path.relpath(path) for path in paths])
observe.value("absolute", [os.path.isabs(path) for path in paths])
observe.value("flags", [manager.store_full, manager.dry, manager.dry_cache, manager.lazy, manager.ignore_lazy])
name, number, timestamp = manager.get_reference_name().rsplit("_", 2)
observe.value("run", [name, number, len(timestamp)])
