"""How a run is to be carried out."""

from __future__ import annotations

from dataclasses import dataclass

from curidask.core.planner import Force

ALL = "all"


@dataclass(slots=True)
class Policy:
    """How a run is carried out.

    Attributes
    ----------
    force : Force
        What to recompute.
    prune : bool
        False for ``--no-dag``.
    writable : bool
        False for a dry run: nothing is stored.
    live : bool
        A live session: values stay until the end, and a failure is raised where it happens.
    fail_fast : bool
        Stop at the first failure.
    keep_going : bool
        Let aggregates run over the records that are left when some have failed.
    window : int
        Tasks in flight at most.
    accept_code : frozenset of str
        The stages whose results count as made by today's code; ``all`` for all of them.
    check_determinism : bool
        Run every task, and once more, and compare what comes out.
    """

    force: Force
    prune: bool = True
    writable: bool = True
    live: bool = False
    fail_fast: bool = False
    keep_going: bool = False
    window: int = 2048
    accept_code: frozenset[str] = frozenset()
    check_determinism: bool = False

    def accepts_code(self, stage: str) -> bool:
        """Whether results of a stage count as made by today's code."""
        return stage in self.accept_code or ALL in self.accept_code
