"""How what a function returns becomes outputs."""

import curifactory as cf
from curifactory.caching import PickleCacher

import observe


@cf.stage(None, ["a", "b"])
def two(record):
    return 1, "two"


@cf.stage(None, ["one"])
def one_list(record):
    return [1, 2]


@cf.stage(None, ["one"])
def one_none(record):
    return None


@cf.stage(None, ["one"])
def one_tuple(record):
    return (1, 2)


@cf.stage(None, ["one"])
def one_short_tuple(record):
    return (1,)


@cf.stage(None, ["a", "b"])
def two_in_a_list(record):
    return [1, 2]


@cf.stage(None, None)
def nothing(record):
    observe.ran("nothing")


@cf.stage()
def bare(record):
    observe.ran("bare")
    return "ignored"


@cf.stage(outputs=["kept"], cachers=[PickleCacher])
def keywords(record):
    observe.ran("keywords")
    return {"a": (1, 2), "b": {3}}


manager = cf.ArtifactManager("stage_values")


def output(stage):
    return stage(cf.Record(manager, cf.ExperimentParameters("only"))).output


for stage in (two, one_list, one_none, nothing, bare, keywords):
    observe.value(stage.__name__, output(stage))
for stage in (one_tuple, one_short_tuple, two_in_a_list):
    try:
        observe.value(stage.__name__, output(stage))
    except Exception as error:
        observe.value(stage.__name__, type(error).__name__)
