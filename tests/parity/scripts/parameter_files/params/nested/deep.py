from params import base


def get_params():
    sets = base.get_params()
    sets[0].name = "deep"
    sets[0].seed = 4
    return sets
