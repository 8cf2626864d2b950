"""Reportables of a run as objects: what stages reported, captured where they ran, on the side of the session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from curidask.core.keywords import keywords
from curidask.reporting.cards import Cards, Row, folder_of, is_plain, read_fragment
from curidask.reporting.model import NO_SET, RunView
from curidask.reporting.reportables import LINKED_FILE, Reportable, qualified_name


class KeptReportable(Reportable):
    """What was captured of a reportable: its names, its fragment, and the files that this shows.

    Parameters
    ----------
    row : mapping
        What the run record says of it.
    folder : Path or None
        Where its files lie; None when the row names no place inside the run's folder.
    record : Record or None
        The session's record that reported it; None for a hidden one.
    qualified : str
        Its full name.

    Attributes
    ----------
    kind : str
        The class that was reported.
    """

    @keywords()
    def __init__(self, row: Row, folder: Path | None, record: Any, qualified: str) -> None:
        super().__init__(row["name"], row["group"] or None)
        self.kind = str(row["kind"])
        self.stage = str(row["stage"])
        self.record = record
        self.qualified_name = qualified
        self.path = "" if folder is None else f"{folder}{os.sep}"
        self.rendered = True
        self.row = row
        self._folder = folder
        self._files: Mapping[str, str] = row["files"]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.qualified_name!r}>"

    def render(self, folder: Path | None = None) -> None:
        """Copy its files, when it is reported once more."""
        if self._folder is not None and folder is not None:
            for name in self._files.values():
                if is_plain(self._folder / name):
                    shutil.copyfile(self._folder / name, folder / name)

    def html(self) -> str:
        """The fragment, with its files below `path`."""
        fragment = None if self._folder is None else read_fragment(self._folder)
        if fragment is None:
            raise self.refuse("it is not in the run's folder any more.", "report it again")
        return LINKED_FILE.sub(lambda match: self.path + self._files.get(unquote(match[1]), match[1]), fragment)


def kept_reportables(run: RunView, records: Mapping[int, Any]) -> list[KeptReportable]:
    """All reportables of a run, in the order in which their stages were called.

    Parameters
    ----------
    run : RunView
    records : mapping of int to Record
        The session's records by number.
    """
    cards = Cards(run, lambda row, file: "")
    return [
        KeptReportable(row, folder_of(run, row), records.get(row["record"]), _full(cards, row)) for row in cards.rows
    ]


def _full(cards: Cards, row: Row) -> str:
    record = cards.record(row)
    params_name = None if row["set"] == NO_SET else row["set"]
    is_aggregate = record is not None and record.is_aggregate
    return qualified_name(row["name"], params_name, row["stage"], is_aggregate=is_aggregate)
