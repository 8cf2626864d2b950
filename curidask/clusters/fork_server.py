"""The process that local workers are forked from: what all of them import is imported once, while the driver does too.

A worker that starts from nothing takes half a second of a core to import dask. Python has a means against that, the
*fork server* of multiprocessing: a process with one thread. Ours is not the one that Python shares, which belongs to
whoever uses multiprocessing in this process, and it ends with its workers.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker, spawn
from typing import Any

from curidask.execution.process import crash_record

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""What dask calls it. Libraries of other systems may not survive a fork, so each worker starts from nothing there."""

PRELOADED = (
    "distributed.nanny",
    "curidask.execution.dask.plugins",
    "curidask.execution.dask.preload",
    "curidask.execution.dask.code_shipping",
    "curidask.execution.task_runner",
)
"""What workers import before their first job. Nothing of it may start a thread."""


ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": 65536,
    "MKL_NUM_THREADS": 1,
    "OMP_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
    "PYTHONHASHSEED": 6640,
}
"""What dask has unless it is configured; it says so itself only once all of it is imported, which is too late."""


ASKING_SECONDS = 30.0
MOST_SAID = 300
"""Characters of what an interpreter said."""


class ForkServer(forkserver.ForkServer):
    """A fork server that is there as long as somebody uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.set_forkserver_preload(list(PRELOADED))
        self._n_users = 0
        self._counting = threading.Lock()
        self._starting = threading.Lock()

    def ensure_running(self) -> None:
        """Start it unless it runs, so that Ctrl-C reaches neither it nor a worker that is too young to say so."""
        resource_tracker.ensure_running()  # or starting it would let the signal through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            # One at a time, since each puts back what it found.
            with self._starting, replaced(connection, "arbitrary_address", self._address):
                super().ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[int, int]:
        """Let it start a worker, unless the cluster that wants it is left already."""
        if not self._n_users:
            raise ProcessLookupError("The cluster has ended.")
        return super().connect_to_new_process(fds)

    def _address(self, _: str) -> str:
        """Where its socket is, in a folder of this user that a later run removes if this process is killed.

        The path of a socket has a hundred bytes at most, which that of a temporary folder may exceed.
        """
        self._folder = crash_record.own_folder(f"fork server of {os.getpid()}")
        self._folder_number = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder_number}/socket"

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """End it with the last of those who use it."""
        with self._counting:
            self._n_users += 1
        try:
            yield
        finally:
            with self._counting:
                self._n_users -= 1
                if not self._n_users:
                    self._end()

    def _end(self) -> None:
        """End it and the workers that it has still, as when an interrupt came while they started."""
        server: Any = self  # its stubs do not have all
        with server._lock:
            if server._forkserver_pid is None:
                return
            import psutil

            with contextlib.suppress(psutil.Error):  # it has died
                process = psutil.Process(server._forkserver_pid)
                process.suspend()  # so that it starts no more
                for worker in process.children():
                    worker.kill()
                process.kill()
            server._stop_unlocked()
            os.close(self._folder_number)
            shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """In a forked child: have none, since it is no child's."""
        server: Any = self
        if server._forkserver_pid is not None:
            os.close(server._forkserver_alive_fd)
            os.close(self._folder_number)
        server.__init__()


def why_none_starts() -> str:
    """What an interpreter says last that cannot start as workers do; empty when it can, or says nothing.

    What workers are forked from shares its standard error with them, so it cannot be heard: another one is asked.
    """
    imports = ", ".join(PRELOADED)
    command = [os.fsdecode(spawn.get_executable()), "-c", f"import sys; sys.path[:] = {sys.path!r}; import {imports}"]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ASKING_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = asked.stderr.strip().splitlines() if asked.returncode else []
    return f"{command[0]} ends with {lines[-1].strip()[:MOST_SAID]!r}" if lines else ""


SERVER = ForkServer()
os.register_at_fork(after_in_child=SERVER.forget)
atexit.register(SERVER._end)  # for when an interrupt comes before anybody uses it


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an attribute have another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def environment() -> Iterator[None]:
    """For a while, the variables with which dask starts workers; allocators of memory read some, and numpy."""
    import dask

    chosen = ENVIRONMENT | dask.config.get("distributed.nanny.pre-spawn-environ", {})
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update({name: str(value) for name, value in chosen.items() if value is not None and not before[name]})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def leave() -> None:
    """In a worker: be as one that started from nothing.

    Or what its stages start by a fork server would come from this one: no child of the worker's, and without its code.
    And all workers would draw the same random numbers. (Python's own generator starts anew in each process.)
    """
    server: Any = forkserver._forkserver
    if server._inherited_fds is None:
        return
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    multiprocessing.set_start_method("spawn", force=True)
    os.close(server._forkserver_alive_fd)
    server.__init__()
    # Which processes that multiprocessing forks leave out.
    multiprocessing.util.Finalize(None, atexit._run_exitfuncs, exitpriority=0)
