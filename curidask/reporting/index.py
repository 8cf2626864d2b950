"""The index over all runs: a small file a run, and a page made of them.

Writers need no lock. Each puts down its own file, makes the page out of all files, and looks again whether there are
others by now. Whoever replaces the page last has seen every file that was there, or looks once more.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from curidask.core.keywords import check_keywords, keywords
from curidask.errors import ProjectError
from curidask.reporting import templating
from curidask.reporting.model import RunView, read_run
from curidask.reporting.templating import asset, page
from curidask.runs.schema import LINE, fitting
from curidask.store.atomic import write_atomically
from curidask.store.manifest import parse_object, read_file

# --- keywords that reportables pass on to other packages -------------------------------------------------------------
# Which there are is asked of these packages themselves.

Names = Callable[[], frozenset[str]]


def check_passed_on(
    given: Collection[str], names: Names, function: Callable[..., Any] | None = None, call: str = ""
) -> None:
    """Refuse keywords that the package they go to does not have, before anything is drawn.

    Parameters
    ----------
    given : collection of str
    names : callable
        Gives those of the package. Where that is not installed, nothing is refused here.
    function : callable, optional
        What they were given to, whose own parameters a message may suggest.
    call : str
        How a message names it.

    Raises
    ------
    UnknownKeywordError
    """
    if not given:
        return
    try:
        there = names()
    except ImportError:
        return
    own = inspect.signature(function).parameters.values() if function is not None else ()
    named = {p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"}
    check_keywords(given, there | named, call)


def savefig_keywords() -> frozenset[str]:
    """What ``Figure.savefig`` takes, for whatever format."""
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_ps import FigureCanvasPS
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    takers: list[Any] = [Figure.savefig, FigureCanvasBase.print_figure]
    for canvas in (FigureCanvasAgg, FigureCanvasPdf, FigureCanvasPS, FigureCanvasSVG):
        takers += [getattr(canvas, name) for name in dir(canvas) if name.startswith("print_")]
    names = {p.name for taker in takers for p in _named(taker)}
    return frozenset(names - {"self", "fname", "filename", "filename_or_obj", "outfile", "fmt"})


def plot_keywords() -> frozenset[str]:
    """What ``Axes.plot`` takes: its own keywords, and the properties of lines with their aliases."""
    from matplotlib.artist import ArtistInspector
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    inspector = ArtistInspector(Line2D)
    aliases = {alias for others in inspector.aliasd.values() for alias in others}
    return frozenset({*inspector.get_setters(), *aliases, *(p.name for p in _named(Axes.plot))} - {"self"})


def latex_keywords() -> frozenset[str]:
    """What ``Styler.to_latex`` takes, but for where to write to."""
    from pandas.io.formats.style import Styler

    return frozenset(p.name for p in _named(Styler.to_latex)) - {"self", "buf"}


def _named(function: Any) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


# --- index -----------------------------------------------------------------------------------------------------------
ROWS = ".index"
MOST_RUNS = 1000
ROUNDS = 50
Row = dict[str, Any]


def add(run: RunView, reports: Path) -> None:
    """Put down the line of a run."""
    rows = reports / ROWS
    rows.mkdir(parents=True, exist_ok=True)
    write_atomically(rows / f"{run.reference}.json", json.dumps(run.summary()))


def row_of(reports: Path, reference: str) -> Row | None:
    """The line of a run, None when there is none or it cannot be read."""
    try:
        row = parse_object(read_file(reports / ROWS / f"{reference}.json"))
    except (OSError, ValueError):
        return None
    return fitting(row, LINE) if row.get("reference") == reference else None


@keywords()
def update(runs: Path, reports: Path, css: Path | None = None) -> int:
    """Make the index anew from the folders of runs and of reports.

    Parameters
    ----------
    runs : Path
        The folder of all runs.
    reports : Path
        The folder of all reports, made when it is not there.
    css : Path, optional
        A style sheet that comes after the built-in one; a ``style.css`` of the user's in the folder by default.

    Returns
    -------
    int
        How many runs it lists.

    Raises
    ------
    ProjectError
        When the reports folder cannot be written.
    """
    try:
        rows = reports / ROWS
        shutil.rmtree(rows, ignore_errors=True)
        rows.mkdir(parents=True)
        for folder in _run_folders([reports, runs]):
            try:
                add(read_run(folder), reports)
            except ProjectError:
                continue  # what is no run record is no run
        return render(reports, templating.own_sheet(reports, css))
    except OSError as error:
        raise ProjectError(
            f"The index of reports cannot be written: {error.strerror or error}.",
            where=str(error.filename or reports),
            fix="make the folder writable, or set `reports` in the configuration",
        ) from error


def _run_folders(places: Iterable[Path]) -> Iterable[Path]:
    for place in places:
        for path in sorted(place.glob("*/run.json")) if place.is_dir() else ():
            if not path.parent.is_symlink() and not path.parent.name.startswith("."):
                yield path.parent


def render(reports: Path, own: bytes | None) -> int:
    """Make the page out of the lines, with the user's own style sheet if there is one; how many lines there are."""
    sheets = [templating.name_of_ours(reports)]
    write_atomically(reports / sheets[0], templating.built_in())
    write_atomically(reports / "report.js", asset("report.js"))
    if own is None:
        (reports / templating.CUSTOM).unlink(missing_ok=True)
    else:
        write_atomically(reports / templating.CUSTOM, own)
        sheets.append(templating.CUSTOM)
    for _ in range(ROUNDS):
        before = _state(reports)
        rows = _read(reports)
        write_atomically(reports / "runs.json", json.dumps(rows))
        write_atomically(reports / "index.html", _page(rows, reports, sheets))
        if _state(reports) == before:
            break
    return len(rows)


def _state(reports: Path) -> set[tuple[str, int, int]]:
    found = set()
    for entry in os.scandir(reports / ROWS):
        if entry.name.endswith(".json"):
            status = entry.stat()
            found.add((entry.name, status.st_mtime_ns, status.st_ino))
    return found


def _read(reports: Path) -> list[Row]:
    """All lines, newest first."""
    names = (path.name.removesuffix(".json") for path in (reports / ROWS).glob("*.json"))
    rows = [row for name in names if (row := row_of(reports, name)) is not None]
    return sorted(rows, key=lambda row: (str(row.get("started")), row.get("number") or 0), reverse=True)


def _page(rows: list[Row], reports: Path, sheets: list[str]) -> str:
    shown = [_shown(row) | {"link": _link(reports, row["reference"])} for row in rows[:MOST_RUNS]]
    return page(
        "index.html",
        sheets=sheets,
        rows=shown,
        n_rows=len(rows),
        n_experiments=len({row.get("name") for row in rows}),
        latest=(reports / "_latest" / "index.html").exists(),
    )


def _shown(row: Row) -> Row:
    """A line with all that the page needs, whoever wrote it."""
    texts = {
        name: str(row.get(name) or "") for name in ("name", "number", "status", "title", "started", "user", "host")
    }
    counts = {
        name: row[name] if isinstance(row.get(name), int | float) else 0 for name in ("seconds", "sets", "reportables")
    }
    looks = row.get("looks")
    return texts | counts | {"looks": Counter(looks if isinstance(looks, dict) else {})}


def _link(reports: Path, reference: str) -> str:
    """The page of a run's report, nothing when it was deleted or never made."""
    return f"{quote(reference)}/index.html" if (reports / reference / "index.html").exists() else ""
