"""Runs that were to compute anew what is cached, and were broken off: the same command goes on where they ended."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from curidask.errors import ProjectError
from curidask.runs.record import RunRecord
from curidask.runs.schema import read_record
from curidask.runs.status import read_status

BROKEN_OFF = ("failed", "interrupted", "died")


def broken_off(record: RunRecord, runs: Path) -> list[str]:
    """The runs right before one that were to compute the same anew in the same cache, none of which came to its end.

    Parameters
    ----------
    record : RunRecord
        Of the run that begins.
    runs : Path
        The folder of all runs.

    Returns
    -------
    list of str
        References, the last first; none for a run that computes nothing anew.
    """
    if not record.overwrites:
        return []
    wanted = json.loads(json.dumps({"options": record.options, "overwrites": record.overwrites, "cache": record.cache}))
    found: list[str] = []
    for reference in _before(record, runs):
        status = read_status(runs / reference)
        if status is None:  # nothing happened in it
            continue
        if status.status not in BROKEN_OFF or not _is_alike(runs / reference, wanted):
            break
        found.append(reference)
    return found


def _before(record: RunRecord, runs: Path) -> Iterator[str]:
    pattern = re.compile(rf"{re.escape(record.name)}_(\d{{1,9}})_")
    with suppress(OSError):
        numbers = {name: int(m[1]) for name in os.listdir(runs) if (m := pattern.match(name))}
        yield from (n for n in sorted(numbers, key=lambda n: -numbers[n]) if numbers[n] < record.number)


def _is_alike(folder: Path, wanted: Mapping[str, Any]) -> bool:
    with suppress(ProjectError):
        record = read_record(folder)
        return all(record.get(name) == value for name, value in wanted.items())
    return False
