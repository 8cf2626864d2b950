"""Requests to a place in the network: repeated where that helps, in parallel, with one kind of error."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from curidask.errors import CuridaskError
from curidask.store.backends.entries import Entry
from curidask.store.backends.errors import Failure, classify
from curidask.store.backends.options import StorageOptions

# --- how long to go on asking a service that fails for the moment ----------------------------------------------------
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
OUTAGE_SECONDS = 120.0
"""Longer than what is done without for a while (see `curidask.store.tiers`) is left alone: it is then tried once."""


class RetryPolicy:
    """Decides whether to try a request again, and after which pause.

    Pauses are drawn evenly between nothing and a limit that doubles each time ("full jitter"), so that clients which
    failed together do not come back together. Requests go on for `seconds` at most. After an outage has used that up,
    all further requests of the process are tried once only, until one succeeds or none was made for a while: else each
    of them would wait as long.

    Parameters
    ----------
    seconds : float
        How long to go on.
    chance : random.Random, optional
        Where the pauses are drawn from.
    """

    def __init__(self, seconds: float, chance: random.Random | None = None) -> None:
        self.seconds = seconds
        self._chance = chance or random.Random()
        self._out_since: float | None = None

    def pause(self, failure: Failure, attempt: int, started: float) -> float | None:
        """Seconds to wait before the next attempt, None to give up.

        Parameters
        ----------
        attempt : int
            How many attempts have failed before this one.
        started : float
            When the first attempt began, by `time.monotonic`.
        """
        if not failure.transient:
            return None
        now = time.monotonic()
        if self._out_since is not None and now - self._out_since < OUTAGE_SECONDS and failure.is_outage:
            self._out_since = now
            return None
        limit = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 16))
        pause = self._chance.uniform(0, limit)
        if now + pause - started < self.seconds:
            return pause
        if failure.is_outage:
            self._out_since = now
        return None

    def succeeded(self) -> None:
        """The service answers."""
        self._out_since = None

    def expect_outage(self) -> None:
        """Act as if an outage had been waited for in vain: another process has."""
        self._out_since = time.monotonic()


_of_places: dict[tuple[int, str, float], RetryPolicy] = {}


def patience_with(url: str, seconds: float) -> RetryPolicy:
    """The one that all of this process have who make requests to a place."""
    return _of_places.setdefault((os.getpid(), url, seconds), RetryPolicy(seconds))


def expect_outage(url: str) -> None:
    """Let nobody of this process wait for a place that another process, a worker for one, has waited for in vain."""
    for (pid, place, _), patience in list(_of_places.items()):
        if (pid, place) == (os.getpid(), url):
            patience.expect_outage()


# --- requests --------------------------------------------------------------------------------------------------------
T = TypeVar("T")
R = TypeVar("R")

TOKEN = "curidaskcall"
"""Under this name an object keeps the token it was created with."""

Ask = Callable[[Callable[[], Any]], Any]
"""Makes a request, again where that may help."""


class Client(Protocol):
    """The requests of one package to one place. Keys are below the place's root; errors are the package's own.

    Each method makes one request, once, unless it is handed `ask`, through which it makes its requests. A missing
    object is an error of whatever kind that `classify` calls missing.

    Attributes
    ----------
    parallel : int
        How many requests may be made at the same time.
    repeats : bool
        Whether the package repeats requests on its own, so that it cannot be seen that a reply was lost.
    """

    parallel: int
    repeats: bool

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        ...

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        ...

    def size(self, key: str) -> int:
        """Its size in bytes."""
        ...

    def get(self, key: str) -> bytes:
        """Its bytes."""
        ...

    def get_range(self, key: str, start: int, end: int) -> Any:
        """Some of its bytes, as something that has the interface of buffers."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write it in one step."""
        ...

    def create(self, key: str, data: bytes, token: str) -> bool:
        """Write it on the condition that it is not there; False when the place says that it is."""
        ...

    def creator(self, key: str) -> str:
        """The token it was created with; empty where that is not known."""
        ...

    def upload(self, key: str, blocks: Callable[[], Iterator[bytes]], size: int, ask: Ask) -> None:
        """Write a large one from blocks, which can be begun anew."""
        ...

    def delete(self, keys: list[str]) -> None:
        """Remove a thousand at most, passing over those that are not there."""
        ...

    def copy(self, source: Any, source_key: str, key: str) -> bool:
        """Let the service copy an object of another client of this kind; False when it cannot."""
        ...


class RetryingClient:
    """Makes the requests of a client in one process.

    Parameters
    ----------
    url : str
        Where it is, for errors.
    make_other : callable, optional
        Makes another client, which finds a bucket that is not where the first one looks for it; None if there is none.
    """

    def __init__(
        self, client: Client, options: StorageOptions, url: str, make_other: Callable[[], Client | None] = lambda: None
    ) -> None:
        self.client = client
        self.url = url
        self._changing = threading.Lock()
        self._make_other: Callable[[], Client | None] | None = make_other
        self._options = options
        self._patience = patience_with(url, options.retry_seconds)

    def ask(self, action: str, name: str, request: Callable[[], T]) -> T:
        """Make a request, again where that may help.

        Raises
        ------
        CacheError
            That says what could not be done, why, and what to do about it.
        """
        started, attempt = time.monotonic(), 0
        while True:
            client = self.client
            try:
                result = request()
            except CuridaskError:
                raise
            except Exception as error:
                failure = classify(error)
                if failure.is_elsewhere and self._go_elsewhere(client):
                    continue
                pause = self._patience.pause(failure, attempt, started)
                if pause is None:
                    secrets = self._options.secrets()
                    shown = None if any(text in str(error) for text in secrets) else error
                    raise failure.error(action, name, self.url, secrets) from shown
            else:
                self._patience.succeeded()
                return result
            time.sleep(pause)
            attempt += 1

    def _go_elsewhere(self, client: Client) -> bool:
        """Go on with the other client instead of this one; whether there is another."""
        with self._changing:  # of several requests at the same time one is the first to fail
            if self.client is client and self._make_other is not None:
                self.client, self._make_other = self._make_other() or client, None
            return self.client is not client

    def parallel(self, call: Callable[[T], R], items: Iterable[T], window: int = 0) -> Iterator[R]:
        """Results in the order of the items; at most `window` of them wait to be taken (0: any number).

        `call` must not call this itself: it could wait for threads that all wait likewise.
        """
        items = list(items)
        if len(items) < 2 or self.client.parallel < 2:
            yield from map(call, items)
            return
        pool = thread_pool(self.client.parallel)
        pending: list[Future[R]] = []
        try:
            for item in items:
                pending.append(pool.submit(call, item))
                if window and len(pending) >= window:
                    yield pending.pop(0).result()
            pending.reverse()
            while pending:
                yield pending.pop().result()
        finally:
            for future in pending:
                future.cancel()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def thread_pool(workers: int) -> ThreadPoolExecutor:
    """The threads of this process for requests; after a fork those of the parent are not there."""
    key = (os.getpid(), workers)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix="curidask-objects")
    return _pools[key]
