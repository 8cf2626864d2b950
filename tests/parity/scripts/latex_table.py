"""A table for a paper, where its packages are installed."""

import curifactory as cf
import pandas as pd
from curifactory.reporting import LatexTableReporter

import observe


@cf.stage(None, ["done"])
def show(record):
    record.report(LatexTableReporter(pd.DataFrame({"a": [1, 2]}), name="latex", column_format="lr"))
    return 1


manager = cf.ArtifactManager("latex_table")
show(cf.Record(manager, cf.ExperimentParameters("only")))
manager.generate_report()
observe.value("in the report", [observe.reported(part) for part in ("tabular", "{lr}")])
