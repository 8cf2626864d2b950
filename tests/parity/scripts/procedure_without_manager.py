"""A procedure that has no manager."""

import curifactory as cf

import observe


@cf.stage(None, ["data"])
def load(record):
    return 1


procedure = cf.Procedure([load])
observe.error("no manager", Exception, procedure.run, cf.ExperimentParameters("only"))
manager = cf.ArtifactManager("procedure_without_manager")
observe.value("with one", procedure.run(cf.ExperimentParameters("only"), manager=manager).output)
observe.value("kept", procedure.run(cf.ExperimentParameters("second")).output)
