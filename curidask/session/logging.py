"""What goes into a run's log: what curidask, the experiment and, when asked for, all other packages log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Plan
from curidask.core.redaction import hide_secrets
from curidask.execution.base import Kind, Outcome
from curidask.execution.listener import Listener
from curidask.execution.process.context import ERR, OUT, Spoken, prefix_of
from curidask.execution.process.tee import speaker
from curidask.execution.project.imports import is_own_file

FORMAT = "%(asctime)s [%(levelname)s] %(name)s: %(stage)s%(message)s"
SHORT_FORMAT = "%(levelname)s %(name)s: %(stage)s%(message)s"

logger = logging.getLogger("curidask.run")
printed = {OUT: logging.getLogger("curidask.stdout"), ERR: logging.getLogger("curidask.stderr")}

for each in printed.values():
    each.propagate = False  # to a handler of the project's, which would print once more what was printed

NO_STAGE = {"stage": ""}


class OwnRecords(logging.Filter):
    """Lets through what curidask and the project's own files log, and of others what is at least a warning.

    Parameters
    ----------
    root : Path
        The project's folder.
    everything : bool
        Let through all.
    """

    def __init__(self, root: Path, *, everything: bool = False) -> None:
        super().__init__()
        self._root = root
        self._everything = everything
        self._known: dict[str, bool] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record."""
        if self._everything or record.levelno >= logging.WARNING or _is_ours(record):
            return True
        path = record.pathname
        if path not in self._known:
            self._known[path] = _is_typed_in(path) or _is_own(path, self._root)
        return self._known[path]


class ForFile(logging.Filter):
    """Lets through what a terminal need not show, since it shows the same in another form."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a terminal shows a record."""
        return not getattr(record, "for_file", False)


class ByStage(logging.Filter):
    """Lets everything through, with the stage that said it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the stage; what was logged on a worker has it already."""
        if not hasattr(record, "stage"):
            record.stage = speaker()
        return True


FOR_FILE: dict[str, Any] = {"for_file": True}


class RunLog(Listener):
    """Writes to the log how a run goes; it listens to the runner.

    Parameters
    ----------
    tracebacks : bool
        Whether failed stages are logged with their tracebacks.
    """

    prints = False
    told_as = "the log"

    def __init__(self, *, tracebacks: bool = False) -> None:
        self._tracebacks = tracebacks

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Log the numbers."""
        run, reuse, prune = (len(plan.ids(action)) for action in (Action.RUN, Action.REUSE, Action.PRUNE))
        logger.info("%d to run, %d to reuse, %d not needed", run, reuse, prune, extra=FOR_FILE)

    def started_executor(self, description: str) -> None:
        """Log where it runs."""
        logger.info("running %s", description, extra=FOR_FILE)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Log a failure."""
        if outcome.kind is Kind.FAILED and outcome.error is not None:
            error = outcome.error
            text = f"{error.type}: {error.message}"
            if self._tracebacks and error.traceback_text:
                text = error.traceback_text.rstrip()
            where = f"{task.label} on {outcome.worker}" if outcome.worker else task.label
            if error.output:
                text += f"\nwhat it printed last:\n{error.output}"
            logger.error("failed: %s\n%s", where, text, extra=FOR_FILE)

    def blocked(self, task: Task) -> None:
        """Log what will not run."""
        logger.info("not run: %s, since a stage before it failed", task.label, extra=FOR_FILE)

    def waiting(self, task: Task, holder: str) -> None:
        """Log for whom the run waits."""
        if holder:
            logger.info("waiting for %s, who is computing %s", holder, task.label, extra=FOR_FILE)

    def warned(self, text: str) -> None:
        """Log a warning."""
        logger.warning("%s", text, extra=FOR_FILE | NO_STAGE)

    def said(self, task: Task | None, spoken: Spoken) -> None:
        """Log what a stage printed."""
        if task is not None:
            stage = prefix_of(task.spec.name, task.record.name)
            printed[spoken.kind].info("%s", spoken.text, extra=FOR_FILE | {"stage": stage})


@contextmanager
def log_file(
    path: Path | None,
    root: Path,
    *,
    everything: bool = False,
    when_needed: bool = False,
    level: int = logging.INFO,
) -> Iterator[None]:
    """Write what is logged meanwhile to a file.

    Parameters
    ----------
    path : Path or None
        None for no file.
    root : Path
        The project's folder.
    everything : bool
        What all packages log, not only curidask and the project.
    when_needed : bool
        Make the file with the first record only.
    level : int
        What is less important is left out.

    Notes
    -----
    A log is only told: where it cannot be written, one warning says so, and the run goes on without.
    """
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace", delay=when_needed)
    except OSError as error:
        _warn_of_no_log(path, error)
        yield
        return
    handler.setFormatter(_WithoutSecrets(FORMAT))
    handler.setLevel(level)
    handler.addFilter(OwnRecords(root, everything=everything))
    handler.addFilter(ByStage())
    top = logging.getLogger()
    before = top.level
    # What Python shows of warnings while there is no handler it would show no more now that there is one.
    added: list[logging.Handler] = [handler] if top.handlers else [handler, _LastResort(logging.WARNING)]
    for each in added:
        top.addHandler(each)
    for logger_of_prints in printed.values():
        logger_of_prints.addHandler(handler)
    top.setLevel(min(before, level) if before else level)
    try:
        yield
    finally:
        for each in added:
            top.removeHandler(each)
        for logger_of_prints in printed.values():
            logger_of_prints.removeHandler(handler)
        top.setLevel(before)
        handler.close()


class _WithoutSecrets(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


class _LogFile(logging.FileHandler):
    """Says once when it cannot write, for one since the disk is full, and tries no more."""

    _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Give up on a file; other mistakes, as in a message's arguments, are told as ever."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True  # before the warning, which comes here too
            _warn_of_no_log(Path(self.baseFilename), error)

    def close(self) -> None:
        """Close the file; what is left in its buffer may have no place either."""
        try:
            super().close()
        except OSError as error:
            if not self._failed:
                self._failed = True
                _warn_of_no_log(Path(self.baseFilename), error)


def _warn_of_no_log(path: Path, error: OSError) -> None:
    text = "the log %s is not written: %s; the run goes on. `logs` in the configuration sets another folder"
    logger.warning(text, path, error.strerror or error, extra={"notice": True, "stage": ""})


class _LastResort(logging.Handler):
    """Shows what others than curidask log, and lets nobody hear it as what a stage printed."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_ours(record):
            return
        try:
            print(self.format(record), file=getattr(sys.stderr, "beneath", sys.stderr))
        except Exception:
            self.handleError(record)


def _is_own(path: str, root: Path) -> bool:
    try:
        return is_own_file(Path(path).absolute(), root)
    except OSError:  # the current folder is gone
        return False


def _is_typed_in(path: str) -> bool:
    """Whether code with such a file name is a cell of a notebook, or was typed in."""
    return path.startswith(("<stdin>", "<ipython-input")) or "ipykernel_" in path


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "curidask"
