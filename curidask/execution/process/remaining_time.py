"""How long a worker has still to live: one that is a job of a batch system ends with the job's wall time.

A stage that would not come to its end there is not started there. The worker leaves instead, in good order, and the
stage goes to another one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from curidask.clusters.lifetime import ENDS_AT, reserve
from curidask.execution.base import Job
from curidask.execution.stage_call import grace


@dataclass(slots=True)
class Lifetime:
    """What is left to a worker process.

    Attributes
    ----------
    ends_at : float
        When no stage may run any more, in seconds since the epoch; 0 for a worker that has no end.
    whole_seconds : float
        How long one that has just started has.
    longest : dict of str to float
        How long each stage took here at most, in seconds.
    """

    ends_at: float = 0.0
    whole_seconds: float = 0.0
    longest: dict[str, float] = field(default_factory=dict)

    def needs(self, job: Job) -> float:
        """How many seconds a job may take: what its stage declares, else what such a stage took before; 0 unknown.

        A stage that took longer than any worker lives is tried all the same: it may have been held up.
        """
        declared = job.spec.options.timeout_seconds
        if declared is not None:
            return declared + grace(declared)
        expected = max(job.expected_seconds, self.longest.get(job.spec.name, 0.0))
        return expected if expected < self.whole_seconds else 0.0

    def allows(self, job: Job) -> bool:
        """Whether a job comes to its end in what is left."""
        return not self.ends_at or time.time() + self.needs(job) <= self.ends_at

    def took(self, job: Job, seconds: float) -> None:
        """Remember how long a job took."""
        self.longest[job.spec.name] = max(seconds, self.longest.get(job.spec.name, 0.0))


def lifetime_of(started_at: float, lifetime_seconds: float | None) -> Lifetime:
    """What a worker process has.

    Parameters
    ----------
    started_at : float
        When the process started, in seconds since the epoch.
    lifetime_seconds : float or None
        What dask's ``--lifetime`` gives it; None for no limit.
    """
    ends = [started_at + lifetime_seconds] if lifetime_seconds else []
    told = os.environ.get(ENDS_AT, "")
    if told.isdigit():
        left = int(told) - started_at
        ends.append(int(told) - reserve(left))
    if not ends:
        return Lifetime()
    return Lifetime(min(ends), max(0.0, min(ends) - started_at))


_here: dict[int, Lifetime] = {}


def here() -> Lifetime:
    """What is left to this process."""
    return _here.get(os.getpid(), Lifetime())


def set_up(lifetime: Lifetime) -> None:
    """Say what is left to this process."""
    _here.setdefault(os.getpid(), lifetime)
