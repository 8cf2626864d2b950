"""What the system says when a file cannot be read or written, in words that help."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from curidask.errors import CacheError

SET_ANOTHER = "name one on another disk in the variable TMPDIR, on each machine that computes"
FULL_BYTES = 1 << 20
"""A disk with less counts as full: what did not fit may have been larger than what is left."""

_FIXES = {
    errno.ENOSPC: "free space on its disk, or choose another cache with --cache; what is committed stays",
    errno.EDQUOT: "free space within your quota, or choose another cache with --cache; what is committed stays",
    errno.EFBIG: "raise the limit on file sizes, or choose another cache with --cache; what is committed stays",
    errno.EACCES: "ask for the right to it, or choose another cache with --cache; --dry-cache only reads",
    errno.EPERM: "ask for the right to it, or choose another cache with --cache; --dry-cache only reads",
    errno.EROFS: "it is read-only: choose another cache with --cache, or only read with --dry-cache",
    errno.ENAMETOOLONG: "use shorter names for stages, outputs, the prefix, suffixes or folders",
    errno.ENOTDIR: "a file lies where a folder is needed: move it away, or choose another cache with --cache",
    errno.EEXIST: "a file lies where a folder is needed: move it away, or choose another cache with --cache",
    errno.EISDIR: "a folder lies where a file is needed: move it away, or choose another cache with --cache",
}

OTHER_FIX = "check that the place of the cache works, or choose another with --cache"


def explain(error: OSError, action: str, name: str, url: str) -> CacheError:
    """The error to raise for one of the system: what could not be done, where, and what to do about it."""
    fix = what_is_full(error, url) or _FIXES.get(error.errno or 0, OTHER_FIX)
    return CacheError(f"The cache could not {action} {name!r}: {error.strerror or error}.", where=url, fix=fix)


def check_folder(root: str | os.PathLike[str] | None) -> None:
    """Raise a `CacheError` where something else than a folder lies in the place of a cache's folder."""
    if root is not None and os.path.exists(root) and not os.path.isdir(root):
        error = explain(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), "use", str(root), str(root))
        error.ran_nothing = True
        raise error


def what_is_full(error: BaseException, place: str = "") -> str:
    """What to do when it is the folder for temporary files that is full, naming it; empty for all else.

    Parameters
    ----------
    error : BaseException
    place : str
        The folder that was to be written to; on the same disk it is no less full.
    """
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return f"no folder for temporary files can be written to: free space in one of them, or {SET_ANOTHER}"
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    folder = tempfile.gettempdir()
    named = os.fspath(error.filename) if isinstance(error.filename, str) else ""
    is_named = Path(named).is_relative_to(folder) if named else False
    if not is_named and (not _is_full(folder) or (place and _is_same_disk(folder, place))):
        return ""
    return f"the folder for temporary files, {folder}, is full: free space there, or {SET_ANOTHER}"


def _is_full(folder: str) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < FULL_BYTES or (found.f_files > 0 and found.f_favail == 0)


def _is_same_disk(folder: str, other: str) -> bool:
    try:
        return os.stat(folder).st_dev == os.stat(other).st_dev
    except OSError:  # not there, or no folder
        return False


def is_refused(error: BaseException | None) -> bool:
    """Whether the permission to do something is what was missing."""
    while error is not None:
        if isinstance(error, CacheError) and error.kind == "denied":
            return True
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return True
        error = error.__cause__ or error.__context__
    return False
