"""The first experiment."""

import curifactory as cf


def get_params():
    return [cf.ExperimentParameters("only")]


def run(param_sets, manager):
    pass
