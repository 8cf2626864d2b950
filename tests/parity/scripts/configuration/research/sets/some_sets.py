import curifactory as cf


def get_params():
    return [cf.ExperimentParameters("one")]
