from params import Params


def get_params():
    return [Params("a", x=1), Params("b", x=2)]
