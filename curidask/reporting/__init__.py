"""What stages report, and the report that shows it.

`record.report(...)` takes a `Reportable`: one of the built-in ones below, or a class of the user's own. The report of a
run is made by `curidask.reporting.report.write_report` from the run's folder alone.
"""

from __future__ import annotations

from curidask.reporting.figures import FigureReporter, ImageReporter, LinePlotReporter
from curidask.reporting.reportables import HTMLReporter, JsonReporter, Reportable
from curidask.reporting.tables import DFReporter, LatexTableReporter

__all__ = [
    "DFReporter",
    "FigureReporter",
    "HTMLReporter",
    "ImageReporter",
    "JsonReporter",
    "LatexTableReporter",
    "LinePlotReporter",
    "Reportable",
]
