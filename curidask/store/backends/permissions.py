"""Who else may use what lies in a folder: what the umask of the writer and the folder itself say."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

USUAL_UMASK = 0o022


def shares_with_group(folder: str) -> bool:
    """Whether a folder is one for its group to work in: the group may write, and what is made in it is the group's.

    One that is not there yet will be as the one in which it is made.
    """
    mode = _mode(folder)
    while mode is None and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        mode = _mode(folder)
    return mode is not None and bool(mode & stat.S_IWGRP and mode & stat.S_ISGID)


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def open_for_group(folder: str) -> None:
    """Let the group of a folder work in it, as far as this user may say so."""
    _open_one(folder, group=True)


def open_up(path: str, *, group: bool) -> None:
    """Give a file, or a folder with all in it, the permissions that it would have had if it had been made in its place.

    Some libraries make files that only their owner can read, whatever the umask says.

    Parameters
    ----------
    path : str
    group : bool
        Whether the group may do what the owner may.
    """
    _open_one(path, group=group)
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                _open_one(f"{folder}/{name}", group=group)


def _open_one(path: str, *, group: bool) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    is_folder = os.path.isdir(path)
    usual = (0o777 if is_folder else 0o666) & ~_umask()
    wanted = mode | (usual & ~0o200)
    if group:
        wanted |= (mode & 0o700) >> 3 | (stat.S_ISGID if is_folder else 0)
    if wanted != mode:
        with suppress(PermissionError):  # another owner's, who has opened it himself
            os.chmod(path, wanted)


def make_folders(folder: str, root: str, *, group: bool) -> None:
    """Make a folder in a root, and those between them; also the root."""
    missing = []
    path = folder
    while len(path) >= len(root) and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    for made in missing if group else ():
        _open_one(made, group=True)


@cache
def _umask() -> int:
    """What this process takes away from what it makes, asked without changing it: another thread may make something."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return USUAL_UMASK
