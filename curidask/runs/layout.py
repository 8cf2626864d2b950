"""Files of records outside of stages: where they lie, and copying them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from curidask.core.artifact_names import safe_part
from curidask.errors import CacheError


def plain_path(
    folder: Path, prefix: str, params_hash: str, stage: str | None, obj_name: str, subdir: str | None
) -> str:
    """The path of a file that is no artifact.

    Parameters
    ----------
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


# --- a run that somebody else has started without a terminal tells what it is called ---------------------------------
ANNOUNCE = "CURIDASK_ANNOUNCE"
"""The variable that names an empty file in the folder of logs, for the run to write its reference into."""

OUTPUT = ".out"
"""How the file ends that the run prints to: beside the other one, and then beside its log."""


def output_beside(file: Path, reference: str) -> Path:
    """What a run has printed, as that lies beside another file."""
    return file.with_name(reference + OUTPUT)


def announce(reference: str) -> None:
    """Tell who has started this process what it is called, if somebody wants to know, and give its output that name."""
    told = os.environ.pop(ANNOUNCE, "")
    if not told:
        return
    file = Path(told)
    with suppress(OSError):  # somebody has moved it; nothing but a name is lost
        os.replace(file.with_suffix(OUTPUT), output_beside(file, reference))
    with suppress(OSError):
        if file.exists():  # else nobody waits any more
            file.write_text(reference)
