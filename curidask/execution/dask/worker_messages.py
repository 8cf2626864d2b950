"""What reaches the driver from workers beside results: what stages say, and why worker processes died."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from curidask.execution.dask import silent_workers
from curidask.execution.dask.plugins import CoronerPlugin, HostPlugin, SilencePlugin
from curidask.execution.dask.worker_deaths import Deaths
from curidask.execution.process import monitor, postmortem
from curidask.execution.process.context import WARNING, Spoken

Hear = Callable[[Spoken], None]


def unheard(spoken: Spoken) -> None:
    """Leave it unsaid."""


def listen(client: Any, session: str, hear: Hear, deaths: Deaths) -> None:
    """Let all workers of a client, also those to come, report from now on.

    Parameters
    ----------
    client : distributed.Client
    session : str
        Whose jobs are ours.
    hear : callable
        Called in the client's thread.
    deaths : Deaths
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
    client.subscribe_topic(silent_workers.TOPIC, lambda event: hear(Spoken(-1, WARNING, str(event[1]))))
    with contextlib.suppress(Exception):  # a scheduler may be set to take no code from clients
        client.register_plugin(SilencePlugin(silent_workers.SILENT_SECONDS))
