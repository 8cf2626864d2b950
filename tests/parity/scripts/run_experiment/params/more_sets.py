from params import Params


def get_params():
    return [Params("c", x=3)]
