"""What a stage may ask for beside its inputs: retries, time, memory, resources, priority.

None of it decides what a stage computes, so none of it enters a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curidask.errors import StageDefinitionError

MEMORY = "MEMORY"
"""The resource by which stages that name their memory find a worker."""

LIFETIME = "LIFETIME"
"""How many seconds a worker lives that is a job of a batch system."""

UNITS = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
"""Bytes by unit, in small letters."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a stage asks for.

    Attributes
    ----------
    retries : int
        How often an exception is followed by another attempt.
    resources : tuple of (str, float)
        What a worker must have free of each resource, by name, sorted.
    memory_bytes : int
        The memory that a worker must have; 0 when it does not matter.
    timeout_seconds : float or None
        How long the function may run.
    priority : float
        Stages of a higher one go first.
    """

    retries: int = 0
    resources: tuple[tuple[str, float], ...] = ()
    memory_bytes: int = 0
    timeout_seconds: float | None = None
    priority: float = 0

    @property
    def demands(self) -> dict[str, float]:
        """What a worker must have, as dask's resources."""
        return dict(self.resources) | ({MEMORY: self.memory_bytes} if self.memory_bytes else {})


NO_OPTIONS = StageOptions()


def read_options(given: Mapping[str, Any], where: str) -> StageOptions:
    """Check options as they are written in ``@stage(...)``.

    Parameters
    ----------
    given : mapping of str to object
    where : str
        The place of the definition.

    Raises
    ------
    StageDefinitionError
        For a value that cannot be used.
    """
    values = {name: value for name, value in given.items() if value is not None}
    return StageOptions(
        retries=_retries(values.get("retries", 0), where),
        resources=_resources(values.get("resources", {}), where),
        memory_bytes=_memory(values["memory"], where) if "memory" in values else 0,
        timeout_seconds=_seconds(values["timeout_seconds"], where) if "timeout_seconds" in values else None,
        priority=_number(values.get("priority", 0), "priority", where, "give a number; the default is 0"),
    )


def read_bytes(value: Any) -> int:
    """A number of bytes out of a number or a text such as ``"8GB"`` (powers of 1000) or ``"8GiB"`` (of 1024).

    Raises
    ------
    ValueError
        For anything else, and for what is not more than nothing.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = UNITS.get((match[2] or "b").lower()) if match else None
        size = float(match[1]) * unit if match and unit else 0.0
    else:
        size = float(value) if _is_number(value) else 0.0
    if size < 1:
        raise ValueError(f"{value!r} is no size")
    return int(size)


def format_bytes(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _retries(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise _bad("retries", value, where, "give a whole number from 0 on")
    return value


def resources_problem(value: Any) -> str:
    """What to write instead of resources that cannot be used; empty for those that can."""
    if isinstance(value, Mapping) and LIFETIME in value:
        return "LIFETIME is what curidask keeps there of a worker's time; give the resource another name"
    if isinstance(value, Mapping) and MEMORY in value:
        return 'write `memory="8GB"` for memory'
    fits = isinstance(value, Mapping) and all(
        isinstance(name, str) and name and _is_number(amount) and amount > 0 for name, amount in value.items()
    )
    return "" if fits else 'give names with numbers above 0, such as {"GPU": 1}'


def _resources(value: Any, where: str) -> tuple[tuple[str, float], ...]:
    problem = resources_problem(value)
    if problem:
        raise _bad("resources", value, where, problem)
    return tuple(sorted((name, float(amount)) for name, amount in value.items()))


def _memory(value: Any, where: str) -> int:
    try:
        return read_bytes(value)
    except ValueError:
        fix = 'write `memory="8GB"` (or MB, GiB, ...), or a number of bytes'
        raise _bad("memory", value, where, fix) from None


def _seconds(value: Any, where: str) -> float:
    fix = "give a number of seconds, more than 0"
    seconds = _number(value, "timeout_seconds", where, fix)
    if seconds <= 0:
        raise _bad("timeout_seconds", value, where, fix)
    return seconds


def _number(value: Any, name: str, where: str, fix: str) -> float:
    if not _is_number(value):
        raise _bad(name, value, where, fix)
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(name: str, value: Any, where: str, fix: str) -> StageDefinitionError:
    return StageDefinitionError(f"`{name}` is {value!r}.", where=where, fix=fix)
