"""A run that somebody else has started without a terminal tells what it is called."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

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
