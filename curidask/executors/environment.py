"""What a worker needs beside the jobs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from curidask.errors import StageAccessError
from curidask.store.base import Store
from curidask.store.claims import Claims


@dataclass(frozen=True, slots=True)
class ManagerFacts:
    """What a stage sees of the manager: facts of the session that hold wherever the stage runs.

    Attributes
    ----------
    experiment_name, prefix, reference : str
        As of `curidask.manager.ArtifactManager`.
    cache_path : str
        The folder of the cache, or its URL where it is none.
    runs_path : str
        The folder of all runs, on the machine where the run was started.
    dry, dry_cache : bool
        Whether nothing is written, and whether nothing is stored.
    store_full : bool
        Whether the run keeps a copy of all that it uses.
    run_timestamp : datetime or None
        When the run was started.
    """

    experiment_name: str = ""
    prefix: str = ""
    reference: str = ""
    cache_path: str = ""
    runs_path: str = ""
    dry: bool = False
    dry_cache: bool = False
    store_full: bool = False
    run_timestamp: datetime | None = None

    def get_reference_name(self) -> str:
        """The name of the run: experiment, number, time."""
        return self.reference

    def __getattr__(self, name: str) -> Any:
        raise StageAccessError(
            f"A stage has no access to {name!r} of the manager.",
            where="record.manager, which in a stage holds "
            "experiment_name, prefix, reference, cache_path, runs_path, dry, dry_cache, store_full, run_timestamp",
            fix="a stage may run on another machine: give it what it needs as an input, a field of the parameter set "
            "or a keyword argument; for files use record.get_path(), for the report record.report()",
        )


@dataclass(frozen=True, slots=True)
class Environment:
    """What all jobs of a run share on a worker.

    Attributes
    ----------
    store : Store
    run : str
        Reference of the run, for manifests.
    portable : bool
        Values that are not stored must travel between processes, so they are pickled as soon as they are made.
    claims : Claims or None
        None where a store cannot create exclusively, and where nothing is stored.
    work : str
        Begins the names of working folders. Unlike the reference it is no other run's, wherever that was started.
    session : str
        Tells this run's jobs from those of others on workers that serve several.
    facts : ManagerFacts
        What stages see of the manager.
    """

    store: Store
    run: str
    portable: bool
    claims: Claims | None = None
    work: str = ""
    session: str = ""
    facts: ManagerFacts = ManagerFacts()
