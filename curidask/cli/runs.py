"""``curidask runs`` and ``curidask attach``: the runs of a project, and following one that goes on elsewhere."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curidask.cli import completion
from curidask.errors import SelectionError
from curidask.session.terminal import say
from curidask.store.manifest import printable

if TYPE_CHECKING:
    from curidask.runs.status import RunStatus
    from curidask.session.config import Config


# --- which run is meant by what stands for it on the command line ----------------------------------------------------
LATEST = "latest"
NEAR = 5


@dataclass(frozen=True, slots=True)
class Named:
    """A run by its experiment, and when it began: seconds since 1970."""

    experiment: str
    started: float


def reference_of(asked: str, runs: Mapping[str, Named], where: str) -> str:
    """The reference of the run that is meant: by itself, its beginning, an experiment for its last run, or `LATEST`.

    Parameters
    ----------
    runs : mapping of str to Named
        Those that there are, by their references.
    where : str
        For messages.

    Raises
    ------
    SelectionError
        When there is none, with near ones.
    """
    if asked in runs:
        return asked
    of_run = [r for r, run in runs.items() if run.experiment == asked or r.startswith(f"{asked}_")]
    found = of_run or [r for r in runs if asked and r.startswith(asked)] or (list(runs) if asked == LATEST else [])
    if not found:
        newest = sorted(runs, key=lambda reference: -runs[reference].started)
        experiments = {run.experiment for run in runs.values()}
        near = difflib.get_close_matches(asked, [*newest, *experiments], n=NEAR, cutoff=0.5) or newest[:NEAR]
        fix = f"give one of {', '.join(map(printable, near))}; or `{LATEST}`. " if near else ""
        raise SelectionError(
            f"There is no run {asked!r}.", where=where, fix=f"{fix}`curidask runs` lists those that are there"
        )
    return max(found, key=lambda reference: runs[reference].started)


# --- runs ------------------------------------------------------------------------------------------------------------
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

SHOWN_RUNS = 20
LOOK_SECONDS = 0.3
LAST_LINES = 20

EXIT_CODES = {"done": 0, "interrupted": 130}
COLOURS = {"running": "cyan", "done": "green", "interrupted": "yellow"}


# --- the list --------------------------------------------------------------------------------------------------------
@click.command("runs", context_settings=SETTINGS)
@click.argument("name", required=False, shell_complete=completion.experiments)
@click.option("-a", "--all", "everything", is_flag=True, help=f"All runs, not only the last {SHOWN_RUNS}.")
def runs_command(name: str | None, everything: bool) -> None:
    """List runs, the last first: those of the experiment NAME, or all.

    `running` goes on, here or on another machine; `died` has ended without a word.
    """
    from curidask.runs.status import all_runs
    from curidask.session.config import load_config

    config = load_config()
    found = [run for run in all_runs(config.path(config.runs)) if name in (None, run.name)]
    found.sort(key=lambda run: run.started, reverse=True)
    for run in found if everything else found[:SHOWN_RUNS]:
        _print_run(run, max(len(run.reference) for run in found))
    if not found:
        say(f"no runs in {config.path(config.runs)}")
    elif len(found) > SHOWN_RUNS and not everything:
        say(f"({len(found) - SHOWN_RUNS} earlier ones: --all)")


def _print_run(run: RunStatus, width: int) -> None:
    from curidask.session.progress import duration

    counts = run.stages.values()
    words = [
        f"{number} {word}"
        for word, number in (
            ("ran", sum(c.ran for c in counts)),
            ("found", sum(c.found for c in counts)),
            ("unchanged", sum(c.unchanged for c in counts)),
            ("failed", sum(c.failed for c in counts)),
            ("not run", sum(c.left + c.blocked for c in counts)),
            ("reused", sum(c.reused for c in counts)),
        )
        if number
    ]
    status = click.style(f"{run.status:<12}", fg=COLOURS.get(run.status, "red"))
    line = f"{run.reference:<{width}}  {status}{duration(run.seconds):>12}  {', '.join(words)}"
    say(f"{line}  {run.title}".rstrip(), err=False)


# --- following -------------------------------------------------------------------------------------------------------
@click.command("attach", context_settings=SETTINGS)
@click.argument("reference", required=False)
@click.option("-n", "--lines", default=LAST_LINES, metavar="N", help=f"Begin with the last N lines ({LAST_LINES}).")
@click.option("--plain", is_flag=True, help="No moving lines and no colour.")
def attach_command(reference: str | None, lines: int, plain: bool) -> None:
    """Follow the run REFERENCE until it ends: what it prints, and how far it is.

    REFERENCE is as `curidask runs` lists it, or its beginning (`digits_3`), or an experiment, for its last run, or
    `latest`; without it, the last run that goes on. Ctrl-C ends the following, not the run. The exit code is that of
    the run.
    """
    from curidask.session.config import load_config

    config = load_config()
    run = _find(config, reference)
    try:
        run = _follow(config, run, lines, moving=not plain and sys.stderr.isatty())
    except KeyboardInterrupt:
        say(f"{run.reference} goes on; `curidask attach {run.reference}` follows it again", fg="yellow")
        return
    _say_end(run)
    sys.exit(EXIT_CODES.get(run.status, 1))


def _find(config: Config, reference: str | None) -> RunStatus:
    from curidask.errors import SelectionError
    from curidask.runs.status import all_runs, read_status

    folder = config.path(config.runs)
    exact = read_status(folder / reference) if reference else None
    if exact is not None:
        return exact
    found = {run.reference: run for run in all_runs(folder)}
    if reference is not None:
        known = {name: Named(run.name, run.started) for name, run in found.items()}
        return found[reference_of(reference, known, str(folder))]
    going_on = [run for run in found.values() if not run.is_over]
    if not going_on:
        raise SelectionError("No run goes on.", where=str(folder), fix="`curidask runs` lists those that are there")
    return max(going_on, key=lambda run: run.started)


def _follow(config: Config, run: RunStatus, n_lines: int, *, moving: bool) -> RunStatus:
    from curidask.runs.status import read_status
    from curidask.session.export import log_path, output_path

    folder = config.path(config.runs) / run.reference
    tail = Tail([output_path(config, run.reference), log_path(config, run.reference)], n_lines)
    screen = _Screen(moving)
    try:
        while True:
            run = read_status(folder) or run
            screen.show(tail.lines(), run)
            if run.is_over:
                screen.show(tail.lines(), run)  # what came between the two looks
                return run
            time.sleep(LOOK_SECONDS)
    finally:
        screen.erase()


class Tail:
    """The lines that are added to the first of some files that is there.

    Parameters
    ----------
    n_lines : int
        How many of those that are there already come first.
    """

    def __init__(self, paths: Sequence[Path], n_lines: int) -> None:
        self._paths = paths
        self._n_lines = n_lines
        self._path: Path | None = None
        self._position = 0
        self._part = b""

    def lines(self) -> list[str]:
        """What was added since the last call."""
        is_first = self._path is None
        self._path = self._path or next((path for path in self._paths if path.exists()), None)
        if self._path is None:
            return []
        with open(self._path, "rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        *lines, self._part = (self._part + data).split(b"\n")
        texts = [line.decode("utf-8", "replace") for line in lines]
        return texts[max(0, len(texts) - self._n_lines) :] if is_first else texts


class _Screen:
    """Lines, and below them, on a terminal, how far the run is."""

    def __init__(self, moving: bool) -> None:
        self._moving = moving
        self._drawn = 0

    def show(self, lines: Iterable[str], run: RunStatus) -> None:
        self.erase()
        for line in lines:
            say(line, err=False)
        if self._moving and not run.is_over:
            self._draw(run)

    def _draw(self, run: RunStatus) -> None:
        from curidask.session.progress import stage_line

        for stage, count in run.stages.items():
            if count.to_run:
                say(stage_line(stage, count, run.seconds))
                self._drawn += 1

    def erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def _say_end(run: RunStatus) -> None:
    from curidask.session.progress import duration, summary

    if run.status == "died":
        say(
            f"{run.reference} died: its process ended without a word; what had finished is in the cache, and the same "
            "command does the rest",
            fg="red",
        )
    else:
        say(f"{run.reference} {'is' if run.status != 'failed' else 'has'} {run.status} after {duration(run.seconds)}")
    say(summary(run.stages, run.seconds))
