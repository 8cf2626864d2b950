"""What an executor is, and the values that travel between the runner and the workers.

A `Job` is a task made self-contained: it names its inputs by where they are, so a worker needs no graph. All of it
pickles, and none of it holds user code but the parameter sets, the cachers and the keyword arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from curidask.core.artifact_names import safe_part
from curidask.core.graph import GivenFile, Literal, RecordInfo
from curidask.core.keywords import CheckedCalls, keywords, nearly
from curidask.core.spec import StageSpec
from curidask.errors import StageAccessError
from curidask.store.base import Store
from curidask.store.claims import Claims, Held


# --- what a worker needs beside the jobs themselves ------------------------------------------------------------------
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


# --- base ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Stored:
    """An input that lies in the store.

    Attributes
    ----------
    task : int
        The task that made it, to be named when it turns out to be gone.
    name, stem, key : str
        Its name in the state, in the store, and its key.
    cacher : type or object
        What loads it.
    lazy : bool
        Whether the stage gets the `Lazy` itself rather than the value.
    siblings : tuple of str
        The store names of what the same call made with it.
    """

    task: int
    name: str
    stem: str
    key: str
    cacher: Any
    stage: str
    record: RecordInfo
    lazy: bool = False
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passed:
    """An input that an earlier job of this run holds in memory.

    Attributes
    ----------
    task, index : int
        The job, and the place among its outputs.
    key : str
        Its artifact key.
    shared : bool
        Whether it may be read more than once, so that a reader needs a copy of its own: a stage that changes its input
        in place must not change what the next one sees.
    """

    task: int
    index: int
    key: str
    shared: bool


Source = Stored | Passed | Literal


class Keep(Enum):
    """What happens to an output."""

    COMMIT = "commit"
    """It is stored; readers load it."""
    ROUND_TRIP = "round trip"
    """It goes through its cacher, so that readers see what a stored one would give, but nothing is stored (dry run)."""
    PASS = "pass"
    """It stays in the worker's memory."""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """One output of a job.

    Attributes
    ----------
    cacher : type or object
        What stores it.
    stem : str
        Its name in the store.
    shared : bool
        Whether it may be read more than once.
    """

    name: str
    key: str
    keep: Keep
    cacher: Any = None
    stem: str = ""
    shared: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A task as a worker gets it.

    Attributes
    ----------
    id : int
        The task in the graph.
    key : str
        The task's key.
    inputs : mapping of str to Source
        Parameter name of the function to where its value is.
    kwargs : mapping of str to Literal
        The keyword arguments of the call.
    gathered : tuple of (RecordInfo, mapping of str to Source)
        For an aggregate: its records with what it may read of each.
    marker : JobOutput
        What the stage writes beside its outputs. It goes with the first stored output, or is stored by itself.
    stored : bool
        Whether all that it makes is stored, so that others may want to make it too: it is claimed first.
    reusable : bool
        Look into the store first: somebody may have made it since the plan.
    alike : tuple of tuple of str
        For each output the store names of what the stage made for such a record under other keys.
    accepts_code : bool
        Take over what other code has made, too.
    is_suspect : bool
        What was there when it was planned may have been made from other contents than its inputs have now.
    supersedes : int
        The generation of a claim on it whose lease was seen to end.
    expected_seconds : float
        How long its stage took at most in this run so far; 0 for unknown.
    components : mapping
        The parts of the key, for the manifest.
    given : tuple of GivenFile
        Files to load in place of calling the function.
    checks : bool
        Compute it once more and compare what comes out.
    commits : bool
        Store what it makes. False for what only a check runs, and what the store holds as far as it is stored.
    """

    id: int
    key: str
    spec: StageSpec
    record: RecordInfo
    inputs: Mapping[str, Source]
    gathered: tuple[tuple[RecordInfo, Mapping[str, Source]], ...]
    kwargs: Mapping[str, Literal]
    outputs: tuple[JobOutput, ...]
    marker: JobOutput
    prefix: str
    stored: bool
    reusable: bool
    components: Mapping[str, Any]
    supersedes: int = -1
    expected_seconds: float = 0.0
    given: tuple[GivenFile, ...] = ()
    is_suspect: bool = False
    alike: tuple[tuple[str, ...], ...] = ()
    accepts_code: bool = False
    checks: bool = False
    commits: bool = True

    @property
    def sources(self) -> list[Source]:
        """All that it reads."""
        return [*self.inputs.values(), *(s for _, named in self.gathered for s in named.values())]

    @property
    def passed(self) -> dict[int, None]:
        """The jobs whose values it reads from memory, in a stable order."""
        return {source.task: None for source in self.sources if isinstance(source, Passed)}

    @property
    def needs(self) -> set[int]:
        """The tasks on which it depends directly."""
        return {source.task for source in self.sources if not isinstance(source, Literal)}

    def check_unchanged(self, known: dict[Any, str] | None = None) -> None:
        """Raise when something that it was called with is no copy, and was changed since.

        Parameters
        ----------
        known : dict, optional
            For several jobs at once, see `curidask.core.graph.Watch.check`.

        Raises
        ------
        ValueChangedError, ParametersChangedError
        """
        known = {} if known is None else known
        named = [self.inputs, self.kwargs, *(sources for _, sources in self.gathered)]
        literals = [value for values in named for value in values.values() if isinstance(value, Literal)]
        records = [self.record, *(info for info, _ in self.gathered)]
        for watch in (*(given.watch for given in literals), *(info.watch for info in records)):
            if watch is not None:
                watch.check(self.label, known)

    @property
    def label(self) -> str:
        """Stage and record, for messages."""
        return f"stage {self.spec.name!r} of {self.record.label}"


class Kind(Enum):
    """How a job ended. With `UNCHANGED`, what was there before is what would be made, of the same contents."""

    DONE = "done"
    FOUND = "found"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INPUT_LOST = "input lost"
    INPUT_UNAVAILABLE = "input unavailable"
    HELD = "held by another"


MADE = (Kind.DONE, Kind.FOUND, Kind.UNCHANGED)
"""How a job ends whose outputs are there."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception in a form that always pickles.

    Attributes
    ----------
    type, message : str
        The class's name and the message.
    traceback_text : str
        The user's frames, formatted.
    fix : str
        Advice, for errors that have it.
    exception : BaseException or None
        The exception itself where it could travel.
    output : str
        What the stage printed last, when its process was killed.
    """

    type: str
    message: str
    traceback_text: str = ""
    fix: str = ""
    exception: BaseException | None = None
    output: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What is said of a stored output after a job: for progress, history and the report.

    Attributes
    ----------
    name, stem : str
        The output, and its store name.
    content : str
        What `curidask.store.manifest.Manifest.content` says.
    made_from : mapping of str to str
        The contents that it was made from, by their keys.
    tags : mapping of str to str
        How its manifest looks in the listings of the places where it was stored now, by their URLs.
    run : str
        The run that made it.
    files : tuple of str
        Its files in the store.
    """

    name: str
    stem: str
    size_bytes: int
    digest: str
    preview: str
    run: str = ""
    files: tuple[str, ...] = ()
    content: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reported:
    """A reportable as it was when a stage reported it: rendered there and plain, so that it travels and can be kept.

    Attributes
    ----------
    name : str
        Its title.
    group : str
        The group it is shown in, empty for none.
    kind : str
        The class that rendered it.
    html : str
        A fragment to show; it names the files as ``FILES_PREFIX + name``.
    files : mapping of str to bytes
        What the fragment shows or links to, by name.
    input_record : int or None
        The place of the record that it was reported on among those that went into the stage's own; None for that one.
    """

    name: str
    group: str
    kind: str
    html: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    input_record: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a second computation showed of a stage.

    Attributes
    ----------
    kind : str
        ``output`` or ``file`` for what came out another time; ``cached`` for an output of which the cache holds another
        than two computations now agree on; ``input`` for what the stage changed in place; ``error`` when it failed.
    name : str
        Of the output, file or input.
    detail : str
        The beginnings of the two digests; the error.
    """

    kind: str
    name: str
    detail: str = ""


FILES_PREFIX = "curidask-files:"
"""How a reportable's fragment names its files, wherever they will lie."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, small enough to send for each.

    Attributes
    ----------
    seconds : float
        Wall time of the stage's own function and of storing its outputs.
    worker : str
        Which process ran it.
    lost : tuple of int
        For INPUT_LOST: the tasks whose artifacts are gone.
    warnings : tuple of str
        What the user should see (a damaged artifact that was noticed, for one).
    reported : tuple of Reported
        What the stage reported. Of a stage that was found made, what it reported lies in the store.
    held : Held or None
        For HELD: who is computing it.
    peak_bytes : int
        The most memory that its process had meanwhile; 0 when it is not known, as of a job that was over too soon.
    findings : tuple of Finding, or None
        What its second computation showed; None when there was none.
    """

    task: int
    kind: Kind
    seconds: float = 0.0
    worker: str = ""
    error: ErrorInfo | None = None
    lost: tuple[int, ...] = ()
    artifacts: tuple[ArtifactInfo, ...] = ()
    warnings: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    held: Held | None = None
    peak_bytes: int = 0
    findings: tuple[Finding, ...] | None = None


MADE_FROM = -1


@dataclass(frozen=True, slots=True)
class JobResult:
    """An outcome with the values that are not stored (packed for travel), by place among the outputs.

    Under `MADE_FROM` stand the contents that the values were made from, by key: whoever stores what is made of them
    stands on those.
    """

    outcome: Outcome
    values: Mapping[int, Any] = field(default_factory=dict)

    def __sizeof__(self) -> int:
        # By this dask decides what to keep in memory, and where a job runs that reads it.
        return object.__sizeof__(self) + sum(map(sys.getsizeof, self.values.values()))


class ValueGoneError(Exception):
    """A value that is not stored is not held any more. It is raised and caught here; no user sees it."""


class Executor(Protocol):
    """Carries out jobs.

    Jobs come in an order in which each follows what it depends on. An executor may run them in any order that keeps to
    that, in any number of processes.
    """

    n_workers: int

    @property
    def description(self) -> str:
        """Where the jobs run, in words, with the dashboard's address where there is one."""
        ...

    def check(self, specs: Iterable[StageSpec]) -> None:
        """Refuse stages that could never run here, before they are submitted.

        Raises
        ------
        DemandError
        """
        ...

    def submit(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> None:
        """Take jobs; `after` names, for each, the earlier jobs it must wait for."""
        ...

    def poll(self, timeout_seconds: float | None = None) -> list[Outcome]:
        """Wait for at least one job to end (or the timeout) and return what ended."""
        ...

    def fetch(self, task: int, index: int) -> Any:
        """Return a value that is not stored.

        Raises
        ------
        ValueGoneError
            When it was released or lost.
        """
        ...

    def release(self, tasks: Iterable[int]) -> None:
        """Forget the values of these jobs."""
        ...

    def warnings(self) -> list[str]:
        """What happened to the workers since the last call (a death, for one)."""
        ...

    def load(self) -> str:
        """How many workers there are now and what they take, in words; empty where that is not worth a word."""
        return ""

    def close(self, *, now: bool = False) -> None:
        """End the workers; `now` for those in the middle of a job too."""
        ...
