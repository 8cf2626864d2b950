"""Loaded by each local worker process when it starts."""

from __future__ import annotations

import logging
import signal
from typing import Any

from curidask.clusters.base import leave_scratch
from curidask.clusters.fork_server import leave


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the driver, and import what the first job needs while the driver still plans.

    A terminal sends Ctrl-C to every process of the group. Workers that died of it would look like crashed ones, and the
    driver ends them anyway.
    """
    # Not ignored: what a stage starts would ignore it too, for ever.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which what a stage starts would have blocked too
    logging.getLogger().setLevel(logging.INFO)  # what is logged goes to the driver, which decides what to show of it
    leave()
    leave_scratch()
    import curidask.execution.dask.code_shipping
    import curidask.execution.task_runner  # noqa: F401  # for its effect: the modules are loaded
    from curidask.clusters import quiet_dask

    quiet_dask()
