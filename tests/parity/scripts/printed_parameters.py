"""Parameter sets and hashes, printed.

$ experiment printed_parameters --hashes > compared
$ experiment printed_parameters --hashes --names two > compared
$ experiment printed_parameters --print-params > compared
$ experiment printed_parameters --print-params two > compared
$ experiment printed_parameters --paths > compared
$ experiment printed_parameters
$ experiment printed_parameters --hashes > compared
"""

from dataclasses import dataclass, field

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@dataclass
class Inner:
    path: str = "somewhere"
    threads: int = 1
    hash_representations: dict = cf.set_hash_functions(threads=None)


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    kind: type = dict
    gpus: int = 2
    inner: Inner = field(default_factory=Inner)
    extra: str = None
    hash_representations: dict = cf.set_hash_functions(gpus=None)


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return record.params.x


def get_params():
    return [Params("one", x=1), Params("two", x=2)]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
