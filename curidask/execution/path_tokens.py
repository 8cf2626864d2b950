"""Tokens: what stands in a stored value for the path of a file that goes with its artifact.

The working folder in which a stage writes its files is gone when the stage has ended, and on each machine the files lie
somewhere else. So a path of one of them is replaced by its name in the store while the value is stored or travels, and
whoever reads the value gets the path that holds there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from curidask.errors import ArtifactDamagedError, ArtifactMissingError
from curidask.store.base import Store
from curidask.store.payload import Checkout

PREFIX = "curidask-file:"
"""Begins a token; the file's name in the store follows."""

NOTE = "curidask:files"
"""In a manifest's `extra_metadata`: that the value has tokens, and the other artifacts whose files they name."""

Holder = tuple[str, str]
"""Stem and key of an artifact that files go with."""

Swap = Callable[[str], str | None]
"""Gives what stands in the place of a text, None for the text itself."""


def with_paths(value: Any, paths: Mapping[str, str]) -> Any:
    """The value with the paths in the place of their tokens.

    Raises
    ------
    ArtifactMissingError
        When there is no path for one.
    """

    def path(text: str) -> str | None:
        if not text.startswith(PREFIX):
            return None
        if text not in paths:
            raise ArtifactMissingError(f"There is no file {text.removeprefix(PREFIX)!r} of a stage.")
        return paths[text]

    return swapped(value, path)


def local_paths(holders: Iterable[Holder], store: Store, *opened: Checkout) -> dict[str, str]:
    """Where the files of artifacts lie on this machine, and the folders around them, verified, by their tokens.

    Parameters
    ----------
    holders : iterable of Holder
    store : Store
    *opened : Checkout
        Further artifacts, which need no checkout any more.

    Raises
    ------
    ArtifactMissingError
    """
    found: dict[str, str] = {}
    for checkout in (*opened, *(store.checkout(stem, key) for stem, key in holders)):
        manifest = checkout.manifest
        for name, path in checkout.tracked.items():
            _add(found, name, str(path))
        for entry in manifest.files:
            _add(found, manifest.stem + entry.name, f"{checkout.folder}/{checkout.basename}{entry.name}")
    return found


def _add(found: dict[str, str], name: str, path: str) -> None:
    while PREFIX + name not in found:
        found[PREFIX + name] = path
        if "/" not in name:
            return
        name, path = name.rpartition("/")[0], path.rpartition("/")[0]


def holders_noted(noted: Any) -> list[Holder]:
    """The artifacts that a manifest names, out of what it says under `NOTE`.

    Raises
    ------
    ArtifactDamagedError
        When that is not of the right form.
    """
    if not isinstance(noted, list) or not all(map(_is_holder, noted)):
        raise ArtifactDamagedError("Its manifest does not say rightly what that is.")
    return [(stem, key) for stem, key in noted]


def _is_holder(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)


# --- walking through values ------------------------------------------------------------------------------------------
def swapped(value: Any, swap: Swap) -> Any:
    """The value with other texts and paths in its lists, tuples, sets, values of dicts and fields of dataclasses.

    What holds nothing to be swapped stays the same object; what does is copied.
    """
    try:
        return _Walk(swap).through(value)
    except RecursionError:  # too deep to be walked; nothing was swapped
        return value


class _Walk:
    def __init__(self, swap: Swap) -> None:
        self._swap = swap
        # By id, with the value, so that no other gets that id. What is met twice stays one object; what holds itself
        # comes to an end.
        self._met: dict[int, tuple[Any, Any]] = {}

    def through(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            new = self._swap(value)
            return value if new is None else new
        if isinstance(value, PurePath):
            new = self._swap(str(value))
            return value if new is None else kind(new)
        if id(value) not in self._met:
            self._met[id(value)] = value, value
            self._met[id(value)] = value, self._container(value)
        return self._met[id(value)][1]

    def _container(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._changed(value, value, _set_item)
        if is_dataclass(value) and not isinstance(value, type):
            held = {f.name: getattr(value, f.name) for f in fields(value) if hasattr(value, f.name)}
            return self._changed(value, held, object.__setattr__)
        make = getattr(type(value), "_make", None) if isinstance(value, tuple) else None  # a named tuple
        if make is None and type(value) not in _SEQUENCES:
            return value
        items = [self.through(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return (make or type(value))(items)

    def _changed(self, value: Any, held: Mapping[Any, Any], put: Callable[[Any, Any, Any], None]) -> Any:
        swapped = {key: new for key, old in held.items() if (new := self.through(old)) is not old}
        if not swapped:
            return value
        other = copy.copy(value)
        for key, new in swapped.items():
            put(other, key, new)
        return other


def _set_item(mapping: Any, key: Any, value: Any) -> None:
    mapping[key] = value


_ATOMS = frozenset((int, float, bool, complex, bytes, type(None)))
_SEQUENCES = frozenset((list, tuple, set, frozenset))
