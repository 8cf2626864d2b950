"""The values that a process holds for their readers: in memory, and on disk when they take too much of it."""

from __future__ import annotations

import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curidask.execution.copies import Copy
from curidask.execution.process.memory import available_bytes
from curidask.execution.values import Held, OnDisk

LEAST_BYTES = 64 << 20
"""What takes less than that together stays in memory."""

SHARE = 0.5
"""Of the memory that is free for them, with what they take already."""


class HeldValues(Mapping[int, Mapping[int, Any]]):
    """Values by the job that made them and their place among its outputs; the oldest go to disk first."""

    def __init__(self) -> None:
        self._jobs: dict[int, dict[int, Held]] = {}
        self._sizes: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._taken = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __getitem__(self, job: int) -> Mapping[int, Any]:
        return self._jobs[job]

    def __iter__(self) -> Iterator[int]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: int, values: Mapping[int, Held]) -> None:
        """Hold what a job made."""
        self.drop(job)
        self._jobs[job] = dict(values)
        for index, held in values.items():
            if isinstance(held, Copy):
                self._sizes[job, index] = held.size_bytes
                self._taken += held.size_bytes
        self._make_room()

    def drop(self, job: int) -> None:
        """Forget what a job made."""
        for index, held in self._jobs.pop(job, {}).items():
            self._taken -= self._sizes.pop((job, index), 0)
            if isinstance(held, OnDisk):
                Path(held.path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all."""
        self._jobs.clear()
        self._sizes.clear()
        self._taken = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _make_room(self) -> None:
        if self._taken <= LEAST_BYTES:
            return
        allowed = SHARE * (available_bytes() + self._taken)
        while self._taken > allowed:
            (job, index), size = self._sizes.popitem(last=False)
            held = self._jobs[job][index]
            assert isinstance(held, Copy)
            self._jobs[job][index] = self._written(f"{job}-{index}", held)
            self._taken -= size

    def _written(self, name: str, held: Copy) -> OnDisk:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="curidask-values-", ignore_cleanup_errors=True)
        path = f"{self._folder.name}/{name}"
        with open(path, "wb") as file:
            pickle.dump(held, file, protocol=pickle.HIGHEST_PROTOCOL)
        return OnDisk(path)
