"""What a worker needs beside the jobs themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from curidask.core.artifact_names import safe_part
from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.near_names import nearly
from curidask.errors import StageAccessError
from curidask.store.base import Store
from curidask.store.claims import Claims


@dataclass(frozen=True, slots=True)
class ManagerFacts(CheckedCalls):
    """What a stage sees of the manager: facts of the session, as they were when its first stage ran.

    They hold wherever the stage runs; paths are those of the machine where the run was started.

    Attributes
    ----------
    experiment_name, prefix, reference, experiment_run_number, run_timestamp, run_line, notes, hostname, git_commit_hash
        As of `curidask.manager.ArtifactManager`.
    cache_path : str
        The folder of the cache, or its URL where it is none.
    runs_path, logs_path, reports_path, notebooks_path : str
        The folders of all runs, logs, reports and notebooks.
    dry, dry_cache : bool
        Whether nothing is written, and whether nothing is stored.
    store_full : bool
        Whether the run keeps a copy of all that it uses.
    lazy, ignore_lazy, overwrite, overwrite_stages
        As of the manager.
    map_mode : bool
        False: in a map no stage runs.
    """

    experiment_name: str = ""
    prefix: str = ""
    reference: str = ""
    cache_path: str = ""
    runs_path: str = ""
    logs_path: str = ""
    reports_path: str = ""
    notebooks_path: str = ""
    dry: bool = False
    dry_cache: bool = False
    store_full: bool = False
    lazy: bool = False
    ignore_lazy: bool = False
    overwrite: bool = False
    overwrite_stages: tuple[str, ...] = ()
    experiment_run_number: int = 0
    run_timestamp: datetime | None = None
    run_line: str = ""
    notes: str = ""
    hostname: str = ""
    git_commit_hash: str = ""
    map_mode: bool = False

    @classmethod
    def of(cls, manager: Any) -> ManagerFacts:
        """The facts as they are now."""
        known = {each.name: getattr(manager, each.name) for each in fields(cls)}
        return cls(**{**known, "overwrite_stages": tuple(manager.overwrite_stages), "dry_cache": not manager.writable})

    def get_reference_name(self) -> str:
        """The name of the run: experiment, number, time."""
        return self.reference

    def get_str_timestamp(self) -> str:
        """When the run began, as in its reference."""
        return self.reference.rpartition("_")[2]

    @keywords()
    def get_run_output_path(self, obj_name: str | None = None) -> str:
        """The folder of this run, made by now, or a path in it."""
        path = os.path.join(self.runs_path, self.reference, obj_name or "")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path if obj_name else os.path.dirname(path)

    @keywords()
    def get_artifact_path(
        self,
        obj_name: str,
        record: Any,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
    ) -> str:
        """The same as `get_path` of the record."""
        path: str = record.get_path(obj_name, subdir, prefix, stage_name)
        return path

    @keywords()
    def get_artifact_filename(
        self, obj_name: str, record: Any, prefix: str | None = None, stage_name: str | None = None
    ) -> str:
        """How the name of a file begins that belongs to a record: ``prefix_hash_stage_name``."""
        stage = stage_name or (record.stages[-1] if record.stages else None)
        return "_".join(map(safe_part, filter(None, (prefix or self.prefix, record.get_hash(), stage, obj_name))))

    def __getattr__(self, name: str) -> Any:
        near = nearly(name, dir(type(self)))
        raise StageAccessError(
            f"A stage has no access to {name!r} of the manager.",
            where=f"record.manager, which in a stage holds {', '.join(each.name for each in fields(self))}",
            fix=f"did you mean {near!r}?"
            if near
            else "a stage may run on another machine: give it what it needs as an input, a field of the parameter set "
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
