"""A stage that logs."""

import logging

import curifactory as cf


@cf.stage(None, ["data"])
def load(record):
    logging.info("told by the stage")
    logging.warning("warned by the stage")
    logging.debug("detail")
    return 1


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
