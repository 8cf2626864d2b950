"""Four sets that take a moment: each kind of model once, on little training data."""

from digits_lib.parameters import MODELS, Params, grid


def get_params() -> list[Params]:
    return grid(MODELS, sizes=(300,), seeds=(1,))
