"""Worker processes on this machine, which nothing beyond it can reach."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker, spawn
from typing import TYPE_CHECKING, Any

from curidask.clusters.base import SETTINGS, SILENT, Connection, kill_workers, nannies_of, quiet_dask
from curidask.clusters.certificates import security_of_a_run
from curidask.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    import psutil

CLOSE_SECONDS = 4.0
START_ATTEMPTS = 3

FIXED: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": SILENT,
    "preload": ["curidask.executors.preload"],
}
"""What is not for the user to choose: one thread a process, loopback only."""


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Refuse options that would change what local workers are.

    Raises
    ------
    ConfigurationError
    """
    for key in options:
        if key in FIXED or key == "worker_class":
            raise ConfigurationError(
                f"The option {key!r} cannot be set for local workers.",
                where=where,
                fix="leave it out, or use kind = 'distributed:LocalCluster' with options of your own",
            )


@contextlib.contextmanager
def local(
    n_workers: int, options: Mapping[str, Any] | None = None, project_path: Sequence[str] = ()
) -> Iterator[Connection]:
    """Start worker processes on this machine, one thread each, which nobody else on it can talk to.

    Whoever reaches a dask scheduler can run code on its workers, and on loopback that is every user of the machine. So
    all sides show a certificate that exists in their memory only.

    Parameters
    ----------
    n_workers : int
        At least 1.
    options : mapping, optional
        More arguments for `distributed.LocalCluster`.
    project_path : sequence of str
        The entries of ``sys.path`` that the workers start without, see `curidask.executors.project_imports`.

    Raises
    ------
    ConfigurationError
        When an option cannot be used.
    ClusterError
        When the workers do not start.
    """
    import dask
    from distributed import Client

    quiet_dask()
    with dask.config.set(SETTINGS):
        made: list[Any] = []
        try:
            cluster = _cluster_class()(
                made,
                n_workers=n_workers,
                **FIXED,
                worker_class=_nanny_class(tuple(project_path)),
                **{"protocol": "tls://", "security": security_of_a_run(), **(options or {})},
            )
        except Exception as error:
            raise ClusterError(
                f"The {n_workers} local worker processes did not start: {error}",
                fix="try fewer with --parallel N, or run in this process with --parallel 0",
            ) from error
        except BaseException:
            _abandon(made)
            raise
        try:
            with Client(cluster, set_as_default=False) as client:
                yield Connection(client, n_workers, f"{n_workers} local worker processes", cluster, is_here=True)
        finally:
            _end(cluster)


def _end(cluster: Any) -> None:
    """End a cluster; where the machine is so busy that its workers do not end in time, kill them.

    The run is over by then, so this is no failure of it.
    """
    nannies = nannies_of(cluster)  # before: it forgets them as soon as it is told to end
    processes = _processes_of(nannies)
    try:
        cluster.close(timeout=CLOSE_SECONDS)
    except TimeoutError:
        kill_workers(nannies)
        cluster.shutdown_on_close = False  # or dask would wait for it once more when the process ends
    _kill(processes)  # a nanny that was interrupted while it ended its worker does not know it any more


def _abandon(made: Iterable[Any]) -> None:
    """Leave clusters that were interrupted while they came up, which they would have to do before they could end."""
    for cluster in made:
        kill_workers(list(getattr(cluster, "_created", ())))
        cluster.shutdown_on_close = False


def _kill(processes: list[psutil.Process]) -> None:
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


@functools.cache
def _cluster_class() -> type[Any]:
    """A cluster that is known to whoever starts it, also when that is interrupted."""
    from distributed import LocalCluster

    class KnownCluster(LocalCluster):  # type: ignore[misc]  # distributed has no types
        def __init__(self, made: list[Any], **options: Any) -> None:
            made.append(self)
            super().__init__(**options)

    return KnownCluster


@functools.cache
def _nanny_class(project_path: tuple[str, ...]) -> type[Any]:
    """A nanny whose worker process imports neither the user's script nor a file of the project while it starts.

    A started process would import the script as ``__main__``, which starts workers again when it has no guard. And a
    ``queue.py`` of the project would become what dask imports. Workers get the project's code with the first job.

    A worker that dies while it starts is started once more, as one that dies later.
    """
    from distributed import Nanny, Status

    class ProjectlessNanny(Nanny):  # type: ignore[misc]  # distributed has no types
        async def instantiate(self) -> Any:
            # A terminal sends Ctrl-C to workers too. Until they say that they do not mind, they have it blocked, as
            # what a thread starts has what it blocks. This is dask's thread; Python takes signals in the main one.
            resource_tracker.ensure_running()  # or starting it would unblock the signal again
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            status = Status.failed
            for _ in range(START_ATTEMPTS):
                with _hidden_project(project_path):
                    status = await super().instantiate()
                if status == Status.running or self.status in (Status.closing, Status.closed):
                    break
                self.process = None
            return status

    return ProjectlessNanny


_hiding = 0
_hidden: dict[str, Any] = {}


@contextlib.contextmanager
def _hidden_project(project_path: tuple[str, ...]) -> Iterator[None]:
    """Let started processes know nothing of the project; several nannies may start some at once, in one thread."""
    global _hiding  # noqa: PLW0603  # a count that the nannies of this process share
    main = vars(sys.modules["__main__"])
    if not _hiding:
        _hidden.update({name: main.pop(name) for name in ("__file__", "__spec__") if name in main})
        main["__spec__"] = None
        spawn.get_preparation_data = functools.partial(_preparation_data, project_path)
        spawn.get_command_line = _command_line
    _hiding += 1
    try:
        yield
    finally:
        _hiding -= 1
        if not _hiding:
            main.update(_hidden)
            _hidden.clear()
            spawn.get_preparation_data, spawn.get_command_line = _usual


_usual = (spawn.get_preparation_data, spawn.get_command_line)


def _preparation_data(project_path: tuple[str, ...], name: str) -> dict[str, Any]:
    data: dict[str, Any] = _usual[0](name)
    data["sys_path"] = [entry for entry in data["sys_path"] if entry and entry not in project_path]
    return data


def _command_line(**arguments: Any) -> list[str]:
    """The command with ``-P``, without which Python looks into the current folder first."""
    command: list[str] = _usual[1](**arguments)
    return [command[0], "-P", *command[1:]]
