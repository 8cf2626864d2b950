"""What of a run can be looked at from the manager: the hook between the shell and the faces.

The shell works without any face, and imports none. A method here finds its face by name when it is called.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curidask.core.keywords import CheckedCalls, keywords

if TYPE_CHECKING:
    from curidask.record import Record
    from curidask.reporting.notebook import Display
    from curidask.reporting.report import KeptReportable
    from curidask.reporting.reportables import Reportable


def face(name: str) -> Any:
    """A module of the faces, loaded when it is first needed."""
    return importlib.import_module(f"curidask.{name}")


class RecordDisplay(CheckedCalls):
    """How a record shows itself in a notebook."""

    def _repr_html_(self) -> str:
        markup: str = face("reporting.notebook").record_markup(self)
        return markup


class Displays(CheckedCalls):
    """The manager's displays and its report.

    A display is an object that a notebook shows as HTML when it is the last line of a cell; printed, it is text.
    """

    def display_info(self) -> Display:
        """What the run is: when, where, by whom, with what, and how its stages ended."""
        return cast("Display", face("reporting.notebook").display_info(self))

    def display_all_reportables(self) -> Display:
        """All that was reported so far."""
        return cast("Display", face("reporting.notebook").display_all_reportables(self))

    @keywords()
    def display_record_reportables(self, record: Record) -> Display:
        """What the stages of one record reported so far."""
        return cast("Display", face("reporting.notebook").display_record_reportables(self, record))

    @keywords()
    def display_group_reportables(self, group_name: str | None) -> Display:
        """What was reported in a group so far.

        Parameters
        ----------
        group_name : str or None
            None for what has no group.

        Raises
        ------
        SelectionError
            When nothing was reported in it.
        """
        return cast("Display", face("reporting.notebook").display_group_reportables(self, group_name))

    @keywords()
    def display_stage_reportables(self, stage_name: str) -> Display:
        """What one stage reported so far, for all records.

        Raises
        ------
        SelectionError
            When no record went through it.
        """
        return cast("Display", face("reporting.notebook").display_stage_reportables(self, stage_name))

    @keywords()
    def display_reportable(self, reportable: Reportable) -> Display:
        """One reportable: one of `reportables`, or any other, which is rendered for it now."""
        return cast("Display", face("reporting.notebook").display_reportable(self, reportable))

    @keywords()
    def display_stage_graph(self) -> Display:
        """The map of records and stages."""
        return cast("Display", face("reporting.notebook").display_stage_graph(self))

    @property
    def reportables(self) -> list[KeptReportable]:
        """All that was reported so far, also by stages that were reused, as it was captured.

        It is in the order in which the stages were called, whichever ended first.
        """
        return cast("list[KeptReportable]", face("reporting.notebook").all_reportables(self))

    def get_reportable_groups(self) -> list[str | None]:
        """The groups of what was reported so far; None is among them when something has no group."""
        return list(dict.fromkeys(reportable.group for reportable in self.reportables))

    def get_grouped_reportables(self) -> dict[str, list[KeptReportable]]:
        """What was reported so far in groups, by group."""
        found: dict[str, list[KeptReportable]] = {}
        for reportable in self.reportables:
            if reportable.group is not None:
                found.setdefault(reportable.group, []).append(reportable)
        return found

    def get_ungrouped_reportables(self) -> list[KeptReportable]:
        """What was reported so far without a group."""
        return [reportable for reportable in self.reportables if reportable.group is None]

    @keywords()
    def generate_report(self) -> Path:
        """Write the run's report, as far as the run has come, and bring the index of all reports up to date.

        Returns
        -------
        Path
            The page to open in a browser.

        Raises
        ------
        ProjectError
            When nothing has run, in a session that writes nothing, and when the report cannot be written.
        """
        path: Path = face("reporting.notebook").generate_report(self)
        return path
