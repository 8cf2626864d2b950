"""Where workers come from: context managers that give a connected client and end what they started."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curidask.errors import ClusterError

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
        for nanny in list(getattr(self.cluster, "workers", {}).values()):
            nanny.auto_restart = False
            pid = nanny.pid
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


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
    _refuse_bootstrapping()
    import dask
    from distributed import Client, LocalCluster

    _quiet_dask()
    with dask.config.set(SETTINGS):
        try:
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                preload=["curidask.executors.preload"],
            )
        except Exception as error:
            raise ClusterError(
                f"The {n_workers} local worker processes did not start: {error}",
                fix="try fewer with --parallel N, or run in this process with --parallel 0",
            ) from error
        try:
            with Client(cluster, set_as_default=False) as client:
                yield Connection(client, n_workers, f"{n_workers} local worker processes", cluster)
        finally:
            cluster.close(timeout=4)


def _refuse_bootstrapping() -> None:
    # A started process imports the user's script again; without a guard it would start workers of its own, for ever.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ClusterError(
            "A worker process that is being started imported a script which starts workers itself.",
            fix="put the part of the script that runs stages under `if __name__ == '__main__':`",
        )


def _quiet_dask() -> None:
    # dask reports each lost connection at several places; what the user needs to know of it the executor says once.
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
