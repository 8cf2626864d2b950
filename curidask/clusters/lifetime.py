"""The wall time of jobs, as each batch system writes it, and what workers are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curidask.errors import ConfigurationError

ENDS_AT = "CURIDASK_JOB_ENDS_AT"
"""The variable in which a job tells its workers when it ends, in seconds since the epoch."""

RESERVE_SHARE = 0.05
SHORTEST_RESERVE_SECONDS = 10.0
LONGEST_RESERVE_SECONDS = 600.0

LIFETIME = "--lifetime"
STAGGER = "--lifetime-stagger"

DAY, HOUR, MINUTE = 86_400, 3_600, 60

AFTER_DAYS = (HOUR, MINUTE, 1)
"""What they mean in SLURM's ``days-hours:minutes:seconds``."""


@dataclass(frozen=True)
class WallTimes:
    """How a batch system writes how long a job may run.

    Attributes
    ----------
    system : str
        Its name, for messages.
    units : mapping of int to tuple of int
        What the numbers between colons mean in seconds, by how many there are.
    takes_days : bool
        Whether there may be days and a dash before them.
    example : str
        What to write.
    """

    system: str
    units: Mapping[int, tuple[int, ...]]
    takes_days: bool = False
    example: str = "hours:minutes:seconds, such as '02:00:00'"

    def seconds(self, text: str, where: str) -> int | None:
        """How long a job may run; None for one without an end.

        Parameters
        ----------
        text : str
            As the batch system takes it.
        where : str
            For the message.

        Raises
        ------
        ConfigurationError
            For what the batch system would not understand.
        """
        if text.strip().upper() in ("", "INFINITE", "UNLIMITED"):
            return None
        days, dash, rest = text.strip().rpartition("-")
        numbers = rest.split(":")
        units = AFTER_DAYS if dash else self.units.get(len(numbers), ())
        texts = [*numbers, days] if dash else numbers
        right = len(numbers) <= len(units) and (self.takes_days or not dash)
        if not right or not all(number.isdecimal() for number in texts):
            raise ConfigurationError(
                f"The wall time {text!r} is none that {self.system} takes.", where=where, fix=f"write {self.example}"
            )
        seconds = sum(int(number) * unit for number, unit in zip(numbers, units, strict=False))
        return seconds + (int(days) * DAY if dash else 0)


def prologue(seconds: int) -> str:
    """The line of a job's script that tells its workers when it ends."""
    return f"export {ENDS_AT}=$(( $(date +%s) + {seconds} ))"


def lifetime_arguments(seconds: int, given: Sequence[str]) -> list[str]:
    """Arguments that let a worker leave before its job ends, each at another time; none where some were given."""
    if any(argument.partition("=")[0] == LIFETIME for argument in given):
        return []
    # dask scatters to both sides; the last ones leave just when the reserve begins.
    stagger = reserve(seconds) / 2
    lifetime = max(1.0, seconds - reserve(seconds) - stagger)
    return [LIFETIME, f"{lifetime:.0f}s", STAGGER, f"{stagger:.0f}s"]


def reserve(lifetime_seconds: float) -> float:
    """How long before the end of its job a worker leaves: time to hand on what it holds while another comes."""
    return min(max(lifetime_seconds * RESERVE_SHARE, SHORTEST_RESERVE_SECONDS), LONGEST_RESERVE_SECONDS)
