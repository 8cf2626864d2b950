"""What ``--check-determinism`` found: told as it comes up, and raised when the run has ended."""

from __future__ import annotations

from collections.abc import Callable

from curidask.core.graph import Task
from curidask.errors import NotDeterministicError
from curidask.execution.base import Finding, Outcome
from curidask.execution.determinism import CACHED, CHANGED, DIFFERS, FAILED
from curidask.execution.listener import Listener

TEXTS = {
    DIFFERS: "{label} is not deterministic: on the same inputs its {name} came out as {detail}",
    CACHED: "{label}: the cache holds another {name} than two calls gave now ({detail}): it depends on what differs "
    "from process to process, as the order of a set, on packages or the machine, or its inputs were others",
    CHANGED: "{label} changes its {name} in place",
    FAILED: "{label} failed when it was called a second time: {name}",
}

FIXES = {
    DIFFERS: "draw from `record.rng` or seed with `record.seed`, sort sets and lists of files (`sorted(...)`), keep "
    "times and ids out of outputs, and let nothing depend on what an earlier call left behind",
    CACHED: "sort sets and lists of files (`sorted(...)`) before their order matters; --overwrite-stage computes anew",
    CHANGED: "work on a copy, as in `data = data.copy()` or `copy.deepcopy(data)`",
    FAILED: "leave nothing behind that the next call stumbles over: globals, files outside of `record.get_path()`",
}


class DeterminismCheck(Listener):
    """Collects what second calls of stages showed; it listens to the runner.

    Parameters
    ----------
    warn : callable
        Told of each.

    Attributes
    ----------
    n_checked : int
        How many tasks were called a second time.
    """

    told_as = "the check of determinism"

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.n_checked = 0
        self.found: list[tuple[Task, Finding]] = []
        self._warn = warn

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Take in what was found of a task."""
        if outcome.findings is None:
            return
        self.n_checked += 1
        for finding in outcome.findings:
            self.found.append((task, finding))
            text = TEXTS[finding.kind]
            self._warn(text.format(label=task.label, name=finding.name, detail=finding.detail))

    def raise_found(self) -> None:
        """Raise when something was found.

        Raises
        ------
        NotDeterministicError
        """
        if not self.found:
            return
        tasks = {task.id: task.spec.name for task, _ in self.found}
        stages = ", ".join(dict.fromkeys(tasks[task] for task in sorted(tasks)))
        kinds = dict.fromkeys(finding.kind for _, finding in self.found)
        raise NotDeterministicError(
            f"The check of determinism found something in {len(tasks)} of {self.told}.",
            where=f"stages: {stages}",
            fix="\n         ".join(FIXES[kind] for kind in FIXES if kind in kinds),
        )

    @property
    def told(self) -> str:
        """What was checked, in words."""
        tasks = "task" if self.n_checked == 1 else "tasks"
        return f"{self.n_checked} {tasks}, each called twice"
