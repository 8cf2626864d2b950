"""Who is told how a run goes: displays, the run record, the log, tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from curidask.core.graph import Graph, Task
from curidask.core.planner import Plan
from curidask.execution.base import Outcome
from curidask.execution.process.context import Spoken


class Listener:
    """Who wants to know what happens; each event does nothing until a subclass says what.

    What one raises is a warning that names it, and the run goes on.

    Attributes
    ----------
    told_as : str
        How a warning names it; by default its class.
    prints : bool
        Whether it shows the user what stages print on workers.
    wants_causes : bool
        Whether it wants `told_causes`, which costs a look at the cache.
    """

    told_as: ClassVar[str] = ""
    prints: ClassVar[bool] = False

    @property
    def wants_causes(self) -> bool:  # noqa: D102
        return False

    def check_plan(self, graph: Graph, plan: Plan) -> None:
        """Raise when what is planned cannot be meant, before anybody is told of it."""

    def planned(self, graph: Graph, plan: Plan) -> None:
        """A plan was made, before any of it runs."""

    def told_causes(self, lines: Sequence[str], n_more: int) -> None:
        """Why stages run of which the cache has other artifacts: a line a cause, and how many causes are left out."""

    def started_executor(self, description: str) -> None:
        """The executor is up."""

    def told_load(self, text: str) -> None:
        """How many workers there are now, and what they take."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task ran, was found made, or failed."""

    def blocked(self, task: Task) -> None:
        """A task will not run since one before it failed."""

    def waiting(self, task: Task, holder: str) -> None:
        """Somebody else is computing the task; an empty holder says that it goes on."""

    def warned(self, text: str) -> None:
        """Something the user should know."""

    def said(self, task: Task | None, spoken: Spoken) -> None:
        """A stage printed something, or no stage did on a worker; may come from any thread."""

    def before_print(self) -> None:
        """A stage is about to print to this process's terminal."""
