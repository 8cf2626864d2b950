"""Whose fault the death of a worker process was: of the stage it ran, not of those that were queued there.

What its nanny found out decides. Without such a word, all that dask blames are counted, and who is blamed too often
is tried alone.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from curidask.core.options import format_bytes
from curidask.execution.base import ErrorInfo
from curidask.execution.process import postmortem
from curidask.execution.process.postmortem import Death
from curidask.execution.timeout import too_long

MAX_DEATHS = 3
"""How many worker processes may die of a stage."""

REPORT_SECONDS = 3.0
"""How long to wait for a nanny's word on a death."""

KEPT_SECONDS = 120.0
"""How long a word is kept: that long, somebody may still ask."""

MORE = 2
"""How many times as much memory a stage gets that died for want of it."""


class What(Enum):
    """What becomes of jobs whose worker process died."""

    AGAIN = "again"
    ALONE = "alone"
    MORE_MEMORY = "more memory"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do.

    Attributes
    ----------
    what : What
    task : int
        The guilty one, for FAILED.
    error : ErrorInfo or None
        For FAILED.
    death : Death or None
        What is known.
    memory_bytes : int
        For MORE_MEMORY.
    """

    what: What
    task: int = -1
    error: ErrorInfo | None = None
    death: Death | None = None
    memory_bytes: int = 0


AGAIN = Verdict(What.AGAIN)


class Deaths:
    """What is known of deaths, and who was involved in how many.

    Parameters
    ----------
    session : str
        Whose jobs are ours.
    largest_memory : callable
        The memory of the largest worker, in bytes.
    """

    def __init__(self, session: str, largest_memory: Callable[[], int]) -> None:
        self._session = session
        self._largest_memory = largest_memory
        self._words: queue.SimpleQueue[Death] = queue.SimpleQueue()
        self._removed: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._known: dict[str, tuple[float, Death]] = {}
        self._untold: dict[str, tuple[float, int]] = {}
        self._involved: dict[int, int] = {}
        self._counted: set[tuple[str, int]] = set()
        self._given_more: set[int] = set()

    # --- from any thread ---------------------------------------------------------------------------------------------
    def reported(self, text: str) -> None:
        """Take a nanny's word."""
        with suppress(ValueError, TypeError, KeyError):  # of another version
            self._words.put(Death.from_text(text))

    def removed(self, worker: str, n_running: int) -> None:
        """Take that the scheduler has lost a worker with so many tasks."""
        self._removed.put((worker, n_running))

    # --- from the driver's thread ------------------------------------------------------------------------------------
    def take(self) -> list[Death]:
        """The words that have come since the last call."""
        now = time.monotonic()
        for worker in [w for w, (since, _) in self._known.items() if now - since > KEPT_SECONDS]:
            del self._known[worker]
            self._counted = {counted for counted in self._counted if counted[0] != worker}
        found = []
        with suppress(queue.Empty):
            while True:
                death = self._words.get_nowait()
                self._known[death.worker] = (now, death)
                found.append(death)
        return found

    def news(self, *, is_last: bool = False) -> list[str]:
        """What to tell the user of deaths, each once: with the nanny's word when there is one, or comes in time."""
        now = time.monotonic()
        with suppress(queue.Empty):
            while True:
                worker, n_running = self._removed.get_nowait()
                self._untold[worker] = (now, n_running)
        told = []
        for worker, (since, n_running) in list(self._untold.items()):
            known = self._known.get(worker)
            if known is not None or is_last or now - since > REPORT_SECONDS:
                del self._untold[worker]
                told.append(self._text(worker, n_running, known[1] if known is not None else None))
        return told

    def is_waiting(self) -> bool:
        """Whether something is still to be told."""
        return bool(self._untold) or not self._removed.empty()

    def judge(self, tasks: Collection[int], worker: str, waited_seconds: float, *, was_alone: bool) -> Verdict | None:
        """Decide on jobs that went to dask together and whose worker died.

        Parameters
        ----------
        tasks : collection of int
            The jobs, in order.
        worker : str
            Its address.
        waited_seconds : float
            For how long its nanny's word has been waited for.
        was_alone : bool
            Whether nothing else ran then.

        Returns
        -------
        Verdict or None
            None: wait.
        """
        known = self._known.get(worker)
        if known is None and waited_seconds < REPORT_SECONDS:
            return None
        death = known[1] if known is not None else None
        running = [job for job in death.running if job.session == self._session] if death is not None else []
        guilty = [job for job in running if job.task in tasks]
        if running and not guilty:
            return AGAIN
        if death is None or not guilty:
            return self._unclear(next(iter(tasks)), worker, death, was_alone=was_alone)
        return self.of_guilty(guilty[0].task, death)

    def of_guilty(self, task: int, death: Death) -> Verdict:
        """Decide on a job that a worker process was running when it died."""
        if death.cause == postmortem.TIMEOUT:
            return Verdict(What.FAILED, task, _timed_out(task, death), death)
        if death.cause == postmortem.MEMORY:
            return self._out_of_memory(task, death)
        if self._count(task, death.worker) < MAX_DEATHS:
            return AGAIN
        return Verdict(What.FAILED, task, _died(death, self._involved[task]), death)

    # --- parts -------------------------------------------------------------------------------------------------------
    def _count(self, task: int, worker: str) -> int:
        if (worker, task) not in self._counted:
            self._counted.add((worker, task))
            self._involved[task] = self._involved.get(task, 0) + 1
        return self._involved[task]

    def _unclear(self, task: int, worker: str, death: Death | None, *, was_alone: bool) -> Verdict:
        times = self._count(task, worker)
        if was_alone:
            return Verdict(What.FAILED, -1, _died(death, times), death)
        return AGAIN if times < MAX_DEATHS else Verdict(What.ALONE)

    def _out_of_memory(self, task: int, death: Death) -> Verdict:
        wanted = MORE * (death.limit_bytes or death.peak_bytes)
        largest = self._largest_memory()
        if task not in self._given_more and 0 < wanted <= largest:
            self._given_more.add(task)
            return Verdict(What.MORE_MEMORY, task, death=death, memory_bytes=wanted)
        return Verdict(What.FAILED, task, _no_memory(death, largest), death)

    def _text(self, worker: str, n_running: int, death: Death | None) -> str:
        ours = [job for job in death.running if job.session == self._session] if death is not None else []
        if death is None or not ours:
            how = f" ({death.how})" if death is not None else ""
            return f"the worker at {worker} died{how}; what it held or was doing ({n_running} tasks) runs again"
        doing = " and ".join(job.label for job in ours)
        if death.cause == postmortem.TIMEOUT:
            return f"the worker at {worker} was ended, since {doing} did not stop when its time was up"
        why = "for want of memory" if death.cause == postmortem.MEMORY else f"({death.how})"
        peak = f", with {format_bytes(death.peak_bytes)}" if death.peak_bytes else ""
        return f"the worker at {worker} died {why} while it ran {doing}{peak}"


def _timed_out(task: int, death: Death) -> ErrorInfo:
    job = next(job for job in death.running if job.task == task)
    error = too_long(job.timeout_seconds, job.label, _summaries(death.frames))
    message = f"{error.what}; it did not stop then, so its worker process was ended"
    return ErrorInfo(type(error).__name__, message, error.traceback_text, error.fix, output="\n".join(death.output))


def _no_memory(death: Death, largest: int) -> ErrorInfo:
    peak = f"; it had {format_bytes(death.peak_bytes)}" if death.peak_bytes else ""
    limit = f" of at most {format_bytes(death.limit_bytes)}" if death.limit_bytes else ""
    fix = (
        f"let the stage use less, or give it a larger worker with `memory=` (the largest has {format_bytes(largest)}; "
        "fewer local workers, --parallel N, have more each)"
    )
    return ErrorInfo(
        "OutOfMemory",
        f"the worker process was killed for want of memory{peak}{limit}",
        _where(death),
        fix,
        output="\n".join(death.output),
    )


def _died(death: Death | None, times: int) -> ErrorInfo:
    how = f"; last, {death.how}" if death is not None and death.how else ""
    message = f"the worker process died each time the stage ran, {times} times{how}"
    fix = "run this set alone with --parallel 0 and watch its memory; native code that crashes ends a process so, too"
    if death is None:
        return ErrorInfo("WorkerDied", message, fix=fix)
    return ErrorInfo("WorkerDied", message, _where(death), fix, output="\n".join(death.output))


def _where(death: Death) -> str:
    lines = traceback.StackSummary.from_list(_summaries(death.frames)).format()
    return "Where it was when the process died (most recent call last):\n" + "".join(lines) if lines else ""


def _summaries(frames: Sequence[tuple[str, int, str]]) -> list[traceback.FrameSummary]:
    return [traceback.FrameSummary(file, line, name) for file, line, name in frames]
