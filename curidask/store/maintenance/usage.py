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
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import is_object_name, stem_of
from curidask.errors import CacheError
from curidask.store import manifest
from curidask.store.backends.addresses import split_address
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.conditional_put import MARKER
from curidask.store.backends.errors import is_refused
from curidask.store.manifest import Manifest

# --- removing objects of which some may not be removed ---------------------------------------------------------------
# What belongs to others is named, and all else goes.


def remove_each(objects: ObjectStore, names: Iterable[str]) -> dict[str, str]:
    """Remove objects; those that could not be, with what was in the way.

    Raises
    ------
    CacheError
        When the place itself fails.
    """
    names = list(names)
    try:
        objects.remove(names)
    except CacheError as error:
        if not _is_about_one(error, objects):
            raise
    else:
        return {}
    refused = {}
    for name in names:
        try:
            objects.remove([name])
        except CacheError as error:
            if not _is_about_one(error, objects):
                raise
            refused[name] = error.what
    return refused


def _is_about_one(error: CacheError, objects: ObjectStore) -> bool:
    return is_refused(error) or objects.local_root is not None


def what_stays(objects: ObjectStore, names: Iterable[str]) -> str:
    """The first of some objects of a folder that this user may not remove; empty for none, and in the network."""
    root = objects.local_root
    return "" if root is None else next((name for name in names if not _may_remove(f"{root}/{name}")), "")


def _may_remove(path: str) -> bool:
    folder = os.path.dirname(path)
    try:
        found, around = os.lstat(path), os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    if around.st_mode & stat.S_ISVTX and os.geteuid() not in (0, found.st_uid, around.st_uid):
        return False
    return os.access(folder, os.W_OK | os.X_OK)


# --- usage -----------------------------------------------------------------------------------------------------------
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
    **dict.fromkeys(_TEXTS, manifest.is_text),
    **dict.fromkeys(("started", "seen"), manifest.is_seconds),
    **dict.fromkeys(("stems", "optional"), manifest.is_texts),
    "ended": lambda value: isinstance(value, bool),
}


class Uses:
    """All runs that a store knows, read once and brought up to date at little cost."""

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
                    use.add(manifest.parse_object(data, manifest.LARGE_BYTES))
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


class RunReferences:
    """Says for a run what it uses, in each place that it writes to.

    Parameters
    ----------
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
        values = manifest.parse_object(data, manifest.LARGE_BYTES)
    except ValueError:
        return "", set()
    who, stems = values.get("who"), values.get("stems")
    if manifest.is_text(who) and manifest.is_texts(stems):
        return manifest.printable(who), set(stems)
    return "", set()


# --- a cache inside another ------------------------------------------------------------------------------------------
# One may lie in a folder of the other, whose listings then show its objects too.


def inner_caches(names: Iterable[str], known: Collection[str] = ()) -> tuple[str, ...]:
    """The folders of a cache that are caches themselves: what runs say of themselves lies there, and in no artifact.

    Parameters
    ----------
    names : iterable of str
        All that is listed.
    known : collection of str, optional
        Folders that are known to be such; see `cache_around`.
    """
    found = {folder for name in names if (folder := _cache_of(name)) and stem_of(f"{folder}/") is None}.union(known)
    return tuple(sorted(folder for folder in found if not is_inside(folder, found)))


def cache_around(stem: str, data: bytes) -> str:
    """The folder that is the cache of an artifact, by its manifest: one that only copies were put into has no runs.

    Parameters
    ----------
    stem : str
        Where it was found.
    data : bytes
        The encoded manifest, of whatever form.

    Returns
    -------
    str
        Empty when the artifact is one of the cache in which it was found.
    """
    if "/" not in stem:
        return ""
    try:
        own = Manifest.from_bytes(data).stem
    except CacheError:
        return ""
    return stem.removesuffix(f"/{own}") if own and stem.endswith(f"/{own}") else ""


def is_inside(name: str, folders: Iterable[str]) -> bool:
    """Whether something lies in one of some folders."""
    return any(name.startswith(f"{folder}/") for folder in folders)


def outer_cache(objects: Any) -> str:
    """The cache that the place lies in; empty where there is none to be seen."""
    root: Path | None = objects.local_root
    if root is not None:
        return next((str(folder) for folder in root.absolute().parents if (folder / RUNS).is_dir()), "")
    address = split_address(objects.url)
    parts = address.path.split("/") if address.path else []
    for count in range(len(parts)):
        url = "/".join([address.container, *parts[:count]])
        with suppress(CacheError):  # who may not look there is not told
            if type(objects)(url, objects.options).exists([MARKER]):
                return url
    return ""


def _cache_of(name: str) -> str:
    if name.endswith(f"/{MARKER}"):
        return name.removesuffix(f"/{MARKER}")
    folder, found, _ = name.partition(f"/{RUNS}")
    return folder if found else ""
