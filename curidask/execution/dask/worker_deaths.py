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

from curidask.core.spec import format_bytes
from curidask.execution.base import ErrorInfo, Kind, Outcome
from curidask.execution.dask.chains import Chain, InFlight, LostChain, undone
from curidask.execution.process import postmortem
from curidask.execution.process.postmortem import Death
from curidask.execution.stage_call import too_long
from curidask.store.base import Store

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


# --- what becomes of jobs whose worker died --------------------------------------------------------------------------
# Of those that ran there, of those that were queued, of what waits for them.
#
# dask blames a death on all that was queued on the worker, and passes the blame on to what waits for those. `Deaths`
# judges each; here the judgements are carried out, and what nobody can tell is found out by trying suspects alone.


class DeathPolicy:
    """Decides on chains that dask could not bring to an end.

    Parameters
    ----------
    run : str
        Whose jobs are ours.
    send_again : callable
        Sends chains again.
    guilty : set of int
        The tasks that failed so, and those behind them in their chains; added to here.
    """

    def __init__(
        self,
        run: str,
        deaths: Deaths,
        under_way: InFlight,
        send_again: Callable[[Sequence[Chain]], None],
        store: Store,
        guilty: set[int],
    ) -> None:
        self._run = run
        self._deaths = deaths
        self._under_way = under_way
        self._send_again = send_again
        self._store = store
        self._guilty = guilty
        self._bereaved: list[LostChain] = []
        self._suspects: list[Chain] = []
        self._on_trial: Chain | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is still to be found out why a worker died."""
        return bool(self._bereaved) or self._deaths.is_waiting()

    def bereave(self, chain: Chain, worker: str, *, was_there: bool) -> None:
        """Take in that dask gave up a chain since a worker died; see `LostChain`."""
        self._bereaved.append(LostChain(chain, chain.key, worker, was_there))

    def end_trial(self, chain: Chain) -> None:
        """Take in that a chain has ended, in whatever way: if it was tried alone, the next may be."""
        if chain is self._on_trial:
            self._on_trial = None

    def failed(self, chain: Chain, guilty: int, info: ErrorInfo, death: Death | None = None) -> list[Outcome]:
        """The outcomes of a chain one of whose jobs has failed."""
        self._under_way.settle(chain, keep=False)
        self._guilty.update(task for task in chain.tasks if task >= guilty)
        kinds = {task: Kind.FOUND if task < guilty else Kind.INPUT_UNAVAILABLE for task in chain.tasks}
        worker, peak = (death.worker, death.peak_bytes) if death is not None else ("", 0)
        failed = Outcome(guilty, Kind.FAILED, worker=worker, error=info, peak_bytes=peak)
        return [failed if task == guilty else Outcome(task, kind) for task, kind in kinds.items()]

    def _first_undone(self, chain: Chain) -> int:
        """The job of a chain that was running when its worker died: the first whose outputs are not in the store."""
        for job in chain.jobs[:-1]:
            stems = {output.stem for output in job.outputs}
            if not stems or "" in stems or self._store.present(stems) != stems:
                return job.id
            if not job.reusable and any(m.run != job.record.run for m in self._store.manifests(stems).values()):
                return job.id  # that is what it was to take the place of
        return chain.tasks[-1]

    def decide(self) -> list[Outcome]:
        """Decide on what was running or queued where a worker died, in the order of the graph.

        dask blames a death on all that was queued on the worker, and passes the blame on to what waits for those. So
        each waits for the word on those before it: what runs again is sent behind what it waits for.
        """
        outcomes = [outcome for death in self._deaths.take() for outcome in self._at_once(death)]
        again: list[Chain] = []
        left: list[LostChain] = []
        for lost in sorted(self._bereaved, key=lambda lost: lost.chain.tasks[0]):
            chain = lost.chain
            if chain.key != lost.key or not self._under_way.is_known(chain):
                continue  # decided meanwhile
            if gone := self._under_way.gone_values(chain):
                outcomes += self._without_values(chain, gone)
            elif any(self._under_way.is_blamed(task, besides=again) for task in chain.before):
                left.append(lost)
            elif self._guilty.intersection(chain.before):
                outcomes += self._under_way.give_back(chain)
            else:
                outcomes += self._carry_out(self._verdict(lost), lost, again, left)
        self._bereaved = left
        self._send_again(again)
        return outcomes + self._try_suspects()

    def _without_values(self, chain: Chain, gone: Sequence[int]) -> list[Outcome]:
        """Give back a chain whose values in memory are gone: nothing more will be heard of the jobs that made them."""
        self._under_way.settle(chain, keep=False)
        self._under_way.forget([task for lost in gone for task in self._under_way.chains[lost].tasks])
        return [undone(job, gone) for job in chain.jobs]

    def _verdict(self, lost: LostChain) -> Verdict | None:
        if not lost.was_there:
            return AGAIN
        waited = time.monotonic() - lost.since
        return self._deaths.judge(lost.chain.tasks, lost.worker, waited, was_alone=lost.chain.was_tried)

    def _carry_out(
        self, verdict: Verdict | None, lost: LostChain, again: list[Chain], left: list[LostChain]
    ) -> list[Outcome]:
        chain = lost.chain
        if verdict is None:
            left.append(lost)
        elif verdict.what is What.FAILED:
            guilty = verdict.task if verdict.task >= 0 else self._first_undone(chain)
            assert verdict.error is not None
            return self.failed(chain, guilty, verdict.error, verdict.death)
        elif verdict.what is What.ALONE:
            self._suspects.append(chain)
        else:
            chain.memory_bytes = max(chain.memory_bytes, verdict.memory_bytes)
            again.append(chain)
        return []

    def _at_once(self, death: Death) -> list[Outcome]:
        """Act on a death before dask gives up; a scheduler that others started runs what died elsewhere, several times.

        It would hang or die there too. So it is taken back; what is running there by now runs on, unheard.
        """
        outcomes = []
        for job in death.running:
            chain = self._under_way.chains.get(job.task)
            if job.session != self._run or chain is None or chain.has_ended:
                continue
            verdict = self._deaths.of_guilty(job.task, death)
            if verdict.what is What.FAILED and verdict.error is not None:
                outcomes += self.failed(chain, job.task, verdict.error, death) + self._taken_back(chain)
            elif verdict.what is What.MORE_MEMORY:
                chain.memory_bytes = verdict.memory_bytes
                outcomes += self._taken_back(chain)
                self._send_again([chain])
        return outcomes

    def _taken_back(self, chain: Chain) -> list[Outcome]:
        """Take a chain back, and all that waits for it, since that was sent behind a key which is no more."""
        waiting = self._under_way.waiting_for(chain)
        outcomes = [outcome for other in waiting for outcome in self._under_way.give_back(other)]
        for other in [*reversed(waiting), chain]:
            other.take_back()
        return outcomes

    def _try_suspects(self) -> list[Outcome]:
        """Send the chains again whose worker died too often for a reason that nobody knows, one at a time.

        Alone it shows who kills workers. In the order of the graph, so what one waits for is cleared or guilty by then.
        """
        outcomes: list[Outcome] = []
        self._suspects.sort(key=lambda chain: chain.tasks[0])
        while self._suspects and self._on_trial is None:
            chain = self._suspects[0]
            if gone := self._under_way.gone_values(chain):
                del self._suspects[0]
                outcomes += self._without_values(chain, gone)
                continue
            if any(self._under_way.is_blamed(task) for task in chain.before):
                break  # dask's word about that one is still on its way
            del self._suspects[0]
            if self._guilty.intersection(chain.before):
                outcomes += self._under_way.give_back(chain)
                continue
            chain.was_tried = True
            self._on_trial = chain
            self._send_again([chain])
        return outcomes
