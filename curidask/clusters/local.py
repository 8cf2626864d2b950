"""Worker processes on this machine, which nothing beyond it can reach."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from multiprocessing import forkserver, resource_tracker, spawn, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curidask.clusters.base import (
    SETTINGS,
    SILENT,
    Connection,
    available_cores,
    client_of,
    innermost,
    is_scratch,
    kill_workers,
    leave_scratch,
    nannies_of,
    quiet_dask,
)
from curidask.clusters.fork_server import ENVIRONMENT, METHOD, SERVER, environment, replaced, why_none_starts
from curidask.clusters.kinds import ClusterKind
from curidask.clusters.settings import ClusterSettings
from curidask.clusters.tls import security_of_a_run
from curidask.errors import ClusterError, ConfigurationError
from curidask.execution.process import crash_record
from curidask.store.backends.errors import SET_ANOTHER

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
    "preload": ["curidask.execution.dask.preload"],
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


def begin_to_start(project_path: Sequence[str]) -> None:
    """Start what workers will be forked from; it imports dask while this process does."""
    if METHOD == "forkserver":
        # What is wrong is told when it is tried again for the first worker.
        with contextlib.suppress(OSError), _hidden_project(tuple(project_path)):
            SERVER.ensure_running()


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
        The entries of ``sys.path`` that the workers start without, see `curidask.execution.project.importer`.

    Raises
    ------
    ConfigurationError
        When an option cannot be used.
    ClusterError
        When the workers do not start.
    """
    import dask

    _check_forked()
    quiet_dask()
    scratch = _scratch()
    places = {
        "protocol": "tls://",
        "security": security_of_a_run(),
        "local_directory": str(scratch),
        "scheduler_kwargs": {"local_directory": str(scratch)},
    }
    # Dask's own value, which wins over a variable that the user has set unless it is said here.
    seed = {"distributed.nanny.pre-spawn-environ.PYTHONHASHSEED": ENVIRONMENT["PYTHONHASHSEED"]}
    with _removed(scratch), SERVER.used(), _one_fork_server(), dask.config.set(SETTINGS | seed):
        made: list[Any] = []
        try:
            cluster = _cluster_class()(
                made,
                n_workers=n_workers,
                **FIXED,
                worker_class=_nanny_class(tuple(project_path)),
                **{**places, **(options or {})},
            )
        except Exception as error:
            said = why_none_starts()
            raise ClusterError(
                f"The {n_workers} local worker processes did not start: {innermost(error)}{said and f' {said}.'}",
                fix="try fewer with --parallel N, or run in this process with --parallel 0",
            ) from error
        except BaseException:
            _abandon(made)
            raise
        leave_scratch()
        try:
            with client_of(cluster) as client:
                yield Connection(client, n_workers, f"{n_workers} local worker processes", cluster, is_here=True)
        finally:
            _end(cluster)


def _one_fork_server() -> contextlib.AbstractContextManager[None]:
    """Ours: else dask imports all that it could use, pandas among it, into this process, for one of its own."""
    import distributed.utils

    name = "_forkserver_preload_set"
    return replaced(distributed.utils, name, True) if hasattr(distributed.utils, name) else contextlib.nullcontext()


_used_in = 0


def _check_forked() -> None:
    """Refuse to start workers where dask would wait for ever: its threads are no forked child's."""
    global _used_in  # noqa: PLW0603  # from now on there are such threads in this process
    if _used_in not in (0, os.getpid()):
        raise ClusterError(
            "This process was forked from one that has used worker processes, so it cannot start any.",
            where=f"process {os.getpid()}",
            fix="start it by multiprocessing.get_context('spawn'), or use parallel=0 in it",
        )
    _used_in = os.getpid()


def _scratch() -> Path:
    """Where workers put values that do not fit into memory; dask's own place could be somebody else's."""
    import dask

    within = dask.config.get("temporary-directory") or tempfile.gettempdir()
    try:
        os.makedirs(within, exist_ok=True)
        return crash_record.own_folder(f"cluster {uuid.uuid4()}", within)
    except OSError as error:
        raise ClusterError(
            f"Worker processes have no place for what they keep on disk: {error.strerror or error}.",
            where=within,
            fix=SET_ANOTHER,
        ) from error


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
    _remove_flights(nannies)


def _abandon(made: Iterable[Any]) -> None:
    """Leave clusters that were interrupted while they came up, which they would have to do before they could end."""
    for cluster in made:
        nannies = list(getattr(cluster, "_created", ()))
        kill_workers(nannies)
        _remove_flights(nannies)
        cluster.shutdown_on_close = False


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_flights(nannies: Iterable[Any]) -> None:
    """Remove what worker processes wrote down that had no time to do so."""
    for nanny in nannies:
        with contextlib.suppress(ValueError):  # it has no address yet
            shutil.rmtree(crash_record.folder_of(nanny.address), ignore_errors=True)


def _kill(processes: list[psutil.Process]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _processes_of(nannies: list[Any]) -> list[psutil.Process]:
    """The worker processes and what their stages have started, as something that a reused number does not deceive."""
    import psutil

    workers = {nanny.pid for nanny in nannies}
    found: dict[int, psutil.Process] = {}
    for process in psutil.Process().children(recursive=True):  # each after its parent
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid in workers or process.ppid() in found:
                found[process.pid] = process
    return list(found.values())


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
            with _hidden_project(project_path):
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
_shown_again = contextlib.ExitStack()


@contextlib.contextmanager
def _hidden_project(project_path: tuple[str, ...]) -> Iterator[None]:
    """Let started processes know nothing of the project; several nannies may start some at once, in one thread."""
    global _hiding  # noqa: PLW0603  # a count that the nannies of this process share
    if not _hiding:
        _hide(project_path, _shown_again)
    _hiding += 1
    try:
        yield
    finally:
        _hiding -= 1
        if not _hiding:
            _shown_again.close()


def _hide(project_path: tuple[str, ...], shown_again: contextlib.ExitStack) -> None:
    import dask

    main: dict[str, Any] = vars(sys.modules["__main__"])
    shown: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    shown_again.callback(main.update, shown)
    main["__spec__"] = None
    for module, name, value in (
        (spawn, "get_preparation_data", functools.partial(_preparation_data, project_path)),
        (util, "_args_from_interpreter_flags", _flags),
        (forkserver, "connect_to_new_process", SERVER.connect_to_new_process),
    ):
        shown_again.enter_context(replaced(module, name, value))
    shown_again.enter_context(environment())
    # Not as long as the cluster is there: one that is interrupted may start more workers when it is left already.
    shown_again.enter_context(dask.config.set({"distributed.worker.multiprocessing-method": METHOD}))


_usual = (spawn.get_preparation_data, util._args_from_interpreter_flags)  # type: ignore[attr-defined]  # not in stubs


def _preparation_data(project_path: tuple[str, ...], name: str) -> dict[str, Any]:
    data: dict[str, Any] = _usual[0](name)
    data["sys_path"] = [
        entry for entry in data["sys_path"] if entry and entry not in project_path and not is_scratch(entry)
    ]
    return data


def _flags() -> list[str]:
    """The flags with ``-P``: without it Python, and its tracker of resources, looks into the current folder first."""
    return [*_usual[1](), "-P"]


class _Local(ClusterKind):
    wait_seconds = 60.0

    def opener(self, settings: ClusterSettings, folder: Path) -> Callable[[], AbstractContextManager[Connection]]:
        check_options(settings.options, settings.where)
        return functools.partial(local, settings.maximum or settings.n_workers or available_cores(), settings.options)


KIND = _Local()
