"""Tasks whose artifacts somebody else is computing: when to go on with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from curidask.core.graph import Task
from curidask.store.base import Store, without_place
from curidask.store.claims import Claims, Held, Owner

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
LOOKS_A_LEASE = 4
"""At least: what is seen late of an owner's last sign of life, and of its lease's end, must not take another lease."""
PAUSE_GROWTH = 1.3


@dataclass(frozen=True, slots=True)
class Made:
    """The owner has committed the task's artifacts."""

    task: int


@dataclass(frozen=True, slots=True)
class Free:
    """The owner has given up or died; whoever claims first may compute.

    Attributes
    ----------
    supersedes : int
        The generation of the claim whose lease has ended; -1 when it was given up.
    """

    task: int
    supersedes: int = -1


@dataclass(slots=True)
class _Watched:
    task: Task
    held: Held
    seen: bytes
    since: float


class Waiting:
    """Watches the claims of others.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, store: Store, claims: Claims, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._pause = FIRST_PAUSE_SECONDS
        self._next_look = 0.0

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, task: Task, held: Held) -> None:
        """Watch the claim that keeps a task from being computed."""
        self._watched[task.id] = _Watched(task, held, b"", self._clock())
        self._pause = FIRST_PAUSE_SECONDS
        self._next_look = self._clock() + self._pause

    def drop(self, task: int) -> None:
        """Watch it no more."""
        self._watched.pop(task, None)

    @property
    def seconds_left(self) -> float:
        """Until the next look."""
        return max(0.0, self._next_look - self._clock())

    def look(self) -> list[Made | Free]:
        """What has changed; those it is about are watched no more.

        One bulk read of the claims that are waited for. An owner gives its claim up after it has committed, so the
        artifacts themselves are only looked for when a claim is gone.
        """
        asked = {(w.task.marker, w.held.generation) for w in self._watched.values()}
        found = without_place(self._store, self._claims.objects, lambda: self._claims.raw(asked))
        if found is None:  # nobody knows who holds what, so the run goes on without claims
            found = {}
        gone = []
        changes: list[Made | Free] = []
        for watched in self._watched.values():
            data = found.get((watched.task.marker, watched.held.generation))
            if data is None:
                gone.append(watched.task)
            elif self._has_ended(watched, data):
                changes.append(Free(watched.task.id, watched.held.generation))
        changes += self._released(gone)
        for change in changes:
            self.drop(change.task)
        self._pause = min(self._pause * PAUSE_GROWTH, self._longest_pause()) if not changes else FIRST_PAUSE_SECONDS
        self._next_look = self._clock() + self._pause
        return changes

    def _longest_pause(self) -> float:
        lease_seconds = min((watched.held.lease_seconds for watched in self._watched.values()), default=float("inf"))
        return min(LONGEST_PAUSE_SECONDS, lease_seconds / LOOKS_A_LEASE)

    def _released(self, tasks: list[Task]) -> list[Made | Free]:
        present = self._store.present([stem for task in tasks for stem in task.store_stems])
        return [Made(task.id) if present.issuperset(task.store_stems) else Free(task.id) for task in tasks]

    def _has_ended(self, watched: _Watched, data: bytes) -> bool:
        """Whether the owner is dead: it has not renewed its claim for a lease of this clock, or is known to be gone."""
        if data != watched.seen:
            watched.seen, watched.since = data, self._clock()
        holder = Owner.from_bytes(data)
        if holder is not None and self._claims.is_abandoned(holder):
            return True
        return self._clock() - watched.since > watched.held.lease_seconds
