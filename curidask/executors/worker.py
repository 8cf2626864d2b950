"""Run one job: look, load, call, commit. Every executor runs jobs through `run_job`, so semantics cannot drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curidask.errors import ArtifactDamagedError, ArtifactMissingError
from curidask.executors.base import ArtifactInfo, ErrorInfo, Job, JobResult, Keep, Kind, Outcome, Reported, Stored
from curidask.executors.calling import call_stage, with_retries
from curidask.executors.describe import describe_error, worker_name
from curidask.executors.environment import Environment
from curidask.executors.given_files import load_given
from curidask.executors.inputs import InputLostSignal, Inputs
from curidask.executors.outputs import OutputKeeper
from curidask.executors.process_state import Kept
from curidask.executors.stage_record import StageRecord
from curidask.executors.stored import artifact_info, find_stored
from curidask.executors.surroundings import NOTHING, Surroundings
from curidask.store.claims import Held
from curidask.store.manifests import beside_name
from curidask.store.workspaces import Workspace


def run_job(
    job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]], surroundings: Surroundings = NOTHING
) -> JobResult:
    """Run a job to its outcome; only an interrupt or the death of the process comes out as an exception.

    Parameters
    ----------
    job : Job
    env : Environment
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    surroundings : Surroundings
        The process around it.
    """
    with surroundings.during(job), env.store.using():
        return _run(job, env, passed, surroundings)


def _run(job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]], surroundings: Surroundings) -> JobResult:
    started = time.perf_counter()
    result = _Run(job, env, surroundings, Inputs(job, env.store, passed))
    try:
        with result.claimed() as held:
            if held is not None:
                return JobResult(Outcome(job.id, Kind.HELD, worker=worker_name(), held=held))
            artifacts = result.reuse()
            kind = Kind.DONE if artifacts is None else Kind.FOUND
            if artifacts is None:
                artifacts = result.compute()
    except InputLostSignal as signal:
        outcome = Outcome(job.id, Kind.INPUT_LOST, lost=(signal.task,), warnings=(signal.error.notice,))
        return JobResult(outcome)
    except BaseException as error:
        # A worker hears no Ctrl-C, so there an interrupt is one that the stage raised itself.
        if isinstance(error, KeyboardInterrupt) and not env.portable:
            raise
        return JobResult(result.ended(Kind.FAILED, started, error=describe_error(error, portable=env.portable)))
    return JobResult(result.ended(kind, started, artifacts=artifacts), result.values)


@dataclass(slots=True)
class _Run:
    """One job being run."""

    job: Job
    env: Environment
    surroundings: Surroundings
    inputs: Inputs
    values: Mapping[int, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    replace_whole: bool = True

    def ended(
        self, kind: Kind, started: float, artifacts: tuple[ArtifactInfo, ...] = (), error: ErrorInfo | None = None
    ) -> Outcome:
        """The outcome of a job that ran."""
        return Outcome(
            self.job.id,
            kind,
            time.perf_counter() - started,
            worker_name(),
            error,
            artifacts=artifacts,
            warnings=(*self.warnings, *self.env.store.notices()),
            reported=tuple(self.reported),
            peak_bytes=self.surroundings.peak_bytes(),
        )

    def warn(self, text: str) -> None:
        """Tell the user now, or with the outcome."""
        if not self.surroundings.warn(self.job, text):
            self.warnings.append(text)

    # --- claim -----------------------------------------------------------------------------------------------------
    @contextmanager
    def claimed(self) -> Iterator[Held | None]:
        """Hold the claim on the job while the block runs; gives who holds it instead.

        The look into the store comes after the claim: between a look and a claim another owner could commit and leave.
        """
        claims = self.env.claims if self.job.reusable else None
        if claims is None:
            yield None
            return
        taken = claims.take(self.job.marker.stem, supersedes=self.job.supersedes)
        if isinstance(taken, Held):
            yield taken
            return
        with claims.renewing(taken):
            yield None

    # --- look ------------------------------------------------------------------------------------------------------
    def reuse(self) -> tuple[ArtifactInfo, ...] | None:
        """What the store holds already, when it is all that the job would make."""
        job = self.job
        if not job.reusable:
            return None
        found: list[ArtifactInfo] = []
        for output in job.outputs or (job.marker,):
            source = Stored(job.id, output.name, output.stem, output.key, output.cacher, job.spec.name, job.record)
            refers = False
            try:
                cacher, manifest = find_stored(self.env.store, source)
                refers = cacher.refers
                cacher.check_references()
            except ArtifactMissingError as error:
                if refers or isinstance(error, ArtifactDamagedError):
                    self.warnings.append(error.notice)
                # What is whole itself, but not what it refers to, would win over what is made now.
                self.replace_whole = refers or self._is_partly_there()
                return None
            found.append(artifact_info(manifest))
        return tuple(found) if job.outputs else ()

    def _is_partly_there(self) -> bool:
        # All outputs of a stage come from one call: what is left of another call must not stay beside new ones.
        stems = [output.stem for output in self.job.outputs]
        return len(stems) > 1 and bool(self.env.store.present(stems))

    # --- call ------------------------------------------------------------------------------------------------------
    def compute(self) -> tuple[ArtifactInfo, ...]:
        """Call the stage's function and keep what it returns, if need be in several attempts."""
        return with_retries(self._attempt, self.job, self.warn)

    def _attempt(self) -> tuple[ArtifactInfo, ...]:
        job = self.job
        self.reported = []
        for output in job.outputs:
            if output.keep is not Keep.PASS:
                (output.cacher() if isinstance(output.cacher, type) else output.cacher).check_ready()
        with self.env.store.workspace(job.marker.stem, run=self.env.work) as files:
            state = self.inputs.state(job.inputs)
            record = StageRecord(job.record, state, job.spec.name, _paths(files), self.reported)
            arguments, named = self.inputs.arguments()
            started = time.perf_counter()
            call = partial(call_stage, job, [record, *arguments], named, self.surroundings)
            with Kept() as process:
                returned = load_given(job) if job.given else call()
                seconds = time.perf_counter() - started
                process.undo()
                keeper = OutputKeeper(job, self.env, files, self.reported, self.inputs.digests, self.replace_whole)
                artifacts = keeper.keep(returned, record, seconds)
            self.values = keeper.values
            return artifacts


def _paths(files: Workspace) -> tuple[Callable[..., str], Callable[..., str]]:
    """What makes paths for files and folders that a stage writes beside its outputs."""

    def get_path(*name: Any, **options: Any) -> str:
        path = files.path(files.basename + beside_name(*name, **options))
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def get_dir(*name: Any, **options: Any) -> str:
        folder = files.path(files.basename + beside_name(*name, **options))
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    return get_path, get_dir
