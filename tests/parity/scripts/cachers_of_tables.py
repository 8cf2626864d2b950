"""Tables by hand, in each format."""

import pandas as pd
from curifactory.caching import PandasCacher, PandasCsvCacher, PandasJsonCacher

import observe

frame = pd.DataFrame({"n": [1, 2], "x": [0.5, 1.25], "name": ["a", "b"]}, index=["r1", "r2"])
for kind, extension in (("csv", "csv"), ("json", "json"), ("parquet", "parquet"), ("pickle", "pkl"), ("orc", "orc")):
    table = frame.reset_index(drop=True) if kind == "orc" else frame
    cacher = PandasCacher(f"by_hand_{kind}.{extension}", format=kind)
    cacher.save(table)
    observe.value(kind, PandasCacher(f"by_hand_{kind}.{extension}", format=kind).load())
    observe.value(f"{kind} extension", cacher.extension)

PandasCsvCacher("separated.csv", to_csv_args={"sep": ";"}).save(frame)
observe.value("separated", PandasCsvCacher("separated.csv", read_csv_args={"sep": ";", "index_col": 0}).load())
PandasJsonCacher("records.json", to_json_args={"orient": "records"}).save(frame)
observe.value("records", PandasJsonCacher("records.json", read_json_args={"orient": "records"}).load())
observe.error("would change", Exception, PandasCsvCacher("changed.csv").save, pd.DataFrame({"a": [1, "1"]}))
observe.error("format", Exception, PandasCacher, "x", format="other")
