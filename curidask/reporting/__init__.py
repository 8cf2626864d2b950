"""What stages report, and the report that shows it.

`record.report(...)` takes a `Reportable`: one of the built-in ones below, or a class of the user's own. The report of a
run is made by `curidask.reporting.report.write_report` from the run's folder alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from curidask.core.keywords import no_attribute
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


if not TYPE_CHECKING:  # for whom any name would be there

    def __getattr__(name: str) -> NoReturn:
        raise no_attribute(f"module {__name__!r}", name, __all__)
