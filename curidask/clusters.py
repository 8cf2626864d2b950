"""Where workers come from: context managers that give a connected client and end what they started."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curidask.errors import ClusterError

if TYPE_CHECKING:
    import psutil

SILENT = logging.CRITICAL + 1
CLOSE_SECONDS = 4.0

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
}


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster that is up.

    Attributes
    ----------
    client : distributed.Client
    n_workers : int
    description : str
        What it is, for the user.
    cluster : distributed.LocalCluster or None
        The cluster, where its worker processes are ours to end.
    """

    client: Any
    n_workers: int
    description: str
    cluster: Any = None

    def kill(self) -> None:
        """End the worker processes at once, in the middle of whatever they do."""
        _kill(_nannies(self.cluster))


def available_cores() -> int:
    """The cores this process may use (affinity and container limits counted)."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


@contextlib.contextmanager
def local(n_workers: int) -> Iterator[Connection]:
    """Start worker processes on this machine, one thread each, reachable from this machine only.

    Parameters
    ----------
    n_workers : int
        At least 1.

    Raises
    ------
    ClusterError
        When the workers do not start.
    """
    import dask
    from distributed import Client, LocalCluster

    quiet_dask()
    with dask.config.set(SETTINGS):
        try:
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=SILENT,
                worker_class=_nanny_class(),
                preload=["curidask.executors.preload"],
            )
        except Exception as error:
            raise ClusterError(
                f"The {n_workers} local worker processes did not start: {error}",
                fix="try fewer with --parallel N, or run in this process with --parallel 0",
            ) from error
        try:
            with Client(cluster, set_as_default=False) as client:
                client.forward_logging(level=logging.INFO)  # what stages log shows here, before they are heard to end
                yield Connection(client, n_workers, f"{n_workers} local worker processes", cluster)
        finally:
            _end(cluster)


def _end(cluster: Any) -> None:
    """End a cluster; where the machine is so busy that its workers do not end in time, kill them.

    The run is over by then, so this is no failure of it.
    """
    nannies = _nannies(cluster)  # before: it forgets them as soon as it is told to end
    processes = _processes_of(nannies)
    try:
        cluster.close(timeout=CLOSE_SECONDS)
    except TimeoutError:
        _kill(nannies)
        cluster.shutdown_on_close = False  # or dask would wait for it once more when the process ends
    _end_processes(processes)  # a nanny that was interrupted while it ended its worker does not know it any more


def _end_processes(processes: list[psutil.Process]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _processes_of(nannies: list[Any]) -> list[psutil.Process]:
    """The worker processes, as something that never takes another process of the same number for one of them."""
    import psutil

    found = []
    for nanny in nannies:
        with contextlib.suppress(psutil.NoSuchProcess):
            if nanny.pid:
                found.append(psutil.Process(nanny.pid))
    return found


def _nannies(cluster: Any) -> list[Any]:
    return list(getattr(cluster, "workers", {}).values())


def _kill(nannies: list[Any]) -> None:
    for nanny in nannies:
        nanny.auto_restart = False
        pid = nanny.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@functools.cache
def _nanny_class() -> type[Any]:
    """A nanny whose worker process does not import the user's script.

    A started process would import it as ``__main__``, which starts workers again when the script has no guard; and
    workers need nothing of it, since code goes to them by value.
    """
    from distributed import Nanny

    class ScriptlessNanny(Nanny):  # type: ignore[misc]  # distributed has no types
        async def instantiate(self) -> Any:
            with _hidden_script():
                return await super().instantiate()

    return ScriptlessNanny


_hiding = 0
_hidden: dict[str, Any] = {}


@contextlib.contextmanager
def _hidden_script() -> Iterator[None]:
    """Hide where ``__main__`` came from while processes start; several nannies may do so at once, in one thread."""
    global _hiding  # noqa: PLW0603  # a count that the nannies of this process share
    main = vars(sys.modules["__main__"])
    if not _hiding:
        _hidden.update({name: main.pop(name) for name in ("__file__", "__spec__") if name in main})
        main["__spec__"] = None
    _hiding += 1
    try:
        yield
    finally:
        _hiding -= 1
        if not _hiding:
            main.update(_hidden)
            _hidden.clear()


def quiet_dask() -> None:
    """Silence dask's loggers in this process.

    It reports each lost connection at several places; what the user needs to know of it the executor says once.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(SILENT)  # children have levels of their own
