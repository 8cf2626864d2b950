"""What a worker needs beside the jobs themselves."""

from __future__ import annotations

from dataclasses import dataclass

from curidask.store.base import Store
from curidask.store.claims import Claims


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
    """

    store: Store
    run: str
    portable: bool
    claims: Claims | None = None
    work: str = ""
    session: str = ""
