"""Where the descriptors of the standard streams lead: native code and child processes write past `sys.stdout`."""

from __future__ import annotations

import os
from collections.abc import Callable

NUMBERS = (0, 1, 2)

Target = tuple[int, int]
"""Device and number of what a descriptor leads to."""


class _Copy:
    """A second descriptor to the same, open for as long as anybody may want it back."""

    def __init__(self, number: int, target: Target) -> None:
        self.target = target
        self.number = os.dup(number)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.number)


_copies: dict[int, _Copy] = {}
"""By descriptor; they last, so that what nobody changes costs a look and no copy."""


class Descriptors:
    """Where they lead now; what is closed then may be anything later."""

    def __init__(self) -> None:
        self._copies = {number: _copy_of(number, target) for number in NUMBERS if (target := _target(number))}

    def have_changed(self) -> bool:
        """Whether one leads elsewhere, or was closed."""
        return any(_target(number) != copy.target for number, copy in self._copies.items())

    def put_back(self) -> None:
        """Lead those that have changed to where they led."""
        for number, copy in self._copies.items():
            if _target(number) != copy.target:
                os.dup2(copy.number, number)


def _target(number: int) -> Target | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copy_of(number: int, target: Target) -> _Copy:
    known = _copies.get(number)
    if known is None or known.target != target:
        known = _copies[number] = _Copy(number, target)
    return known
