"""Opening what is configured as the cache: one place, or several as tiers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.errors import ConfigurationError
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.addresses import inside_one_another
from curidask.store.backends.base import open_objects
from curidask.store.backends.errors import check_folder
from curidask.store.base import Store
from curidask.store.disk_cache.near import NearSettings
from curidask.store.signing import Keyring
from curidask.store.tiers import Mode, Tier, TieredStore

MODES = ", ".join(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What holds for all tiers of a cache.

    Attributes
    ----------
    mode : str
        ``rw``, ``ro`` or ``off`` for all tiers, or one for each with commas between them; empty for ``rw``.
    key_file : str
        Where signing keys are read that are not in the environment; see `Keyring.load`.
    options : callable
        Gives, for a URL, how its place is reached; see `open_objects`.
    """

    verify: str = "digest"
    mode: str = ""
    near: NearSettings = field(default_factory=NearSettings)
    key_file: str = ""
    options: Callable[[str], Mapping[str, Any]] = field(default=lambda url: {}, repr=False)


def split_tiers(cache: str) -> list[str]:
    """The places that a text such as ``data/cache,s3://bucket/team`` names; a folder of just that name is one place."""
    if "," not in cache or os.path.isdir(os.path.expanduser(cache)):
        return [cache]
    places = [part.strip() for part in cache.split(",")]
    if "" in places:
        raise ConfigurationError(
            f"The cache {cache!r} has an empty tier.", fix="write places with one comma between two, as in A,B"
        )
    return places


def parse_modes(mode: str, n_tiers: int) -> list[Mode]:
    """A mode for each tier.

    Raises
    ------
    ConfigurationError
    """
    parts = [part.strip() for part in (mode or Mode.READ_WRITE.value).split(",")]
    try:
        modes = [Mode(part) for part in parts]
    except ValueError:
        fix = f"use one of {MODES} for all tiers, or one for each as in rw,ro"
        raise ConfigurationError(
            f"The cache mode is {mode!r}.", where="--cache-mode or `cache_mode`", fix=fix
        ) from None
    if len(modes) == 1:
        return modes * n_tiers
    if len(modes) != n_tiers:
        raise ConfigurationError(
            f"The cache mode {mode!r} is for {len(modes)} tiers, but the cache has {n_tiers}.",
            where="--cache-mode or `cache_mode`",
            fix="give one mode for all tiers, or one for each",
        )
    return modes


def open_tiers(
    places: Sequence[str | Path], settings: StoreSettings | None = None, *, writable: bool = True
) -> list[Tier]:
    """Open each place; nothing is made or requested yet.

    Parameters
    ----------
    places : sequence of str or Path
        Folders and URLs, the fastest first.
    writable : bool
        False reads only, whatever the modes are.

    Raises
    ------
    ConfigurationError, CacheError
        For settings or an address that cannot be used, and where a file lies in the place of a folder.
    """
    settings = settings or StoreSettings()
    within = inside_one_another(map(str, places))
    if within is not None:
        raise ConfigurationError(
            f"A tier of the cache lies inside another: {within[1]} in {within[0]}.",
            fix="give each tier a place of its own, beside the others",
        )
    keys = Keyring.load(settings.key_file)
    tiers = []
    for place, mode in zip(places, parse_modes(settings.mode, len(places)), strict=True):
        writes = writable and mode is Mode.READ_WRITE
        objects = open_objects(place, **settings.options(str(place)))
        if mode is not Mode.OFF:
            check_folder(objects.local_root)
        store = ArtifactStore(objects, verify=settings.verify, writable=writes, near=settings.near, keys=keys)
        tiers.append(Tier(store, mode if writable or mode is Mode.OFF else Mode.READ_ONLY))
    return tiers


def open_store(places: Sequence[str | Path], settings: StoreSettings | None = None, *, writable: bool = True) -> Store:
    """Open one place, or several as tiers; see `open_tiers`."""
    tiers = open_tiers(places, settings, writable=writable)
    if len(tiers) == 1 and tiers[0].mode is not Mode.OFF:
        return tiers[0].store
    return TieredStore(tiers)
