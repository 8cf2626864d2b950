"""A scheduler that runs already, with workers that others started; and clients and clusters made by the user."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from curidask.clusters.base import SETTINGS, Connection, NoWord, counted, innermost, quiet_dask, wait_for_worker
from curidask.clusters.kinds import ClusterKind
from curidask.clusters.settings import ClusterSettings
from curidask.clusters.tls import check_plain, required_tls
from curidask.errors import ClusterError

START_WORKERS = "start workers there with `dask worker ADDRESS --nthreads 1`, or wait longer with `wait_seconds`"
GIVEN_WAIT_SECONDS = 60.0
LOOK_SECONDS = 2.0
SLOW_SECONDS = 3.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def at_address(settings: ClusterSettings) -> Iterator[Connection]:
    """Connect to a scheduler; its workers are left alone.

    Raises
    ------
    ConfigurationError
        When the connection would be in the clear without having been asked for, or certificates are missing.
    ClusterError
        When the scheduler does not answer, turns us away, or has no worker in time.
    """
    import dask
    from distributed import Client

    address = settings.address
    what = f"the scheduler at {address}"
    warnings = check_plain(address, insecure=settings.insecure, where=settings.where)
    security = required_tls(settings, address).as_security() if address.startswith("tls://") else None
    quiet_dask()
    with dask.config.set(SETTINGS):
        try:
            with _told_when_slow("waiting for %s to answer, for %g s at most", what, settings.wait_seconds):
                client = Client(address, security=security, set_as_default=False, timeout=settings.wait_seconds)
        except Exception as error:
            raise ClusterError(
                f"There is no answer from {what}: {_reason(address, error)}",
                where=settings.where,
                fix=_advice(address, error),
            ) from error
        with client:
            quiet_dask()
            fix = START_WORKERS.replace("ADDRESS", address)
            n_workers = wait_for_worker(client, settings.wait_seconds, what=what, trouble=NoWord(), fix=fix)
            yield Connection(
                client,
                n_workers,
                f"{counted(n_workers)} of {what}",
                wait_seconds=settings.wait_seconds,
                warnings=warnings,
            )


@contextlib.contextmanager
def _told_when_slow(message: str, *arguments: Any) -> Iterator[None]:
    """Log a message unless the block ends soon."""
    timer = threading.Timer(SLOW_SECONDS, logger.warning, (message, *arguments))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reason(address: str, error: BaseException) -> str:
    """Why there is none; when dask only says that it has given up, what a plain connection says."""
    reason = innermost(error)
    if not reason.startswith(("CancelledError", "TimeoutError")):
        return reason
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
    except OSError as refused:
        return f"{refused.strerror or refused}."
    return "something listens there, but does not answer as a dask scheduler in time."


def _advice(address: str, error: BaseException) -> str:
    if any(word in innermost(error).lower() for word in ("ssl", "certificate", "closed by remote", "wrong_version")):
        return "use the certificates of that scheduler's authority, and tls:// on both sides"
    return "start it with `dask scheduler`, correct the address, or open the port between the machines"


@contextlib.contextmanager
def given(cluster: Any) -> Iterator[Connection]:
    """Use a dask client or cluster of the user's, and leave it as it is.

    Raises
    ------
    ClusterError
        When it is closed, is an asynchronous one, or has no worker in time.
    """
    import dask
    from distributed import Client

    is_client = isinstance(cluster, Client)
    what = f"the given {type(cluster).__name__}"
    if getattr(cluster, "asynchronous", False):
        raise ClusterError(f"{what.capitalize()} is asynchronous.", fix="make it with asynchronous=False")
    status = _settled_status(cluster)
    if status != "running":
        raise ClusterError(f"{what.capitalize()} is {status}.", fix="give one that runs")
    with contextlib.ExitStack() as stack, dask.config.set(SETTINGS):
        client = cluster if is_client else stack.enter_context(Client(cluster, set_as_default=False))
        scheduler = client.scheduler.address if client.scheduler is not None else ""
        fix = START_WORKERS.replace("ADDRESS", scheduler)
        n_workers = wait_for_worker(client, GIVEN_WAIT_SECONDS, what=what, trouble=NoWord(), fix=fix)
        yield Connection(
            client,
            n_workers,
            f"{counted(n_workers)} of {what} at {scheduler}",
            wait_seconds=GIVEN_WAIT_SECONDS,
            warnings=check_plain(scheduler, insecure=True),
        )


def _settled_status(cluster: Any) -> str:
    """The status of a client or cluster, when it is not connecting any more (a client gives up by itself)."""
    end = time.monotonic() + GIVEN_WAIT_SECONDS
    while True:
        status = str(getattr(cluster.status, "name", cluster.status))
        if status != "connecting" or time.monotonic() > end:
            return status
        time.sleep(0.1)


class _Address(ClusterKind):
    wait_seconds = 60.0
    has_address = True

    def opener(self, settings: ClusterSettings, folder: Path) -> Callable[[], AbstractContextManager[Connection]]:
        check_plain(settings.address, insecure=settings.insecure, where=settings.where)
        return functools.partial(at_address, settings)


KIND = _Address()
