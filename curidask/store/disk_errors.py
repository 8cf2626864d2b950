"""What the system says when a file cannot be read or written, in words that help."""

from __future__ import annotations

import errno

from curidask.errors import CacheError

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


def explain(error: OSError, action: str, name: str, url: str) -> CacheError:
    """The error to raise for one of the system: what could not be done, where, and what to do about it."""
    fix = _FIXES.get(error.errno or 0, "check that the place of the cache works, or choose another with --cache")
    return CacheError(f"The cache could not {action} {name!r}: {error.strerror or error}.", where=url, fix=fix)


def is_refused(error: BaseException | None) -> bool:
    """Whether the permission to do something is what was missing."""
    while error is not None:
        if isinstance(error, CacheError) and error.kind == "denied":
            return True
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return True
        error = error.__cause__ or error.__context__
    return False
