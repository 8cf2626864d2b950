"""Files of records outside of stages: where they lie, and copying them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from curidask.core.artifact_names import safe_part
from curidask.errors import CacheError


def plain_path(
    folder: Path, prefix: str, params_hash: str, stage: str | None, obj_name: str, subdir: str | None
) -> str:
    """The path of a file that is no artifact.

    Parameters
    ----------
    folder : Path
    prefix, params_hash, stage, obj_name : str
        The parts of its name.
    subdir : str, optional
        Folders below `folder`, separated by ``/``.
    """
    folders = [safe_part(part) for part in (subdir or "").split("/") if part]
    parts = [safe_part(part) for part in (prefix, params_hash, stage, obj_name) if part]
    return os.path.join(folder, *folders, "_".join(parts))


def copy_path(source: str, target: str) -> None:
    """Copy a file, or a folder with all in it, in place of what is there.

    Raises
    ------
    CacheError
    """
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            beside = f"{target}.{os.getpid()}"
            shutil.copyfile(source, beside)
            os.replace(beside, target)
    except OSError as error:
        raise CacheError(
            f"A file of the run could not be copied: {error.strerror or error}.",
            where=f"{source} to {target}",
            fix="free space, or make the folder writable",
        ) from error
