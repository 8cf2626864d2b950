"""Inputs come from the state, from the call, or from the function's defaults."""

import curifactory as cf

import observe


@cf.stage(None, ["given"])
def make(record):
    return 1


manager = cf.ArtifactManager("stage_arguments")


def fresh():
    return make(cf.Record(manager, cf.ExperimentParameters("only")))


@cf.stage(None, ["seen"])
def no_inputs(record, extra=7):
    return [extra]


@cf.stage(["given"], ["seen"])
def listed(record, given):
    return ["used", given]


@cf.stage(["missing"], ["seen"], suppress_missing_inputs=True)
def listed_default(record, missing="default"):
    return ["used", missing]


@cf.stage(["given"], ["seen"])
def listed_more(record, given, more=0):
    return ["used", given, more]


observe.value("from the state", listed(fresh()).output)
observe.value("from the call", listed(fresh(), given=2).output)
observe.value("only from the call", listed(cf.Record(manager, cf.ExperimentParameters("other")), given=3).output)
observe.value("default", listed_default(fresh()).output)
observe.value("default passed", listed_default(fresh(), missing=4).output)
observe.value("another argument", listed_more(fresh(), more=5).output)
observe.value("no inputs", [no_inputs(fresh()).output, no_inputs(fresh(), extra=8).output])
observe.error("missing", KeyError, listed, cf.Record(manager, cf.ExperimentParameters("none")))
