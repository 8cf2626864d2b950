"""The objects of several tiers, as those who look at objects themselves see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from curidask.errors import ObjectMissingError
from curidask.store.objects import ObjectStore


class TieredObjects:
    """Objects of several places: reading finds those of all, writing goes to one.

    Hidden objects, whose names begin with a dot, are not artifacts: claims, for one, which mean something only where
    all look at the same ones. They are read and written in one place only.

    Parameters
    ----------
    places : sequence of ObjectStore
    meeting_place : ObjectStore
        The one to write to.
    """

    def __init__(self, places: Sequence[ObjectStore], meeting_place: ObjectStore) -> None:
        self._places = list(places) or [meeting_place]
        self._meeting_place = meeting_place

    @property
    def url(self) -> str:
        """Where the places are."""
        return ",".join(place.url for place in self._places)

    @property
    def local_root(self) -> Path | None:
        """The first folder among them."""
        return next((place.local_root for place in self._places if place.local_root is not None), None)

    @property
    def shared(self) -> bool:
        """Whether other processes see the same objects in all of them."""
        return all(place.shared for place in self._places)

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with a prefix."""
        return list({name: None for place in self._of(prefix) for name in place.list(prefix)})

    def exists(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are there."""
        wanted = list(names)
        return {name for place in self._all() for name in place.exists(n for n in wanted if place in self._of(n))}

    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        *places, last = self._of(name)
        for place in places:
            try:
                return place.read(name)
            except ObjectMissingError:
                continue
        return last.read(name)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those that are there."""
        wanted = list(names)
        found: dict[str, bytes] = {}
        for place in self._all():
            found.update(place.read_many(n for n in wanted if n not in found and place in self._of(n)))
        return found

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write an object in one step."""
        return self._meeting_place.write(name, data, exclusive=exclusive)

    def adopt(self, local: str | Path, name: str) -> None:
        """Move a local file or folder into the store."""
        self._meeting_place.adopt(local, name)

    def fetch(self, name: str, target: str | Path) -> None:
        """Copy an object into a local file."""
        *places, last = self._of(name)
        for place in places:
            try:
                return place.fetch(name, target)
            except ObjectMissingError:
                continue
        return last.fetch(name, target)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        self._meeting_place.remove(names)

    def lock(self) -> AbstractContextManager[None]:
        """Keep others that ask for the lock out."""
        return self._meeting_place.lock()

    def check_writable(self) -> None:
        """Raise a `CacheError` when objects cannot be written."""
        self._meeting_place.check_writable()

    def probe_exclusive(self) -> bool:
        """Whether writing with `exclusive` can be relied on."""
        return self._meeting_place.probe_exclusive()

    def _all(self) -> Sequence[ObjectStore]:
        return list(dict.fromkeys([*self._places, self._meeting_place]))

    def _of(self, name: str) -> Sequence[ObjectStore]:
        return [self._meeting_place] if name.startswith(".") else self._places
