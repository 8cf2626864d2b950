"""The cachers that come with the package, on stages."""

import curifactory as cf
import numpy as np
import pandas as pd
from curifactory.caching import JsonCacher, PandasCacher, PandasCsvCacher, PandasJsonCacher, PickleCacher

import observe


@cf.stage(None, ["json", "pickle"], [JsonCacher, PickleCacher])
def plain(record):
    observe.ran("plain")
    return {"a": [1, 2], "b": "text", "c": None}, {"a": np.arange(3), (1, 2): {3}}


def frame():
    return pd.DataFrame({"n": [1, 2], "x": [0.5, 1.25], "name": ["a", "b"]})


@cf.stage(None, ["csv", "json", "default"], [PandasCsvCacher, PandasJsonCacher, PandasCacher])
def tables(record):
    observe.ran("tables")
    return frame(), frame(), frame()


FORMATS = ["csv", "json", "parquet", "pickle"]


@cf.stage(None, FORMATS, [PandasCacher(format=each) for each in FORMATS])
def formats(record):
    observe.ran("formats")
    return tuple(frame() for _ in FORMATS)


@cf.stage(None, ["indexed"], [PandasCsvCacher(to_csv_args={"index": False}, read_csv_args={})])
def arguments(record):
    observe.ran("arguments")
    return frame()


manager = cf.ArtifactManager("cachers_on_stages")
for stage in (plain, tables, formats, arguments):
    record = stage(cf.Record(manager, cf.ExperimentParameters("only")))
    for name in sorted(record.state):
        observe.value(f"{stage.__name__} {name}", record.state[name])
