"""An experiment that reports."""

import curifactory as cf
from curifactory.caching import JsonCacher
from curifactory.reporting import HTMLReporter, LinePlotReporter

import observe


@cf.stage(None, ["data"], [JsonCacher])
def make(record):
    observe.ran("make")
    record.report(HTMLReporter("<b>first of them</b>", name="first"))
    record.report(LinePlotReporter([1, 2], name="a loss curve"))
    return 1


@cf.stage(["data"], ["more"])
def use(record, data):
    observe.ran("use")
    record.report(HTMLReporter("<b>each of them</b>", name="each"))
    return data + 1


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        use(make(cf.Record(manager, params)))
