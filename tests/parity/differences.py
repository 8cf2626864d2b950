"""What differs on purpose, and whether it is all that differs."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parity.systems import Observed

TABLE = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Place:
    """Where something was observed, and what each holds there; None for nothing."""

    at: str
    curifactory: str | int | None
    curidask: str | int | None


@dataclass(frozen=True)
class Difference:
    """What differs of one script in one place.

    Attributes
    ----------
    script, at : str
        The case, and where: patterns as of a shell.
    curifactory, curidask : str, int or None
        What each does; None where there is nothing.
    reason : str
        A name of a reason in the table.
    """

    script: str
    at: str
    reason: str
    curifactory: str | int | None = None
    curidask: str | int | None = None

    def is_at(self, place: Place) -> bool:
        """Whether this is what was seen at a place of its script."""
        seen = (place.curifactory, place.curidask)
        return fnmatch.fnmatchcase(place.at, self.at) and seen == (self.curifactory, self.curidask)


def reasons() -> dict[str, str]:
    """Why things differ, by name."""
    return dict(_table()["reasons"])


def differences() -> list[Difference]:
    """All differences on purpose."""
    return [Difference(**entry) for entry in _table()["difference"]]


def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())


def places(theirs: Observed, ours: Observed) -> Iterator[Place]:
    """Where two observations differ."""
    for at in sorted(theirs.keys() | ours.keys()):
        if theirs.get(at) != ours.get(at):
            yield Place(at, theirs.get(at), ours.get(at))
