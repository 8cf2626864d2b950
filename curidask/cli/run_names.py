"""Which run is meant by what stands for it on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from curidask.errors import SelectionError
from curidask.store.untrusted import printable

LATEST = "latest"
NEAR = 5


@dataclass(frozen=True, slots=True)
class Named:
    """A run by its experiment, and when it began: seconds since 1970."""

    experiment: str
    started: float


def reference_of(asked: str, runs: Mapping[str, Named], where: str) -> str:
    """The reference of the run that is meant: by itself, its beginning, an experiment for its last run, or `LATEST`.

    Parameters
    ----------
    asked : str
    runs : mapping of str to Named
        Those that there are, by their references.
    where : str
        For messages.

    Raises
    ------
    SelectionError
        When there is none, with near ones.
    """
    if asked in runs:
        return asked
    of_run = [r for r, run in runs.items() if run.experiment == asked or r.startswith(f"{asked}_")]
    found = of_run or [r for r in runs if asked and r.startswith(asked)] or (list(runs) if asked == LATEST else [])
    if not found:
        newest = sorted(runs, key=lambda reference: -runs[reference].started)
        experiments = {run.experiment for run in runs.values()}
        near = difflib.get_close_matches(asked, [*newest, *experiments], n=NEAR, cutoff=0.5) or newest[:NEAR]
        fix = f"give one of {', '.join(map(printable, near))}; or `{LATEST}`. " if near else ""
        raise SelectionError(
            f"There is no run {asked!r}.", where=where, fix=f"{fix}`curidask runs` lists those that are there"
        )
    return max(found, key=lambda reference: runs[reference].started)
