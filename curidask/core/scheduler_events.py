"""What a run's state machine is told, and what it says is to be done."""

from __future__ import annotations

from dataclasses import dataclass

from curidask.core.planner import Plan


# --- events ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was made; its RUN tasks are to be carried out.

    `keep` names tasks whose values are to be read from outside, so they stay when their last dependent is done.
    """

    plan: Plan
    keep: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Finished:
    """The task's outputs are there, computed now or found made by somebody else."""

    task: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised."""

    task: int


@dataclass(frozen=True, slots=True)
class InputLost:
    """The task did not run: what these tasks had made is gone or damaged."""

    task: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InputUnavailable:
    """The task did not run because a task before it in the same submission did not finish."""

    task: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The executor could not take these tasks, and raised."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """The task did not run because somebody else is computing it."""

    task: int


@dataclass(frozen=True, slots=True)
class Freed:
    """Whoever was computing the task has given up or died."""

    task: int


@dataclass(frozen=True, slots=True)
class OutputLost:
    """What a finished task had made is gone or damaged, noticed by a reader outside of the run's tasks."""

    task: int


@dataclass(frozen=True, slots=True)
class ReadingEnded:
    """Nobody outside of the run's tasks reads values any more."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Others were planned in the place of these tasks: an aggregate over fewer records, and what depends on it."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Of what an aggregate gathers, nothing is left."""

    task: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user wants the run to end now."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """After an interrupt, more is to be made; what was held in memory is gone."""


Event = (
    Planned
    | Finished
    | Failed
    | ReadingEnded
    | InputLost
    | InputUnavailable
    | Refused
    | HeldElsewhere
    | Freed
    | OutputLost
    | Replaced
    | Hopeless
    | Interrupted
    | Resumed
)


# --- instructions ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Submit:
    """Hand these tasks to the executor, in this order; what they depend on is available or submitted before them."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing will read the values of these tasks any more."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replan:
    """Plan these tasks anew: their artifacts are gone although a plan counted on them."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """These tasks will not run, since one they depend on failed."""

    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task was tried too often while its inputs kept getting lost: report it as failed."""

    task: int


@dataclass(frozen=True, slots=True)
class Reduce:
    """Plan another aggregate in the place of this one: over the records of which nothing has failed.

    One that was replaced meanwhile, with another that it depends on, stays replaced.
    """

    task: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop everything that is submitted."""


Instruction = Submit | Release | Replan | Block | GiveUp | Reduce | Cancel
