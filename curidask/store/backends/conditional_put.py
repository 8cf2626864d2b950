"""Creating objects exclusively, and finding out whether a place really does: several overwrite all the same."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from curidask.errors import CacheError
from curidask.store.backends.errors import classify
from curidask.store.manifest import is_seconds, parse_object

if TYPE_CHECKING:
    from curidask.store.backends.requests import RetryingClient

MARKER = ".exclusive.json"
TRUSTED_SECONDS = 7 * 24 * 3600.0
DOUBTED_SECONDS = 3600.0
RACES = 3
RACERS = 6
READINGS = 3
"""Bytes may be changed on their way; what was overwritten stays so however often it is read."""


def create(requests: RetryingClient, name: str, key: str, data: bytes) -> bool:
    """Create an object with one conditional request.

    The reply to a request that succeeded may be lost, and a package may repeat a request unseen. The object then
    refuses its own creator. So the request carries a token, which the object keeps; where a service does not keep it,
    the bytes tell whose it is.
    """
    token = os.urandom(12).hex()
    in_doubt = requests.client.repeats

    def attempt() -> bool:
        nonlocal in_doubt
        try:
            if requests.client.create(key, data, token):
                return True
        except Exception as error:
            in_doubt = in_doubt or classify(error).transient
            raise
        try:
            creator = requests.client.creator(key)
            return creator == token if creator else in_doubt and requests.client.get(key) == data
        except Exception as error:
            if classify(error).kind == "missing":
                raise RefusedForNothingError(name) from error
            raise

    return requests.ask("create", name, attempt)


class RefusedForNothingError(Exception):
    """A creation was refused and nothing is there: it was removed since, or a race had no winner. To be tried again."""

    status = 409


# --- whether that can be trusted -------------------------------------------------------------------------------------
_known: dict[tuple[int, str, str], bool] = {}
_trying: dict[tuple[int, str, str], threading.Lock] = {}


def probe(objects: Any, token: str = "") -> bool:
    """Find out whether of several that create one object just one succeeds.

    Parameters
    ----------
    objects : Any
        A place with `create`, `read`, `write` and `remove`.
    token : str
        Tells apart other ways to reach a place of the same address.

    Raises
    ------
    CacheError
        When that cannot be tried: no permission to write, or no connection.
    """
    key = (os.getpid(), objects.url, token)
    if key in _known:
        return _known[key]
    with _trying.setdefault(key, threading.Lock()):  # by process: after a fork, nobody there would release it
        if key not in _known:
            known = _noted(objects)
            if known is None:
                known = _tried(objects)
                _note(objects, known)
            _known[key] = known
    return _known[key]


def try_again(objects: Any) -> bool:
    """Find it out anew, whatever was found out before; other processes go by what comes out now.

    Raises
    ------
    CacheError
        As for `probe`.
    """
    result = _tried(objects)
    _note(objects, result)
    return result


def forget() -> None:
    """Forget what was found out in this process."""
    _known.clear()


def _noted(objects: Any) -> bool | None:
    """What another process has found out, if that is not too long ago. A folder is tried faster than that is read."""
    if objects.local_root is not None:
        return None
    try:
        note = parse_object(objects.read(MARKER))
    except (CacheError, ValueError):
        return None
    result, checked = note.get("exclusive"), note.get("checked")
    age = time.time() - checked if is_seconds(checked) else -1.0
    if not isinstance(result, bool) or not 0 <= age < (TRUSTED_SECONDS if result else DOUBTED_SECONDS):
        return None
    return result


def _note(objects: Any, result: bool) -> None:
    if objects.local_root is not None:
        return
    with suppress(CacheError):
        objects.write(MARKER, json.dumps({"exclusive": result, "checked": time.time()}).encode())


def _tried(objects: Any) -> bool:
    stem = f".probe-{os.getpid()}-{os.urandom(6).hex()}"
    names = [f"{stem}-{number}" for number in range(1 + RACES)]
    try:
        return _one_after_the_other(objects, names[0]) and _raced(objects, names[1:])
    except CacheError as error:
        if error.kind == "unsupported":
            return False  # an answer, unlike no permission or no connection
        raise
    finally:
        with suppress(CacheError):
            objects.remove(names)


def _one_after_the_other(objects: Any, name: str) -> bool:
    first = objects.create(name, b"first")
    second = objects.create(name, b"second")
    return bool(first and not second and _holds(objects, name, b"first"))


def _holds(objects: Any, name: str, data: bytes) -> bool:
    return any(objects.read(name) == data for _ in range(READINGS))


def _raced(objects: Any, names: list[str]) -> bool:
    """Whether each of some objects that several try to create at the same moment has one creator."""
    won: list[tuple[str, bytes]] = []
    failed: list[CacheError] = []
    start = threading.Barrier(RACERS * len(names))

    def race(name: str, data: bytes) -> None:
        start.wait()
        try:
            if objects.create(name, data):
                won.append((name, data))
        except CacheError as error:
            failed.append(error)

    racers = [(name, b"racer %d" % number) for name in names for number in range(RACERS)]
    threads = [threading.Thread(target=race, args=racer) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sorted(name for name, _ in won) == sorted(names) and all(_holds(objects, *one) for one in won)
