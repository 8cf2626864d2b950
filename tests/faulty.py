"""Places for objects that misbehave on purpose, or keep count; each passes the real work on to another place."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from curidask.errors import CacheError
from curidask.store.backends.base import Entry, ObjectStore, Stored

T = TypeVar("T")


class WrappedObjects:
    """Passes every operation on through `_do`, which a subclass may change."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    def _do(self, operation: str, action: Callable[[], T]) -> T:
        return action()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def local_root(self) -> Path | None:
        return self.inner.local_root

    @property
    def shared(self) -> bool:
        return self.inner.shared

    def list(self, prefix: str = "") -> list[str]:
        return self._do("list", lambda: self.inner.list(prefix))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return iter(self._do("list", lambda: [*self.inner.entries(prefix)]))

    def tag_of(self, name: str, data: bytes) -> str:
        return self.inner.tag_of(name, data)

    def exists(self, names: Iterable[str]) -> set[str]:
        names = [*names]
        return self._do("exists", lambda: self.inner.exists(names))

    def read(self, name: str) -> bytes:
        return self._do("read", lambda: self.inner.read(name))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        names = [*names]
        return self._do("read_many", lambda: self.inner.read_many(names))

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        operation = "create" if exclusive else "write"
        return self._do(operation, lambda: self.inner.write(name, data, exclusive=exclusive))

    def probe_exclusive(self) -> bool:
        return self._do("probe", lambda: self.inner.probe_exclusive())

    def adopt(self, local: str | Path, name: str) -> None:
        self._do("adopt", lambda: self.inner.adopt(local, name))

    def adopt_many(self, moves: Mapping[str, str | Path]) -> dict[str, Stored]:
        return self._do("adopt", lambda: self.inner.adopt_many(moves))

    def fetch(self, name: str, target: str | Path, size_bytes: int | None = None) -> Stored:
        return self._do("fetch", lambda: self.inner.fetch(name, target, size_bytes))

    def fetch_many(self, targets: Mapping[str, str | Path], sizes: Mapping[str, int]) -> dict[str, Stored]:
        return self._do("fetch", lambda: self.inner.fetch_many(targets, sizes))

    def copy_from(self, other: Any, names: Iterable[str]) -> None:
        names = [*names]
        self._do("copy", lambda: self.inner.copy_from(other, names))

    def remove(self, names: Iterable[str]) -> None:
        names = [*names]
        self._do("remove", lambda: self.inner.remove(names))

    def lock(self, name: str = "") -> AbstractContextManager[None]:
        return self.inner.lock(name)

    def check_writable(self) -> None:
        self._do("check", lambda: self.inner.check_writable())


class CountingObjects(WrappedObjects):
    """Counts the operations; `inner` may itself use more requests for one."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()

    def _do(self, operation: str, action: Callable[[], T]) -> T:
        self.counts[operation] += 1
        return super()._do(operation, action)


class FaultyObjects(WrappedObjects):
    """Fails by chance, the same way for the same seed and sequence of operations.

    Parameters
    ----------
    inner : ObjectStore
    seed : int
    errors : float
        Share of operations that fail before anything happens.
    lost_replies : float
        Share of operations that happen and then fail.
    damage : float
        Share of readings that give fewer or other bytes than are stored.
    latency_seconds : float
        What an operation waits at most, evenly drawn.
    only : collection of str, optional
        The operations this is limited to.
    """

    def __init__(
        self,
        inner: ObjectStore,
        seed: int,
        *,
        errors: float = 0.0,
        lost_replies: float = 0.0,
        damage: float = 0.0,
        latency_seconds: float = 0.0,
        only: Iterable[str] | None = None,
    ) -> None:
        super().__init__(inner)
        self.errors = errors
        self.lost_replies = lost_replies
        self.damage = damage
        self.latency_seconds = latency_seconds
        self.only = frozenset(only) if only is not None else None
        self.injected: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def _draw(self) -> float:
        with self._lock:
            return self._chance.random()

    def _do(self, operation: str, action: Callable[[], T]) -> T:
        if self.only is not None and operation not in self.only:
            return action()
        if self.latency_seconds:
            time.sleep(self._draw() * self.latency_seconds)
        if self._draw() < self.errors:
            self._fail("error", operation)
        result = action()
        if self._draw() < self.lost_replies:
            self._fail("lost reply", operation)
        return result

    def _fail(self, how: str, operation: str) -> None:
        self.injected[how] += 1
        raise CacheError(f"Injected: {how} of {operation}.", where=self.url, fix="try again")

    def read(self, name: str) -> bytes:
        return self._damaged(super().read(name))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self._damaged(data) for name, data in super().read_many(names).items()}

    def fetch_many(self, targets: Mapping[str, str | Path], sizes: Mapping[str, int]) -> dict[str, Stored]:
        stored = super().fetch_many(targets, sizes)
        for name, target in targets.items():
            data = Path(target).read_bytes()
            damaged = self._damaged(data)
            if damaged != data:
                Path(target).write_bytes(damaged)
                stored[name] = Stored(len(damaged), "0" * 64)
        return stored

    def _damaged(self, data: bytes) -> bytes:
        if not data or self._draw() >= self.damage:
            return data
        self.injected["damage"] += 1
        place = int(self._draw() * len(data))
        if self._draw() < 0.5:
            return data[:place]
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
