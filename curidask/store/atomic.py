"""Writing a small file in one step: who reads it meanwhile gets the one before or the new one, whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put a file in the place of the one that is there, if any.

    Raises
    ------
    OSError
        Nothing is left beside it then.
    """
    beside = path.with_name(f".new-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", errors="replace"))
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
