"""Loaded by each local worker process when it starts."""

from __future__ import annotations

import logging
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the driver.

    A terminal sends it to every process of the group. Workers that died of it would look like crashed ones, and the
    driver ends them anyway.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # What the first job would import is imported while the driver still plans.
    import curidask.executors.shipping
    import curidask.executors.worker  # noqa: F401
