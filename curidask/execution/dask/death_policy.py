"""What becomes of jobs whose worker died: of those that ran there, of those that were queued, of what waits for them.

dask blames a death on all that was queued on the worker, and passes the blame on to what waits for those. `Deaths`
judges each; here the judgements are carried out, and what nobody can tell is found out by trying suspects alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from curidask.execution.base import ErrorInfo, Kind, Outcome
from curidask.execution.dask.chains import Bereaved, Chain, undone
from curidask.execution.dask.in_flight import UnderWay
from curidask.execution.dask.worker_deaths import AGAIN, Deaths, Verdict, What
from curidask.execution.process.postmortem import Death
from curidask.store.base import Store


class Aftermath:
    """Decides on chains that dask could not bring to an end.

    Parameters
    ----------
    run : str
        Whose jobs are ours.
    deaths : Deaths
    under_way : UnderWay
    send_again : callable
        Sends chains again.
    store : Store
    guilty : set of int
        The tasks that failed so, and those behind them in their chains; added to here.
    """

    def __init__(
        self,
        run: str,
        deaths: Deaths,
        under_way: UnderWay,
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
        self._bereaved: list[Bereaved] = []
        self._suspects: list[Chain] = []
        self._on_trial: Chain | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is still to be found out why a worker died."""
        return bool(self._bereaved) or self._deaths.is_waiting()

    def bereave(self, chain: Chain, worker: str, *, was_there: bool) -> None:
        """Take in that dask gave up a chain since a worker died; see `Bereaved`."""
        self._bereaved.append(Bereaved(chain, chain.key, worker, was_there))

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
        left: list[Bereaved] = []
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

    def _verdict(self, lost: Bereaved) -> Verdict | None:
        if not lost.was_there:
            return AGAIN
        waited = time.monotonic() - lost.since
        return self._deaths.judge(lost.chain.tasks, lost.worker, waited, was_alone=lost.chain.was_tried)

    def _carry_out(
        self, verdict: Verdict | None, lost: Bereaved, again: list[Chain], left: list[Bereaved]
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
