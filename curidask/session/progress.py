"""What the terminal shows of a run: a line a stage while it runs, a table after.

It renders the events of the runner and decides nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, ClassVar

import click

from curidask.core.graph import Graph, Task
from curidask.core.planner import Decision, Plan
from curidask.execution.base import Kind, Outcome
from curidask.execution.listener import Listener
from curidask.execution.process.context import ERR, Spoken, prefix_of
from curidask.runs.status import Counts, StageCount
from curidask.session.terminal import own_stream, say

REFRESH_SECONDS = 0.1


@dataclass(slots=True)
class Progress(Listener):
    """Counts by stage, kept from the runner's events (a Listener).

    Attributes
    ----------
    quiet : bool
        Show warnings only, and lines that move where `moving` is true.
    plain : bool
        A line when a stage has ended, instead of moving lines.
    moving : bool, optional
        Whether lines move; by default where the output is a terminal and not `quiet`.
    experiment : str
        The name by which it is asked for.
    """

    prints: ClassVar[bool] = True
    told_as: ClassVar[str] = "the display"
    quiet: bool = False
    plain: bool = False
    moving: bool | None = None
    experiment: str = "NAME"
    counts: Counts = field(default_factory=Counts)
    started: float = field(default_factory=time.monotonic)
    running_since: float = 0.0
    load: str = ""
    _drawn: int = 0
    _last: float = 0.0
    _warned: set[str] = field(default_factory=set)
    _waits: dict[int, str] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    @property
    def stages(self) -> dict[str, StageCount]:
        """The counts of each stage."""
        return self.counts.stages

    @property
    def decisions(self) -> dict[int, Decision]:
        """What was planned for each task."""
        return self.counts.decisions

    # --- Listener ----------------------------------------------------------------------------------------------------
    def planned(self, graph: Graph, plan: Plan) -> None:
        """Count what will happen."""
        self.counts.planned(graph, plan)

    def started_executor(self, description: str) -> None:
        """Say where the run goes on."""
        self.running_since = time.monotonic()
        self._say(f"running {description}", dim=True)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Count a task that ended."""
        count = self.counts.ended(task, outcome)
        self._waits.pop(task.id, None)
        if outcome.kind is Kind.FAILED:
            self._say(f"failed: {task.label}: {_first_line(outcome)}", fg="red")
        self._show_progress(task.spec.name, count)

    def blocked(self, task: Task) -> None:
        """Count a task that will not run."""
        self.counts.blocked(task)

    def waiting(self, task: Task, holder: str) -> None:
        """Say for whom the run waits."""
        if not holder:
            self._waits.pop(task.id, None)
            return
        if holder not in self._waits.values():
            self._say(f"waiting for {holder}, who is computing {task.label}", dim=True)
        self._waits[task.id] = holder

    def told_load(self, text: str) -> None:
        """Keep what the moving lines say of the workers."""
        self.load = text

    @property
    def wants_causes(self) -> bool:
        """Whether it shows why stages run."""
        return not self.quiet

    def told_causes(self, lines: Sequence[str], n_more: int) -> None:
        """Show why stages run of which there are other artifacts."""
        for line in lines:
            self._say(line, dim=True)
        if n_more:
            self._say(f"and {n_more} more: curidask explain {self.experiment}", dim=True)

    def warned(self, text: str) -> None:
        """Show a warning, each once."""
        if text not in self._warned:
            self._warned.add(text)
            self._say(f"warning: {text}", even_quiet=True, fg="yellow")

    # --- Hearer ------------------------------------------------------------------------------------------------------
    def said(self, task: Task | None, spoken: Spoken) -> None:
        """Show what a stage printed on a worker, where it would go if this process ran the stage."""
        if task is not None and not spoken.shown:
            prefix = click.style(prefix_of(task.spec.name, task.record.name), dim=True)
            self.line(prefix + spoken.text, err=spoken.kind == ERR, as_it_is=True)

    def before_print(self) -> None:
        """Take the moving lines away."""
        if self._drawn:
            with self._lock:
                self._erase()

    # --- drawing -----------------------------------------------------------------------------------------------------
    def _show_progress(self, stage: str, count: StageCount) -> None:
        if self._is_drawing():
            now = time.monotonic()
            if now - self._last >= REFRESH_SECONDS or not count.left:
                self._last = now
                with self._lock:
                    self._erase()
                    self._draw()
        elif not count.left and not self.quiet:
            say(self._line(stage, count))

    def _is_drawing(self) -> bool:
        if self.moving is None:
            may = not self.plain and not self.quiet
            self.moving = may and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return self.moving

    def _erase(self) -> None:
        if self._drawn:
            # Not through click, which takes all escapes away where it takes colour away.
            # At once: what a stage prints next may go to another stream of the same terminal.
            stream = own_stream()
            stream.write(f"\x1b[{self._drawn}A\x1b[J")
            stream.flush()
            self._drawn = 0

    def _draw(self) -> None:
        for stage, count in self.stages.items():
            if count.to_run:
                say(self._line(stage, count))
                self._drawn += 1
        if self.load:
            say(f"  {self.load}", dim=True)
            self._drawn += 1

    def _line(self, stage: str, count: StageCount) -> str:
        return stage_line(stage, count, time.monotonic() - self.running_since)

    def _say(self, text: str, *, even_quiet: bool = False, **style: Any) -> None:
        if not self.quiet or even_quiet:
            self.line(text, **style)

    def line(self, text: str, **style: Any) -> None:
        """Print a line above the moving ones; from any thread, since what workers log comes from another."""
        with self._lock:
            self._erase()
            say(text, **style)

    def close(self, lines: Sequence[str], *, failed: bool) -> None:
        """Put the table with what came out of it, and these lines, in the place of those that move.

        When `quiet`, the moving lines stay as they are last.
        """
        if self.quiet:
            return
        with self._lock:
            self._erase()
        if failed and not self.decisions:
            return
        say(table(self.stages))
        if not failed:
            say(summary(self.stages, time.monotonic() - self.started))
        for line in lines:
            say(line)


def stage_line(stage: str, count: StageCount, seconds: float) -> str:
    """How far a stage is after so many seconds."""
    ended = count.done + count.failed + count.blocked
    parts = [f"  {stage:<24} {ended:>6}/{count.to_run}"]
    parts += [f"shared by {count.sets} sets"] if count.sets > count.to_run else []
    parts += [f"{value} {name}" for name, value in (("failed", count.failed), ("reused", count.reused)) if value]
    if ended:
        rate = ended / max(seconds, 1e-3)
        parts.append(f"{rate:.1f}/s")
        if count.left:
            parts.append(f"about {duration(count.left / rate)} left")
    return "  ".join(parts)


def table(stages: Mapping[str, StageCount]) -> str:
    """The table of a run that has ended."""
    words = [word for word in ("found", "unchanged") if any(getattr(c, word) for c in stages.values())]
    more = "".join(f"{word:>{len(word) + 3}}" for word in words)
    header = f"{'stage':<26}{'ran':>8}{more}{'reused':>8}{'not needed':>12}{'failed':>8}{'not run':>9}{'seconds':>10}"
    rows = [header, "-" * len(header)]
    for stage, c in stages.items():
        more = "".join(f"{getattr(c, word):>{len(word) + 3}}" for word in words)
        not_run = c.to_run - c.done - c.failed
        rows.append(
            f"{stage:<26}{c.ran:>8}{more}{c.reused:>8}{c.pruned:>12}{c.failed:>8}{not_run:>9}{c.seconds:>10.2f}"
        )
    return "\n".join(rows)


def summary(stages: Mapping[str, StageCount], seconds: float) -> str:
    """What came out of a run that took so many seconds."""
    counts = stages.values()
    names = ("ran", "found", "unchanged", "reused", "pruned")
    ran, found, unchanged, reused, pruned = (sum(getattr(c, name) for c in counts) for name in names)
    failed = sum(c.failed for c in counts)
    took = duration(seconds)
    if not (ran or failed or found):
        reused += unchanged
        return f"everything was in the cache: {reused} reused, {pruned} not needed, nothing ran ({took})"
    failures = f", {failed} failed" if failed else ""
    others = f", {found} found, which others made meanwhile" if found else ""
    others += f", {unchanged} unchanged" if unchanged else ""
    return f"{ran} ran{others}, {reused} reused, {pruned} not needed{failures} ({took})"


def _first_line(outcome: Outcome) -> str:
    error = outcome.error
    return f"{error.type}: {error.message}".partition("\n")[0] if error is not None else "unknown"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
