"""An experiment to take notes of."""

import curifactory as cf


@cf.stage(None, ["data"])
def load(record):
    return 1


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
