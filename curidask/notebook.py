"""What the manager shows in a notebook, and its report.

The functions take the manager; users call the methods of the same names on it (see `curidask.displays`). In a notebook
what they show is HTML that holds all it needs, images too; in a terminal it is text.
"""

from __future__ import annotations

import base64
import logging
import mimetypes
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from curidask.errors import ProjectError
from curidask.manager import ArtifactManager
from curidask.record import Record
from curidask.reporting import contents, stage_map
from curidask.reporting.cards import Cards, Row, folder_of
from curidask.reporting.render import TEMPLATES, duration, page
from curidask.reporting.report import write_report
from curidask.reporting.runview import LOOKS, RunView

logger = logging.getLogger(__name__)

MOST_REPORTABLES = 100
LARGEST_EMBEDDED_BYTES = 5_000_000


class Display:
    """Something to show: HTML for notebooks, text for terminals."""

    def __init__(self, text: str, markup: str) -> None:
        self._text = text
        self._markup = markup

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._markup


def show(display: Display) -> None:
    """Show under the cell in IPython, print elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from IPython.display import display as show_in_ipython

        show_in_ipython(display)
    else:
        print(display)


# --- the manager's displays ------------------------------------------------------------------------------------------
def display_info(manager: ArtifactManager) -> None:
    """Show what the run is: when, where, by whom, with what, and how its stages ended."""
    show(info(view(manager)))


def display_all_reportables(manager: ArtifactManager) -> None:
    """Show all that was reported so far."""
    run = view(manager)
    show(reportables(run, lambda row: True))


def display_record_reportables(manager: ArtifactManager, record: Record) -> None:
    """Show what the stages of one record reported so far.

    Raises
    ------
    TypeError
        When it is no record.
    """
    if not isinstance(record, Record):
        raise TypeError(f"display_record_reportables() takes a Record, not {type(record).__name__}")
    tasks = set(record.tasks)

    def is_its_own(row: Row) -> bool:
        return row["task"] in tasks if row["task"] is not None else row["record"] == record.index

    show(reportables(view(manager), is_its_own, of=record.get_reference_name()))


def display_stage_graph(manager: ArtifactManager) -> None:
    """Show the map of records and stages."""
    show(graph(view(manager)))


def generate_report(manager: ArtifactManager) -> Path:
    """Write the run's report, as far as the run has come; the page to open.

    Raises
    ------
    ProjectError
        When nothing has run, in a session that writes nothing, and when the report cannot be written.
    """
    if manager.dry:
        raise ProjectError(
            "A dry session writes nothing, so it has no report.",
            fix="make the manager without dry, or use display_info()",
        )
    if not manager.run_record.decisions:
        raise ProjectError("Nothing has run yet, so there is nothing to report.", fix="call a stage on a record first")
    if manager.run_record.ended_at is None:
        manager.save_run()
    logger.info("Generating the report of %s", manager.reference)
    return write_report(manager.run_folder, manager.config.path(manager.config.reports))


def view(manager: ArtifactManager) -> RunView:
    """The manager's run as it stands."""
    return RunView(manager.describe_run(), manager.reported.folder)


# --- what they show --------------------------------------------------------------------------------------------------
def info(run: RunView) -> Display:
    """The facts about a run."""
    counts = ", ".join(f"{run.looks[look.key]:,} {look.word}" for look in LOOKS.values() if run.looks[look.key])
    started = f"{run.data['started']}, {duration(run.data['seconds'])}"
    facts = [*contents.facts(run), ("Started", started), ("Stages", counts or "none yet"), *contents.surroundings(run)]
    width = max(len(label) for label, _ in facts)
    text = "\n".join(f"{label:<{width}}  {value}" for label, value in facts)
    return Display(text, _wrap(page("notebook.html", part="info", run=run, facts=facts)))


def reportables(run: RunView, wanted: Callable[[Row], bool], of: str = "") -> Display:
    """The reportables of a run, those that are wanted."""
    cards = Cards(run, lambda row, file: _embedded(run, row, file))
    numbers = [number for number in cards.order if wanted(cards.rows[number])]
    sections = cards.sections(numbers[:MOST_REPORTABLES])
    more = len(numbers) - MOST_REPORTABLES
    markup = page("notebook.html", part="reportables", run=run, sections=sections, more=max(0, more), of=of)
    return Display(_listed(run, cards, numbers, of), _wrap(markup))


def _listed(run: RunView, cards: Cards, numbers: Iterable[int], of: str) -> str:
    lines = []
    for number in numbers:
        row = cards.rows[number]
        group = f" [{row['group']}]" if row["group"] else ""
        folder = folder_of(run, row)
        lines.append(f"{row['name']}{group}, {cards.label(row)}, {row['stage']}: {folder}")
    return "\n".join(lines) or f"Nothing was reported{f' by {of}' if of else ''} yet."


def graph(run: RunView) -> Display:
    """The map of a run."""
    text = "\n".join(
        f"{record.label}: " + " → ".join(f"{task.stage} ({task.look.word})" for task in (*record.tasks, *record.shared))
        for record in run.records
    )
    if not run.tasks:
        return Display("No stage has run yet.", _wrap("<p>No stage has run yet.</p>"))
    try:
        svg, _ = stage_map.draw(run, linked=False)
    except stage_map.LayoutUnavailableError:
        return Display(f"{text}\n\n{stage_map.HOW_TO_GET_IT}", _wrap(f"<p>{stage_map.HOW_TO_GET_IT}</p>"))
    return Display(text, _wrap(page("notebook.html", part="graph", run=run, svg=svg)))


def _wrap(markup: str) -> str:
    """With the style sheet, whose rules hold inside of it only."""
    own = (TEMPLATES / "notebook.css").read_text(encoding="utf-8")
    of_map = (TEMPLATES / "map.css").read_text(encoding="utf-8")
    style = own + re.sub(r"(?<![\w-])\.map\b", ".curidask-display .map", of_map)
    return f'<div class="curidask-display"><style>{style}</style>\n{markup}</div>'


def _embedded(run: RunView, row: Row, file: str) -> str:
    """A file as an address that holds it."""
    folder = folder_of(run, row)
    try:
        data = (folder / file).read_bytes() if folder is not None else b""
    except OSError:
        data = b""
    if not data or len(data) > LARGEST_EMBEDDED_BYTES:
        return "#"
    kind = mimetypes.guess_type(file)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
