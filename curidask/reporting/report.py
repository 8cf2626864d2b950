"""The report of a run: a folder that opens in a browser, made from the run's folder alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from curidask.core.keywords import keywords
from curidask.errors import ProjectError
from curidask.reporting import graph_svg, index, sections, templating
from curidask.reporting.cards import Cards, Row, folder_of, is_plain, read_fragment, relative_address
from curidask.reporting.model import NO_SET, RunView, read_run
from curidask.reporting.reportables import LINKED_FILE, Reportable, qualified_name
from curidask.reporting.templating import asset, page
from curidask.runs.reportables import FRAGMENT

# --- reportables of a run as objects ---------------------------------------------------------------------------------
# What stages reported, captured where they ran, on the side of the session.


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


# --- report ----------------------------------------------------------------------------------------------------------
LATEST = "_latest"
PAGE_SIZE = 100
"""Reportables on a page."""
MOST_IN_CONTENTS = 60
"""Records that the table of contents names."""


@keywords()
def write_report(run_folder: Path, reports_folder: Path, css: Path | None = None, logs: Path | None = None) -> Path:
    """Make the report of a run, its place as the latest one, and its line in the index of all reports.

    A report that is there already is replaced in one step. Several processes may write reports at the same time.

    Parameters
    ----------
    run_folder : Path
        Of the run: it has a ``run.json``.
    reports_folder : Path
        Where reports go, made when it is not there.
    css : Path, optional
        A style sheet that comes after the built-in one; a ``style.css`` of the user's in the folder by default.
    logs : Path, optional
        Where the project keeps its logs. A log is taken from there or from the run's folder, and from nowhere else,
        whatever the record says.

    Returns
    -------
    Path
        The page to open, ``reports_folder/REFERENCE/index.html``.

    Raises
    ------
    ProjectError
        When there is no run record, or the reports folder cannot be written.
    """
    run = read_run(run_folder)
    own = templating.own_sheet(reports_folder, css)
    try:
        reports_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=reports_folder, ignore_cleanup_errors=True) as made:
            folder = Path(made) / run.reference
            folder.mkdir()
            _fill(run, run_folder, folder, own, sections.log_path(run, logs))
            _put(folder, reports_folder / run.reference)
        index.add(run, reports_folder)
        _point_latest(run, reports_folder)
        index.render(reports_folder, own)
    except OSError as error:
        raise ProjectError(
            f"The report cannot be written: {error.strerror or error}.",
            where=str(error.filename or reports_folder),
            fix="make the folder writable, or set `reports` in the configuration",
        ) from error
    return reports_folder / run.reference / "index.html"


def _fill(run: RunView, run_folder: Path, folder: Path, own: bytes | None, log: Path | None) -> None:
    (folder / "report.js").write_text(asset("report.js"), encoding="utf-8")
    (folder / templating.OURS).write_text(templating.built_in(), encoding="utf-8")
    sheets = [templating.OURS]
    if own is not None:
        (folder / templating.CUSTOM).write_bytes(own)
        sheets.append(templating.CUSTOM)
    shutil.copyfile(run_folder / "run.json", folder / "run.json")
    (folder / "stages.csv").write_text(sections.stages_csv(run), encoding="utf-8", errors="replace")
    (folder / "parameter_sets.csv").write_text(sections.parameter_sets_csv(run), encoding="utf-8", errors="replace")
    if log is not None:
        shutil.copyfile(log, folder / "log.txt")
    _copy_reportables(run, folder)
    for name, text in _pages(run, folder / "log.txt" if log is not None else None, sheets):
        (folder / name).write_text(text, encoding="utf-8", errors="replace")


def _copy_reportables(run: RunView, folder: Path) -> None:
    for row in run.data.get("reportables", ()):
        source = folder_of(run, row)
        if source is None or not source.is_dir():
            continue
        target = folder / row["folder"]
        target.mkdir(parents=True, exist_ok=True)
        for file in row["files"].values():
            if file != FRAGMENT and is_plain(source / file):
                _copy(source / file, target / file)


def _copy(source: Path, target: Path) -> None:
    """Link where that is possible: of ten thousand figures it saves the time and the place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# --- pages -----------------------------------------------------------------------------------------------------------
def _pages(run: RunView, log: Path | None, sheets: list[str]) -> Iterator[tuple[str, str]]:
    """The names and texts of the pages."""
    records, records_note = sections.chosen_records(run)
    shown_tasks = {task.id for record in records for task in record.tasks}
    cards = Cards(run, relative_address, {record.number: f"index.html#record-{record.number}" for record in records})
    order = cards.order
    pages = [order[start : start + PAGE_SIZE] for start in range(0, len(order), PAGE_SIZE)] or [[]]
    page_of = {number: i for i, numbers in enumerate(pages) for number in numbers}
    shared: dict[str, Any] = {"run": run, "n_pages": len(pages), "sheets": sheets}
    yield (
        "index.html",
        page(
            "report.html",
            **shared,
            **_contents(cards, page_of),
            **_drawn(run, shown_tasks),
            facts=sections.facts(run),
            surroundings=sections.surroundings(run),
            notes=str(run.data.get("notes") or "").strip().partition("\n")[2].strip(),
            reproduce="\n".join(run.reproduce()),
            from_folder="\n".join(run.reproduce_from_folder()),
            failures=sections.failures(run, shown_tasks),
            n_failures=len(run.failures),
            warnings=run.data.get("warnings", [])[: sections.MOST_WARNINGS],
            n_warnings=len(run.data.get("warnings", [])),
            sections=cards.sections(pages[0]),
            n_reportables=len(order),
            n_shown=len(pages[0]),
            pager=_pager(0, len(pages)),
            records=records,
            records_note=records_note,
            shown_tasks=shown_tasks,
            sets=sections.parameter_sets(run),
            log=sections.log_tail(log) if log is not None else None,
            made=datetime.now().strftime("%-d %b %Y, %H:%M"),
        ),
    )
    for i, numbers in enumerate(pages[1:], 1):
        values = shared | {"page": i + 1, "pager": _pager(i, len(pages))}
        yield _page_name(i), page("reportables.html", **values, sections=cards.sections(numbers))


def _page_name(i: int) -> str:
    return f"reportables-{i + 1}.html" if i else "index.html#reportables"


def _pager(current: int, n: int) -> list[tuple[int, str, bool]]:
    """The pages to offer: number, link, and whether some are left out before it."""
    near = range(current - 2, current + 3)
    shown = [i for i in range(n) if i in near or i in (0, n - 1) or (i + 1) % max(10, n // 100 * 10) == 0]
    return [(i + 1, _page_name(i), k > 0 and shown[k - 1] != i - 1) for k, i in enumerate(shown)]


def _contents(cards: Cards, page_of: dict[int, int]) -> dict[str, Any]:
    """The table of contents of the reportables, by group and by record."""

    def link(number: int, anchor: str) -> str:
        name = _page_name(page_of[number]) if page_of[number] else ""
        return f"{name}#{anchor}"

    by_group: dict[str, dict[str, Any]] = {}
    by_record: dict[str, dict[str, Any]] = {}
    links: dict[int, list[tuple[str, str]]] = {}
    for number in cards.order:
        row = cards.rows[number]
        if row["group"]:
            entry = {"title": row["group"], "link": link(number, cards.heading(number)[1]), "count": 0}
            by_group.setdefault(row["group"], entry)["count"] += 1
        entry = {"title": cards.label(row), "link": link(number, f"reportable-{number}"), "count": 0}
        by_record.setdefault(entry["title"], entry)["count"] += 1
        record = cards.record(row)
        if record is not None:
            links.setdefault(record.number, []).append((link(number, f"reportable-{number}"), row["name"]))
    records = list(by_record.values())
    return {
        "toc_groups": list(by_group.values()),
        "toc_records": records[:MOST_IN_CONTENTS],
        "toc_more": max(0, len(records) - MOST_IN_CONTENTS),
        "links_of_record": links,
    }


def _drawn(run: RunView, shown_tasks: set[int]) -> dict[str, Any]:
    try:
        svg, by_stage = graph_svg.draw(run, shown_tasks)
    except graph_svg.LayoutUnavailableError:
        return {"map": None, "map_note": graph_svg.HOW_TO_GET_IT}
    if not run.tasks:
        return {"map": None, "map_note": "Nothing was planned, so there is no map."}
    return {"map": {"svg": svg, "by_stage": by_stage}, "map_note": ""}


# --- places ----------------------------------------------------------------------------------------------------------
def _put(folder: Path, target: Path) -> None:
    """Let a folder take the place of another.

    Two processes may do so at once: A moves the old one away, B puts its own there, and A finds the place taken. Then A
    moves B's away as well; whoever comes last wins.
    """
    for _ in range(20):
        old = folder.with_name(".old")
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, old)
        try:
            os.rename(folder, target)
        except OSError:
            shutil.rmtree(old, ignore_errors=True)
            continue
        shutil.rmtree(old, ignore_errors=True)
        return
    os.rename(folder, target)


def _point_latest(run: RunView, reports: Path) -> None:
    """Let ``_latest`` lead to this report, unless it leads to that of a later run."""
    latest = reports / LATEST
    current = index.row_of(reports, os.readlink(latest)) if latest.is_symlink() else None
    if current and latest.exists() and str(current.get("started")) > str(run.data.get("started")):
        return
    with tempfile.TemporaryDirectory(prefix=".new-", dir=reports) as made:
        if latest.is_dir() and not latest.is_symlink():
            os.rename(latest, Path(made) / "was")
        link = Path(made) / LATEST
        link.symlink_to(run.reference, target_is_directory=True)
        os.replace(link, latest)
