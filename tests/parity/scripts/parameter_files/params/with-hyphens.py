from params import Params


def get_params():
    return [Params("hyphens", seed=9)]
