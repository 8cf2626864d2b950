"""Cannot be imported."""

from nowhere_to_be_found import something

USED = something


def run(param_sets, manager):
    pass
