"""The wall time of jobs, as each batch system writes it, and what workers are told of it."""

from __future__ import annotations

from collections.abc import Sequence

from curidask.errors import ConfigurationError

ENDS_AT = "CURIDASK_JOB_ENDS_AT"
"""The variable in which a job tells its workers when it ends, in seconds since the epoch."""

RESERVE_SHARE = 0.05
SHORTEST_RESERVE_SECONDS = 10.0
LONGEST_RESERVE_SECONDS = 600.0

LIFETIME = "--lifetime"
STAGGER = "--lifetime-stagger"

DAY, HOUR, MINUTE = 86_400, 3_600, 60

UNITS = {
    "slurm": {1: (MINUTE,), 2: (MINUTE, 1), 3: (HOUR, MINUTE, 1)},
    "pbs": {1: (1,), 2: (MINUTE, 1), 3: (HOUR, MINUTE, 1)},
    "sge": {1: (1,), 2: (MINUTE, 1), 3: (HOUR, MINUTE, 1)},
    "lsf": {1: (MINUTE,), 2: (HOUR, MINUTE)},
}
"""What the numbers between colons mean, by how many there are."""

AFTER_DAYS = (HOUR, MINUTE, 1)
"""What they mean in SLURM's ``days-hours:minutes:seconds``."""


def walltime_seconds(kind: str, text: str, where: str) -> int | None:
    """How long a job may run.

    Parameters
    ----------
    kind : str
        ``slurm``, ``pbs``, ``sge`` or ``lsf``.
    text : str
        As the batch system takes it.
    where : str
        For the message.

    Returns
    -------
    int or None
        Seconds; None for a job without an end.

    Raises
    ------
    ConfigurationError
        For what the batch system would not understand.
    """
    if text.strip().upper() in ("", "INFINITE", "UNLIMITED"):
        return None
    days, dash, rest = text.strip().rpartition("-")
    numbers = rest.split(":")
    units = AFTER_DAYS if dash else UNITS[kind].get(len(numbers), ())
    texts = [*numbers, days] if dash else numbers
    right = len(numbers) <= len(units) and (kind == "slurm" or not dash)
    if not right or not all(number.isdecimal() for number in texts):
        raise ConfigurationError(
            f"The wall time {text!r} is none that {kind} takes.",
            where=where,
            fix="write hours:minutes" if kind == "lsf" else "write hours:minutes:seconds, such as '02:00:00'",
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
