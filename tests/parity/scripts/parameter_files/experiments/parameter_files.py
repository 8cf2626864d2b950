"""Parameter sets from several files, and parts of them.

$ experiment parameter_files -p base
$ experiment parameter_files -p base -p seeded
$ experiment parameter_files -p seeded -p own_sets --params base
$ experiment parameter_files -p base -p seeded --names knn_seed1 -n base
$ experiment parameter_files -p base -p seeded --indices 1
$ experiment parameter_files -p base -p seeded --indices 0-2
$ experiment parameter_files -p base -p seeded --global-indices 1-3 --global-indices 0
$ experiment parameter_files -p nested.deep
$ experiment parameter_files -p with-hyphens
$ experiment parameter_files -p base --names nobody
$ experiment parameter_files -p nowhere
$ experiment parameter_files -p empty
$ experiment parameter_files
"""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["seen"], [JsonCacher])
def look(record):
    observe.ran("look", record.params.name)
    return [record.params.model, record.params.seed]


@cf.aggregate(["seen"])
def show(record, records, seen):
    observe.value("sets", {each.params.name: value for each, value in seen.items()})


def run(param_sets, manager):
    for params in param_sets:
        look(cf.Record(manager, params))
    show(cf.Record(manager, None))
