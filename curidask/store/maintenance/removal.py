"""Removing objects of which some may not be removed: what belongs to others is named, and all else goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from curidask.errors import CacheError
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.disk_errors import is_refused


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
