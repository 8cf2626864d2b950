"""An experiment whose parameter sets others use."""

from params import Params


def get_params():
    return [Params("own")]


def run(param_sets, manager):
    pass
