"""What a cluster that is up looks like to the rest, and how dask is set for our runs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from curidask.errors import ClusterError
from curidask.store.interrupts import held_back

SILENT = logging.CRITICAL + 1

SETTINGS = {
    # Measured: dask's default of 1.1 leaves a worker waiting for the scheduler between two short tasks. The run's
    # window bounds memory already, so workers may hold a queue.
    "distributed.scheduler.worker-saturation": 10.0,
    # Looking up the source lines that called dask costs more than a submission itself.
    "distributed.diagnostics.computations.nframes": 0,
    # A stage that needs more than its share of the machine is slow, not forbidden.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.large-graph-warning-threshold": "1GB",
    # Native code that holds the interpreter sends no sign of life. Five minutes, the default, would end stages that
    # work; a dead machine is noticed by its connection (distributed.comm.timeouts.tcp, 30 s), and a stage that hangs
    # by its own timeout. This is the bound for what neither notices.
    "distributed.scheduler.worker-ttl": "1 hour",
    # Measured: these two wake a process 150 times a second, which takes 3 % of a core in each worker and in the driver.
    # The profile can be seen on one page of the dashboard; the ticks are for a warning that is silenced anyway.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster that is up.

    Attributes
    ----------
    n_workers : int
        How many there were when it was opened.
    description : str
        What it is, for the user.
    cluster : distributed.deploy.Cluster or None
        The cluster, where its worker processes are ours to end.
    is_here : bool
        Whether the workers are processes that this one started on its own machine: they have its files, its packages
        and its folder, so nothing needs to be checked or sent.
    wait_seconds : float
        How long a run waits while no worker is there.
    trouble : callable
        What the cluster itself says of workers that do not come, such as a job's error output; empty for nothing.
    warnings : tuple of str
        What the user should know of it.
    """

    client: Any
    n_workers: int
    description: str
    cluster: Any = None
    is_here: bool = False
    wait_seconds: float = 60.0
    trouble: Callable[[], str] = str
    warnings: tuple[str, ...] = ()

    def kill(self) -> None:
        """End the worker processes at once, in the middle of whatever they do, where they run on this machine."""
        if self.is_here:
            kill_workers(nannies_of(self.cluster))


def nannies_of(cluster: Any) -> list[Any]:
    """What watches over the worker processes of a cluster on this machine."""
    return list(getattr(cluster, "workers", {}).values())


def is_scratch(entry: str) -> bool:
    """Whether an entry of ``sys.path`` is one that dask adds: where its workers write, as others may, too."""
    return any(part.startswith("dask-scratch-space") for part in PurePath(entry).parts)


def leave_scratch() -> None:
    """Import nothing from where dask's workers write."""
    sys.path[:] = [entry for entry in sys.path if not is_scratch(entry)]


def kill_workers(nannies: Iterable[Any]) -> None:
    """End worker processes at once, and do not let them be replaced."""
    for nanny in nannies:
        nanny.auto_restart = False
        pid = nanny.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def innermost(error: BaseException) -> str:
    """What is behind an error that dask wrapped, maybe several times."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        current = current.__cause__ or current.__context__
    text = str(seen[-1]) or type(seen[-1]).__name__
    return text if text.endswith(".") else f"{text}."


def counted(n_workers: int) -> str:
    """The number of workers in words."""
    return f"{n_workers} worker{'' if n_workers == 1 else 's'}"


def available_cores() -> int:
    """The cores this process may use (affinity and container limits counted)."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def quiet_dask() -> None:
    """Silence dask's loggers in this process.

    It reports each lost connection at several places; what the user needs to know of it the executor says once. What it
    warns of packages that differ, we check ourselves, for the packages that matter.
    """
    from distributed import versions

    warnings.filterwarnings("ignore", category=versions.VersionMismatchWarning)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(SILENT)  # children have levels of their own


def client_of(cluster: Any) -> Any:
    """A client of a cluster, made to its end whatever the user types.

    Half a client is closed when Python collects it, and then waits for ever for a loop that ended with the cluster.
    """
    from distributed import Client

    made: list[Any] = []
    try:
        with held_back():
            made.append(Client(cluster, set_as_default=False))
    except BaseException:
        for client in made:
            client.close()
        raise
    return made[0]


# --- waiting for workers, with an end, and with what the cluster says of those that do not come ----------------------
logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TELL_SECONDS = 30.0
"""How often the user is told that the wait goes on."""


class Trouble(Protocol):
    """What a kind of cluster knows of workers that do not come."""

    def words(self) -> str:
        """What it says, such as the state and the error output of jobs; empty for nothing."""
        ...

    def is_final(self) -> bool:
        """Whether no worker can come any more."""
        ...


class NoWord:
    """A cluster that says nothing."""

    def words(self) -> str:
        """Nothing."""
        return ""

    def is_final(self) -> bool:
        """Never: who knows."""
        return False


def wait_for_worker(client: Any, wait_seconds: float, *, what: str, trouble: Trouble, fix: str) -> int:
    """Return how many workers there are, as soon as there is one.

    Parameters
    ----------
    what : str
        The cluster, for messages.
    fix : str
        What to do about workers that do not come.

    Raises
    ------
    ClusterError
        After `wait_seconds`, or when the cluster says that none can come; with what it says.
    """
    started = told = time.monotonic()
    while True:
        n_workers = _count(client)
        if n_workers:
            return n_workers
        now = time.monotonic()
        final = trouble.is_final()
        if final or now - started > wait_seconds:
            after = "started" if final else f"came within {wait_seconds:g} s"
            words = trouble.words()
            raise ClusterError(f"No worker of {what} {after}.{_indented(words)}", where=what, fix=fix)
        if now - told > TELL_SECONDS:
            told = now
            logger.warning("waiting for workers of %s%s", what, _indented(trouble.words()))
        _pause(client)


def _count(client: Any) -> int:
    try:
        return len(client.nthreads())
    except OSError:  # it is connecting again
        return 0


def _pause(client: Any) -> None:
    started = time.monotonic()
    try:
        client.wait_for_workers(1, timeout=LOOK_SECONDS)
    except OSError:  # a timeout is one too
        time.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - started)))


def _indented(words: str) -> str:
    return "".join(f"\n    {line}" for line in words.splitlines())
