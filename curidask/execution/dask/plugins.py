"""What we add to dask's workers and nannies: resources by memory, ears for what stages say, and a look at the dead."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import NannyPlugin, SchedulerPlugin, WorkerPlugin
from distributed.core import Status
from tornado.ioloop import PeriodicCallback

from curidask.clusters.base import leave_scratch
from curidask.core.spec import LIFETIME, MEMORY
from curidask.execution.dask import connection
from curidask.execution.dask.worker_deaths import Deaths
from curidask.execution.process import monitor, postmortem, remaining_time
from curidask.execution.process.context import WARNING, Spoken
from curidask.execution.process.crash_record import folder_of, sweep

# --- things that travel to workers which may lack this package -------------------------------------------------------
# What comes out there then does nothing.
#
# dask hands the plugins of a run to each worker that joins later, also after the run. One that cannot unpickle them
# does not come up at all, so nobody could say what it lacks.


def build(kind: str, base: str, values: dict[str, Any]) -> Any:
    """Make a plugin, where this travels to; it must name nothing of this package but inside of the attempt.

    Parameters
    ----------
    kind : str
        A class of `curidask.execution.dask.plugins`.
    base : str
        The class of dask's that does nothing.
    values : dict of str to object
        Its attributes.
    """
    try:
        made = object.__new__(getattr(importlib.import_module("curidask.execution.dask.plugins"), kind))
        made.__dict__.update(values)
    except Exception:
        return getattr(importlib.import_module("distributed"), base)()
    return made


class _Call:
    """Pickles as a call, which is carried out when it is unpickled."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return build, self._arguments


class Guarded:
    """A plugin that becomes one which does nothing where it cannot be made.

    Attributes
    ----------
    base : str
        The class of dask's that it derives from.
    """

    base: str

    def __reduce__(self) -> tuple[Any, ...]:
        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.loads, (cloudpickle.dumps(_Call(type(self).__name__, self.base, self.__dict__)),)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


# --- what reaches the driver from workers beside results -------------------------------------------------------------
# What stages say, and why worker processes died.

Hear = Callable[[Spoken], None]


def unheard(spoken: Spoken) -> None:
    """Leave it unsaid."""


def listen(client: Any, session: str, hear: Hear, deaths: Deaths) -> None:
    """Let all workers of a client, also those to come, report from now on.

    Parameters
    ----------
    session : str
        Whose jobs are ours.
    hear : callable
        Called in the client's thread.
    """

    def said(event: tuple[float, Any]) -> None:
        of_session, items = json.loads(event[1])
        if of_session == session:
            for item in items:
                hear(Spoken(*item))

    client.subscribe_topic(monitor.TOPIC, said)
    client.subscribe_topic(postmortem.TOPIC, lambda event: deaths.reported(event[1]))
    client.register_plugin(HostPlugin(logging.getLogger().getEffectiveLevel()))
    client.register_plugin(CoronerPlugin())
    client.subscribe_topic(connection.TOPIC, lambda event: hear(Spoken(-1, WARNING, str(event[1]))))
    with contextlib.suppress(Exception):  # a scheduler may be set to take no code from clients
        client.register_plugin(SilencePlugin(connection.SILENT_SECONDS))


# --- plugins ---------------------------------------------------------------------------------------------------------
CHILD_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system counts the memory of children in."""


class HostPlugin(Guarded, WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Makes a worker's process the host of our jobs, and lets it leave before its own job ends.

    Parameters
    ----------
    level : int
        From which level on log records go to the driver.
    """

    name = "curidask-host"
    base = "WorkerPlugin"

    def __init__(self, level: int) -> None:
        self.level = level
        self.folder: Path | None = None
        self.driver = (socket.gethostname(), os.getpid())

    async def setup(self, worker: Any) -> None:
        """Give the worker the resource by which stages that name their memory find it, and listen to its process."""
        limit = int(worker.memory_manager.memory_limit or 0)
        lifetime = remaining_time.lifetime_of(_started_at(), worker.lifetime)
        await _offer(worker, {MEMORY: limit or _whole_memory()} | _time_of(lifetime))
        leave_scratch()
        if (socket.gethostname(), os.getpid()) == self.driver:
            return  # a worker in the driver's own process: what that prints is the driver's
        folder = folder_of(worker.nanny or worker.address)
        self.folder = None if worker.nanny else folder
        sweep(folder)
        monitor.set_up(folder, partial(worker.log_event, monitor.TOPIC), limit, self.level, worker.address)
        remaining_time.set_up(lifetime)
        if lifetime.ends_at:
            # A worker process that its nanny has started again does not know how old its job is.
            left = max(0.0, lifetime.ends_at - time.time())
            worker.loop.call_later(left, worker.close_gracefully, reason="curidask-job-ends")

    def teardown(self, worker: Any) -> None:
        """Remove what nobody reads any more: without a nanny, nobody looks at what the process left."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _time_of(lifetime: remaining_time.Lifetime) -> dict[str, float]:
    return {LIFETIME: lifetime.whole_seconds} if lifetime.ends_at else {}


def _started_at() -> float:
    import psutil

    return float(psutil.Process().create_time())


async def _offer(worker: Any, resources: dict[str, float]) -> None:
    if resources.items() <= worker.state.total_resources.items():
        return
    await worker.set_resources(**resources)
    # Race: a worker is known to the scheduler before it offers this, and what waits for it is looked at only when a
    # worker comes or wakes up.
    if worker.status == Status.running:
        worker.status = Status.paused
        worker.status = Status.running


def _whole_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


class SilencePlugin(Guarded, SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Lets a scheduler hand on what waits on workers of which nothing is heard.

    Parameters
    ----------
    seconds : float
        See `curidask.execution.dask.connection.SILENT_SECONDS`.
    """

    name = "curidask-silence"
    base = "SchedulerPlugin"
    idempotent = True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def start(self, scheduler: Any) -> None:
        """Begin to look; the scheduler ends it with what else it does now and then."""
        watch = connection.Watch(scheduler, self.seconds)
        calls = scheduler.periodic_callbacks
        calls[self.name] = PeriodicCallback(watch.look, watch.pause * 1000)
        calls[self.name].start()


class CoronerPlugin(Guarded, NannyPlugin):  # type: ignore[misc]  # distributed has no types
    """Lets a nanny report why its worker process died, and end what that process had started."""

    name = "curidask-coroner"
    base = "NannyPlugin"

    def setup(self, nanny: Any) -> None:
        """Be called when the worker process ends; before the nanny cleans up and starts another."""
        if getattr(nanny, "curidask_is_watched", False):
            return
        nanny.curidask_is_watched = True
        look = _Look(nanny)
        nanny._on_worker_exit_sync = partial(look.ended, nanny._on_worker_exit_sync)
        if nanny.process is not None:
            nanny.process.on_exit = nanny._on_worker_exit_sync


class _Look:
    """A look at each worker process of a nanny that dies."""

    def __init__(self, nanny: Any) -> None:
        self._nanny = nanny
        self._largest_child = _largest_child()

    def ended(self, go_on: Callable[[int], None], exit_code: int) -> None:
        with contextlib.suppress(Exception):  # whatever is wrong with the report, the nanny must go on
            folder = folder_of(self._nanny.address)
            if self._nanny.status == Status.running:
                self._report(folder, exit_code)
            postmortem.end_orphans(folder)
            if self._nanny.status != Status.running:
                shutil.rmtree(folder, ignore_errors=True)
        go_on(exit_code)

    def _report(self, folder: Path, exit_code: int) -> None:
        before, self._largest_child = self._largest_child, _largest_child()
        # The kernel keeps the largest of all children only: when it has grown, this one was it.
        size = self._largest_child if self._largest_child > before else 0
        death = postmortem.examine(folder, self._nanny.worker_address or "", exit_code, size)
        self._nanny.log_event(postmortem.TOPIC, death.to_text())


def _largest_child() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * CHILD_UNIT
