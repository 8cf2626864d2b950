"""What of a run can be looked at from the manager: the hook between the shell and the faces.

The shell works without any face, and imports none. A method here finds its face by name when it is called.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curidask.record import Record


def face(name: str) -> Any:
    """A module of the faces, loaded when it is first needed."""
    return importlib.import_module(f"curidask.{name}")


class Displays:
    """The manager's displays and its report.

    In a notebook a display appears under the cell; elsewhere it is printed as text.
    """

    def display_info(self) -> None:
        """Show what the run is: when, where, by whom, with what, and how its stages ended."""
        face("notebook").display_info(self)

    def display_all_reportables(self) -> None:
        """Show all that was reported so far."""
        face("notebook").display_all_reportables(self)

    def display_record_reportables(self, record: Record) -> None:
        """Show what the stages of one record reported so far.

        Parameters
        ----------
        record : Record
        """
        face("notebook").display_record_reportables(self, record)

    def display_stage_graph(self) -> None:
        """Show the map of records and stages."""
        face("notebook").display_stage_graph(self)

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
        path: Path = face("notebook").generate_report(self)
        return path
