"""Whether a folder is its user's alone, so that nobody else can change what was checked in it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def is_private(folder: Path) -> bool:
    """Whether nobody but this user and root can change what lies in a folder, or put another in its place.

    That is by the permissions of the folder and of all around it, as they are now. One that is not there yet is private
    when this process would make it so, in a place where nobody else can make it first.
    """
    if not hasattr(os, "getuid"):
        return True
    return all(_is_private(place) for place in {os.path.abspath(folder), os.path.realpath(folder)})


def _is_private(folder: str) -> bool:
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if there != folder and _umask() & OF_OTHERS != OF_OTHERS:
        return False
    if not _is_ours(there) or os.stat(there).st_mode & OF_OTHERS:
        return False
    return all(_is_safe_above(str(place)) for place in Path(there).parents)


def _is_ours(place: str) -> bool:
    return os.stat(place).st_uid in (os.getuid(), 0)


def _is_safe_above(place: str) -> bool:
    """Whether others cannot rename what lies in a folder that is not theirs: it is not writable, or it is sticky."""
    mode = os.stat(place).st_mode
    return _is_ours(place) and (not mode & OF_OTHERS or bool(mode & stat.S_ISVTX))


def _umask() -> int:
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    umask = os.umask(0o077)  # there is no other way to ask, and threads that make files meanwhile make them private
    os.umask(umask)
    return umask
