"""What the manager shows in a notebook, and its report.

The functions take the manager; users call the methods of the same names on it (see `curidask.session.displays`). What
they give is shown by a notebook as HTML that holds all it needs, images too; printed, it is text.
"""

from __future__ import annotations

import base64
import difflib
import logging
import mimetypes
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from curidask.core.graph import RecordInfo
from curidask.core.keywords import CheckedCalls
from curidask.errors import ProjectError, SelectionError
from curidask.manager import ArtifactManager
from curidask.record import Record
from curidask.reporting import graph_svg
from curidask.reporting import sections as reporting_sections
from curidask.reporting.cards import Cards, Row, folder_of, is_plain
from curidask.reporting.model import LOOKS, NO_SET, RunView
from curidask.reporting.report import KeptReportable, kept_reportables, write_report
from curidask.reporting.reportables import Reportable
from curidask.reporting.templating import TEMPLATES, configured, duration, page
from curidask.runs.reportables import ReportCollector
from curidask.store.manifest import read_file

logger = logging.getLogger(__name__)

MOST_REPORTABLES = 100
LARGEST_EMBEDDED_BYTES = 5_000_000


class Display(CheckedCalls):
    """Something to show: HTML for notebooks, text for terminals.

    Attributes
    ----------
    data : str
        The HTML.
    """

    def __init__(self, text: str, markup: str) -> None:
        self._text = text
        self.data = markup

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self.data


# --- the manager's displays ------------------------------------------------------------------------------------------
def display_info(manager: ArtifactManager) -> Display:
    """What the run is: when, where, by whom, with what, and how its stages ended."""
    return info(view(manager))


def display_all_reportables(manager: ArtifactManager) -> Display:
    """All that was reported so far."""
    return reportables(view(manager), lambda row: True)


def display_record_reportables(manager: ArtifactManager, record: Record) -> Display:
    """What the stages of one record reported so far.

    Raises
    ------
    TypeError
        When it is no record.
    """
    if not isinstance(record, Record):
        raise TypeError(f"display_record_reportables() takes a Record, not {type(record).__name__}")
    tasks = set(record.tasks)

    def is_its_own(row: Row) -> bool:
        by_task = row["task"] is not None and not row.get("of_input")
        return row["task"] in tasks if by_task else row["record"] == record.index

    return reportables(view(manager), is_its_own, of=record.get_reference_name())


def display_group_reportables(manager: ArtifactManager, group_name: str | None) -> Display:
    """What was reported in a group so far.

    Raises
    ------
    SelectionError
        When nothing was.
    """
    run = view(manager)
    groups = {row["group"] for row in run.data["reportables"]}
    _check_there(group_name or "", groups, "Nothing was reported in the group", "display_group_reportables()")
    return reportables(run, lambda row: row["group"] == (group_name or ""))


def display_stage_reportables(manager: ArtifactManager, stage_name: str) -> Display:
    """What one stage reported so far, for all records.

    Raises
    ------
    SelectionError
        When the session has no such stage.
    """
    run = view(manager)
    stages = {task.spec.name for task in manager.graph} | {row["stage"] for row in run.data["reportables"]}
    _check_there(stage_name, stages, "No record went through the stage", "display_stage_reportables()")
    return reportables(run, lambda row: row["stage"] == stage_name, of=f"the stage {stage_name}")


def display_reportable(manager: ArtifactManager, reportable: Reportable) -> Display:
    """One reportable: one of the run's, or one that is rendered for it now.

    Raises
    ------
    TypeError
        When it is no reportable.
    ReportableError
        When it cannot be rendered.
    """
    if not isinstance(reportable, Reportable):
        raise TypeError(f"display_reportable() takes a Reportable, not {type(reportable).__name__}")
    run = view(manager)
    if isinstance(reportable, KeptReportable) and reportable.row in run.data["reportables"]:
        return reportables(run, lambda row: row == reportable.row)
    record = reportable.record if isinstance(reportable.record, Record) else None
    captured = reportable.capture(type(reportable).__name__, record=reportable.record, stage=reportable.stage)
    collector = ReportCollector(None)
    of = RecordInfo(-1, NO_SET, None, "") if record is None else record.info()
    collector.add(captured, of, reportable.stage, None)
    alone = RunView({"reference": run.reference, "reportables": collector.rows}, collector.folder)
    return Display(f"{captured.name} ({captured.kind})", reportables(alone, lambda row: True).data)


def display_stage_graph(manager: ArtifactManager) -> Display:
    """The map of records and stages."""
    return graph(view(manager))


def all_reportables(manager: ArtifactManager) -> list[KeptReportable]:
    """All that was reported so far, also by stages that were reused, as objects."""
    return kept_reportables(view(manager), {record.index: record for record in manager.records})


def _check_there(name: str, there: Collection[str], what: str, where: str) -> None:
    if name not in there:
        near = difflib.get_close_matches(str(name), [known for known in there if known], n=1)
        known = ", ".join(sorted(filter(None, there))) or "none"
        fix = f"did you mean {near[0]!r}?" if near else f"there is: {known}"
        raise SelectionError(f"{what} {name!r}.", where=where, fix=fix)


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
    config = manager.config
    return write_report(manager.run_folder, config.path(config.reports), configured(config), config.path(config.logs))


def view(manager: ArtifactManager) -> RunView:
    """The manager's run as it stands."""
    return RunView(manager.describe_run(), manager.reported.folder)


def record_markup(record: Record) -> str:
    """A record with its stages and what its state holds; nothing is computed for it."""
    run = view(record.manager)
    tasks = [run.tasks[task] for task in record.tasks if task in run.tasks]
    known = {a.name: a for task in tasks for a in task.artifacts}
    return _wrap(
        page("notebook.html", part="record", record=record, tasks=tasks, known=known, names=list(record.state))
    )


# --- what they show --------------------------------------------------------------------------------------------------
def info(run: RunView) -> Display:
    """The facts about a run."""
    counts = ", ".join(f"{run.looks[look.key]:,} {look.word}" for look in LOOKS.values() if run.looks[look.key])
    started = f"{run.data['started']}, {duration(run.data['seconds'])}"
    facts = [
        *reporting_sections.facts(run),
        ("Started", started),
        ("Stages", counts or "none yet"),
        *reporting_sections.surroundings(run),
    ]
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
        svg, _ = graph_svg.draw(run, linked=False)
    except graph_svg.LayoutUnavailableError:
        return Display(f"{text}\n\n{graph_svg.HOW_TO_GET_IT}", _wrap(f"<p>{graph_svg.HOW_TO_GET_IT}</p>"))
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
        data = read_file(folder / file) if folder is not None and is_plain(folder / file) else b""
    except (OSError, ValueError):
        data = b""
    if not data or len(data) > LARGEST_EMBEDDED_BYTES:
        return "#"
    kind = mimetypes.guess_type(file)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
