"""Who may use a process that others use as well: the jobs of one code at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets the jobs of one code at a time into a process, in the order in which they come.

    A process has one set of modules and one current folder. With one thread a worker nobody ever waits; a scheduler
    that others set up may have workers with more threads, and drivers that use them at the same time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._code_id = ""
        self._n_inside = 0

    @contextmanager
    def passed(self, code_id: str) -> Iterator[None]:
        """Wait for the turn of a job of this code, and hold the turn while it runs."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            # Race: A's jobs keep coming while B's waits. Since B's stands before the later ones of A, it gets its turn.
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._admits(code_id))
            self._queue.popleft()
            self._code_id = code_id
            self._n_inside += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                self._changed.notify_all()

    def _admits(self, code_id: str) -> bool:
        return not self._n_inside or self._code_id == code_id
