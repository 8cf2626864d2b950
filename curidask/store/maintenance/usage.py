"""Which run uses which artifacts: what a run says of itself in the store, so that nobody removes what it relies on.

::

    .runs/REFERENCE-ID/000001.json    what a run may use: written before it looks what is there
    .runs/REFERENCE-ID/beat.json      when it was last seen alive
    .runs/REFERENCE-ID/end.json       what it did use; the others are removed then
    .gc/ID-N.json                     what somebody is about to remove

A run and somebody who removes artifacts never meet unnoticed, since each says first what it is about to do, and looks
then what the other says::

    run: write what it may use;  look into .gc/;    look which artifacts are there
    gc:  write what it removes;  look into .runs/;  remove what no run uses

Whichever writes last sees the other. The gc leaves what a run uses; a run waits until the gc is through (it takes
seconds, and what is left of a gc that died is passed over after a while), so it relies on nothing that is about to go.
It takes a store in which a read sees all earlier writes, as folders, S3, Google and Azure are.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curidask.core.artifact_names import is_object_name
from curidask.errors import CacheError
from curidask.store import untrusted
from curidask.store.backends.base import ObjectStore
from curidask.store.maintenance.removal import remove_each

RUNS = ".runs/"
GC = ".gc/"
BEAT_SECONDS = 600.0
LEASE_SECONDS = 7200.0
"""A run that was not seen for so long is over; clocks of machines may differ by less than that."""
GC_LEASE_SECONDS = 120.0
"""What somebody is about to remove he removes within half of that, or not at all."""
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(slots=True)
class Use:
    """A run, as the store knows it.

    Attributes
    ----------
    id : str
        Reference with something random, since two machines may give two runs one reference.
    reference, experiment, user, host, project : str
    session, work : str
        What its claims carry, and what its working folders are named after.
    started, seen : float
        When it began, and was last seen: seconds since 1970, by its own clock.
    ended : bool
        Whether it came to its end.
    stems : set of str
        What it uses, or may use while it runs.
    optional : set of str
        Those of them that need not be there although it used them.
    """

    id: str
    reference: str = ""
    experiment: str = ""
    user: str = ""
    host: str = ""
    project: str = ""
    session: str = ""
    work: str = ""
    started: float = 0.0
    seen: float = 0.0
    ended: bool = False
    stems: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)

    def is_active(self, now: float) -> bool:
        """Whether it may be running."""
        return not self.ended and now - self.seen < LEASE_SECONDS

    def add(self, values: Mapping[str, Any]) -> None:
        """Take in one of its objects.

        Raises
        ------
        ValueError
            When it has another form; nothing of it is taken then.
        """
        if not all(name not in values or is_right(values[name]) for name, is_right in _IS_RIGHT.items()):
            raise ValueError("it says something of another type")
        for name in _TEXTS:
            setattr(self, name, values.get(name, getattr(self, name)))
        self.started = float(values.get("started", self.started))
        self.seen = max(self.seen, float(values.get("seen", 0.0)))
        self.ended = self.ended or bool(values.get("ended"))
        self.stems.update(filter(is_object_name, values.get("stems", ())))
        self.optional.update(filter(is_object_name, values.get("optional", ())))


_TEXTS = ("reference", "experiment", "user", "host", "project", "session", "work")
_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_TEXTS, untrusted.is_text),
    **dict.fromkeys(("started", "seen"), untrusted.is_seconds),
    **dict.fromkeys(("stems", "optional"), untrusted.is_texts),
    "ended": lambda value: isinstance(value, bool),
}


class Uses:
    """All runs that a store knows, read once and brought up to date at little cost.

    Parameters
    ----------
    objects : ObjectStore
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._seen: set[str] = set()
        self.by_id: dict[str, Use] = {}

    def refresh(self) -> list[Use]:
        """Read what is new; all runs."""
        names = [name for name in self._objects.list(RUNS) if name not in self._seen or name.endswith("/beat.json")]
        for name, data in sorted(self._objects.read_many(names).items()):
            parts = name.split("/")
            with suppress(ValueError):  # what cannot be read says nothing
                if len(parts) == 3:
                    use = self.by_id.get(parts[1]) or Use(parts[1])
                    use.add(untrusted.parse_object(data, untrusted.LARGE_BYTES))
                    self.by_id[parts[1]] = use
            self._seen.add(name)
        return list(self.by_id.values())

    def forget(self, ids: Iterable[str]) -> dict[str, str]:
        """Remove runs from the store; what could not be removed, with why."""
        gone = set(ids)
        refused = remove_each(self._objects, [n for n in self._objects.list(RUNS) if n.split("/")[1] in gone])
        for id_ in gone:
            self.by_id.pop(id_, None)
        return refused


class RunUse:
    """Says for a run what it uses, in each place that it writes to.

    Parameters
    ----------
    places : sequence of ObjectStore
    reference, experiment, user, host, project : str
        For people, and to find the run again.
    session, work : str
        By which claims and working folders are known to be this run's.
    told : callable
        Is told what the run waits for.
    within : callable
        Does something in a place; it may leave it undone where the run does without that place for a while.
    """

    def __init__(
        self,
        places: Sequence[ObjectStore],
        *,
        reference: str,
        experiment: str = "",
        user: str = "",
        host: str = "",
        project: str = "",
        session: str = "",
        work: str = "",
        told: Callable[[str], None] = lambda text: None,
        within: Callable[[ObjectStore, Callable[[], Any]], Any] = lambda place, action: action(),
    ) -> None:
        self._within = within
        self._places = list(places)
        self._folder = f"{RUNS}{reference}-{os.urandom(4).hex()}/"
        self._about = {
            "reference": reference,
            "experiment": experiment,
            "user": user,
            "host": host,
            "project": project,
            "session": session,
            "work": work,
            "started": time.time(),
        }
        self._told = told
        self._stems: set[str] = set()
        self._names: list[str] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def register(self, stems: Collection[str]) -> None:
        """Say that the run may use these; when it returns, nobody removes them until the run is over.

        Raises
        ------
        CacheError
            When a place cannot be written.
        """
        new = [stem for stem in dict.fromkeys(stems) if stem not in self._stems]
        if not new:
            return
        name = f"{self._folder}{len(self._names) + 1:06d}.json"
        self._names.append(name)
        self._write(name, {"stems": new})
        self._stems.update(new)
        self._keep_alive()
        for place in self._places:
            self._within(place, partial(wait_for_gc, place, set(new), self._told))

    def end(self, used: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Say what the run has used, at its end.

        Parameters
        ----------
        used : iterable of str
        optional : iterable of str
            What belongs to that where it is there.

        Raises
        ------
        CacheError
        """
        self._over.set()
        if not self._names:
            return
        maybe = set(optional)
        stems = {"stems": sorted(maybe.union(used)), "optional": sorted(maybe)}
        self._write(f"{self._folder}end.json", {**stems, "ended": True})
        for place in self._places:
            self._within(place, partial(place.remove, [*self._names, f"{self._folder}beat.json"]))

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        data = json.dumps({**self._about, "seen": time.time(), **values}, separators=(",", ":")).encode()
        for place in self._places:
            self._within(place, partial(place.write, name, data))

    def _keep_alive(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="curidask-use", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(CacheError):  # the next one may succeed; the lease is many beats long
                self._write(f"{self._folder}beat.json", {})


# --- removing --------------------------------------------------------------------------------------------------------
class Removal:
    """Says what is about to be removed, while the block runs.

    Parameters
    ----------
    objects : ObjectStore
    stems : collection of str
    who : str
        For those who wait.
    """

    def __init__(self, objects: ObjectStore, stems: Collection[str], who: str) -> None:
        self._objects = objects
        self._name = f"{GC}{os.urandom(8).hex()}.json"
        about = {"who": who, "since": time.time(), "stems": sorted(stems)}
        self._data = json.dumps(about, separators=(",", ":")).encode()
        self._since = 0.0

    def __enter__(self) -> Removal:
        self._since = time.monotonic()
        self._objects.write(self._name, self._data)
        return self

    def __exit__(self, *_: object) -> None:
        self._objects.remove([self._name])

    @property
    def holds(self) -> bool:
        """Whether it may still be acted upon: a run that waits goes on after a while."""
        return time.monotonic() - self._since < GC_LEASE_SECONDS / 2


def wait_for_gc(objects: ObjectStore, stems: Collection[str], told: Callable[[str], None]) -> None:
    """Return when nobody is about to remove one of these artifacts.

    Notes
    -----
    What is left of somebody who died is removed when it was seen, unchanged, for twice as long as anybody acts upon it,
    by this process's own clock.
    """
    first_seen: dict[str, float] = {}
    pause = 0.05
    while True:
        now = time.monotonic()
        left = {}
        for name, data in objects.read_many(objects.list(GC)).items():
            who, doomed = _removal(data)
            if now - first_seen.setdefault(name, now) > GC_LEASE_SECONDS:
                objects.remove([name])
            elif not doomed.isdisjoint(stems):
                left[name] = who
        if not left:
            return
        if pause >= LONGEST_PAUSE_SECONDS:
            told(f"waiting for `curidask cache gc` of {next(iter(left.values()))} in {objects.url}")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _removal(data: bytes) -> tuple[str, set[str]]:
    try:
        values = untrusted.parse_object(data, untrusted.LARGE_BYTES)
    except ValueError:
        return "", set()
    who, stems = values.get("who"), values.get("stems")
    if untrusted.is_text(who) and untrusted.is_texts(stems):
        return untrusted.printable(who), set(stems)
    return "", set()
