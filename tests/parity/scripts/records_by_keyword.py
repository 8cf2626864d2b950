"""Both generations of keywords."""

from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["value"])
def make(record):
    return record.params.x


manager = cf.ArtifactManager(experiment_name="records_by_keyword")
record = cf.Record(manager=manager, param_set=Params(name="one", x=1), hide=False)
observe.value("record", make(record).output)
copy = record.make_copy(param_set=Params(name="two", x=2), add_to_manager=True)
observe.value("copy", [copy.params.name, make(copy).output])
procedure = cf.Procedure(stages=[make], manager=manager, name="named")
done = procedure.run(param_set=Params(name="three", x=3), record=None, hide=False)
observe.value("procedure", [done.params.name, done.output])
observe.error("unknown", TypeError, cf.Record, manager, Params("four"), hidden=True)
observe.error("unknown of a copy", TypeError, record.make_copy, paramset=Params("five"))
observe.error("unknown of a manager", TypeError, cf.ArtifactManager, "six", stores_full=True)
