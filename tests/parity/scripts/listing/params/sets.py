"""Some sets."""

import curifactory as cf


def get_params():
    return [cf.ExperimentParameters("only")]
