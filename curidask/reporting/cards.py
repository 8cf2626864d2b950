"""Reportables as a page shows them: put in order, read from the run's folder, with the addresses of their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from markupsafe import Markup

from curidask.reporting.model import RecordView, RunView
from curidask.reporting.reportables import IMAGE_SUFFIXES, LINKED_FILE
from curidask.reporting.templating import safe
from curidask.runs.reportables import FOLDER, FRAGMENT
from curidask.store.manifest import is_name, read_file

Row = Mapping[str, Any]
Address = Callable[[Row, str], str]
"""From a row and a file's name on disk to where a page finds it."""

WIDE = ("<iframe", "<table", "<video")
NO_GROUP = "Without a group"


@dataclass(slots=True)
class Card:
    """A reportable on a page."""

    number: int
    name: str
    group: str
    record: str
    stage: str
    fragment: Markup
    record_order: int
    stage_order: int
    reused: bool
    record_link: str = ""
    missing: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)

    @property
    def wide(self) -> bool:
        """Whether it gets a whole line."""
        return any(tag in self.fragment for tag in WIDE)


@dataclass(slots=True)
class Section:
    """Cards under one heading, which may have begun on an earlier page."""

    title: str
    anchor: str
    continued: bool = False
    cards: list[Card] = field(default_factory=list)


class Cards:
    """The reportables of a run.

    In order: groups before what has none, those with an aggregate's results first, records as they come. Without any
    group they stand by record.

    Parameters
    ----------
    run : RunView
    address : callable
        Gives the address of a file; see `Address`.
    record_links : mapping of int to str
        Where the details of a record are, by its number.
    """

    def __init__(self, run: RunView, address: Address, record_links: Mapping[int, str] | None = None) -> None:
        self.run = run
        self._address = address
        self._record_links = record_links or {}
        self.rows: list[Row] = list(run.data.get("reportables", ()))

    @cached_property
    def order(self) -> list[int]:
        """The rows' places, in the order in which they are shown."""
        groups: dict[str, int] = {}
        results: set[str] = set()
        for row in self.rows:
            groups.setdefault(row["group"], len(groups))
            record = self.record(row)
            if record is not None and record.is_aggregate:
                results.add(row["group"])

        def place(number: int) -> tuple[Any, ...]:
            row = self.rows[number]
            record = self.record(row)
            group = row["group"]
            first = record is None or not record.is_aggregate
            return not group, group not in results, groups[group], first, row["record"] < 0, row["record"], number

        return sorted(range(len(self.rows)), key=place)

    @cached_property
    def _records(self) -> dict[int, RecordView]:
        return {record.index: record for record in self.run.records if record.index >= 0}

    def record(self, row: Row) -> RecordView | None:
        """The record that reported it."""
        if row["record"] < 0 and row["task"] is not None:
            return self.run.record_of_task.get(row["task"])
        return self._records.get(row["record"])

    def label(self, row: Row) -> str:
        """The name of that record."""
        record = self.record(row)
        if record is not None:
            return record.label
        return f"Record {row['record']} ({row['set']})" if row["record"] >= 0 else ""

    def sections(self, numbers: Sequence[int]) -> list[Section]:
        """Cards of these rows, under the headings of their groups."""
        found: dict[str, Section] = {}
        for number in numbers:
            title, anchor = self.heading(number)
            if anchor not in found:
                found[anchor] = Section(title, anchor, number != self._firsts[anchor])
            found[anchor].cards.append(self.card(number))
        return list(found.values())

    @cached_property
    def groups(self) -> dict[str, int]:
        """The groups as they are shown, numbered."""
        return {group: i for i, group in enumerate(dict.fromkeys(self.rows[n]["group"] for n in self.order))}

    @cached_property
    def _firsts(self) -> dict[str, int]:
        return {self.heading(number)[1]: number for number in reversed(self.order)}

    def heading(self, number: int) -> tuple[str, str]:
        """What a row stands under, and the anchor of that: its group, or its record where there are no groups."""
        row = self.rows[number]
        if not any(self.groups):
            return self.label(row), f"of-record-{self._place_of_record(row)}"
        return row["group"] or NO_GROUP, f"group-{self.groups[row['group']]}"

    def _place_of_record(self, row: Row) -> int:
        record = self.record(row)
        return record.number if record is not None else len(self.run.records)

    @cached_property
    def _stage_numbers(self) -> dict[str, int]:
        return {stage.name: stage.number for stage in self.run.stages}

    def card(self, number: int) -> Card:
        """The card of a row."""
        row = self.rows[number]
        record = self.record(row)
        task = self.run.tasks.get(row["task"]) if row["task"] is not None else None
        fragment, missing = self._fragment(row)
        named = {unquote(match[1]) for match in LINKED_FILE.finditer(fragment)} if '<a href="' in fragment else set()
        images = [
            (name, self._address(row, kept))
            for name, kept in row["files"].items()
            if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and name not in named and not missing
        ]
        return Card(
            number=number,
            name=row["name"],
            group=row["group"],
            record=self.label(row),
            stage=row["stage"],
            fragment=Markup(LINKED_FILE.sub(lambda match: self._linked(row, match[1]), fragment)),
            record_order=self._place_of_record(row),
            stage_order=self._stage_numbers.get(row["stage"], len(self._stage_numbers)),
            reused=task is not None and task.look.key in ("reused", "unneeded"),
            record_link=self._record_links.get(record.number, "") if record is not None else "",
            missing=missing,
            images=images,
        )

    def _fragment(self, row: Row) -> tuple[str, str]:
        folder = folder_of(self.run, row)
        fragment = None if folder is None else read_fragment(folder)
        return ("", "It is not in the run's folder any more.") if fragment is None else (fragment, "")

    def _linked(self, row: Row, quoted: str) -> str:
        kept = row["files"].get(unquote(quoted))
        return self._address(row, kept) if kept is not None else "#"


def folder_of(run: RunView, row: Row) -> Path | None:
    """Where a reportable's files lie; None when its row names no place inside the run's folder."""
    inside = PurePosixPath(row["folder"]).parts
    names = (*inside, *row["files"].values())
    if run.folder is None or len(inside) != 2 or inside[0] != FOLDER or not all(map(is_name, names)):
        return None
    place = run.folder / FOLDER / inside[1]
    # A folder that was copied may have links to anywhere in it.
    return None if place.is_symlink() or place.parent.is_symlink() else place


def is_plain(path: Path) -> bool:
    """Whether it is a file, and no link to one elsewhere."""
    return path.is_file() and not path.is_symlink()


def read_fragment(folder: Path) -> str | None:
    """The fragment that was kept of a reportable, made safe to be shown; None when there is none."""
    path = folder / FRAGMENT
    try:
        return safe(read_file(path).decode("utf-8")) if is_plain(path) else None
    except (OSError, ValueError):
        return None


def relative_address(row: Row, file: str) -> str:
    """The address of a file from the page of the report."""
    return quote(f"{row['folder']}/{file}")
