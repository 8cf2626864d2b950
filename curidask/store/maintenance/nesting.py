"""A cache inside another: one may lie in a folder of the other, whose listings then show its objects too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import stem_of
from curidask.errors import CacheError
from curidask.store.backends.addresses import split_address
from curidask.store.backends.conditional_put import MARKER
from curidask.store.maintenance.usage import RUNS
from curidask.store.manifest import Manifest


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
    """The cache that the place lies in; empty where there is none to be seen.

    Parameters
    ----------
    objects : ObjectStore
    """
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
