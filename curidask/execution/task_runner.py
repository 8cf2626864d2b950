"""Run one job: look, load, call, commit. Every executor runs jobs through `run_job`, so semantics cannot drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    ArtifactMixedError,
    ArtifactRejectedError,
    CacheError,
)
from curidask.execution.adoption import adopt, stands_on_current
from curidask.execution.artifact_io import artifact_info, check_one_call, check_stored, find_stored, own_prefix
from curidask.execution.base import (
    MADE_FROM,
    ArtifactInfo,
    Environment,
    ErrorInfo,
    Finding,
    Job,
    JobResult,
    Keep,
    Kind,
    Outcome,
    Reported,
    Stored,
)
from curidask.execution.determinism import SecondCall, Witness
from curidask.execution.inputs import Inputs
from curidask.execution.outputs import OutputWriter
from curidask.execution.override_files import load_given
from curidask.execution.process.context import NOTHING, ProcessContext
from curidask.execution.process.process_state import Kept
from curidask.execution.stage_call import call_stage, with_retries
from curidask.execution.stage_paths import InputLostSignal
from curidask.execution.tracebacks import describe_error, worker_name
from curidask.store.base import without_place
from curidask.store.claims import Claim, ClaimLostSignal, Held
from curidask.store.manifest import Manifest


def run_job(
    job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]], surroundings: ProcessContext = NOTHING
) -> JobResult:
    """Run a job to its outcome; only an interrupt or the death of the process comes out as an exception.

    Parameters
    ----------
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    surroundings : ProcessContext
        The process around it.
    """
    with surroundings.during(job), env.store.using():
        return _run(job, env, passed, surroundings)


def _run(
    job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]], surroundings: ProcessContext
) -> JobResult:
    started = time.perf_counter()
    result = _Run(job, env, surroundings, Inputs(job, env, passed))
    try:
        with result.claimed() as held:
            if held is not None:
                return JobResult(Outcome(job.id, Kind.HELD, worker=worker_name(), held=held))
            artifacts, kind = result.found()
            if artifacts is None:
                artifacts = result.compute()
            if job.checks:
                result.check()
    except ClaimLostSignal as signal:
        text = (
            f"{job.label} was computed for nothing: {worker_name()} stood still for {signal.silent_seconds:.0f} s, and "
            f"{signal.held.holder} took over"
        )
        return JobResult(Outcome(job.id, Kind.HELD, worker=worker_name(), held=signal.held, warnings=(text,)))
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
    surroundings: ProcessContext
    inputs: Inputs
    values: Mapping[int, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    replace_whole: bool = True
    may_commit: Callable[[], None] = lambda: None
    witness: Witness | None = None
    findings: tuple[Finding, ...] | None = None

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
            findings=self.findings,
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
        claims = self.env.claims if self.job.stored else None
        if claims is None:
            yield None
            return
        taken = without_place(
            self.env.store, claims.objects, partial(claims.take, self.job.marker.stem, supersedes=self.job.supersedes)
        )
        if not isinstance(taken, Claim):
            yield taken
            return
        with claims.renewing(taken):
            self.may_commit = partial(without_place, self.env.store, claims.objects, partial(claims.require, taken))
            yield None

    # --- look ------------------------------------------------------------------------------------------------------
    def found(self) -> tuple[tuple[ArtifactInfo, ...] | None, Kind]:
        """What need not be computed, and how the job ends with that or without."""
        artifacts = self.reuse()
        kind = Kind.UNCHANGED if self.job.is_suspect else Kind.FOUND
        if artifacts is None and self.job.reusable and not self.job.checks:
            artifacts, kind = adopt(self.job, self.env, self.inputs.passed, self.warn), Kind.UNCHANGED
        return artifacts, Kind.DONE if artifacts is None or self.job.checks else kind

    def reuse(self) -> tuple[ArtifactInfo, ...] | None:
        """What the store holds already, when it is all that the job would make."""
        job = self.job
        if not job.reusable:
            return None
        found: list[tuple[Manifest, str | None]] = []
        for output in job.outputs or (job.marker,):
            source = Stored(job.id, output.name, output.stem, output.key, output.cacher, job.spec.name, job.record)
            is_whole = False
            try:
                cacher, manifest = find_stored(self.env.store.reachable(), source, self.env.facts)
                is_whole = True
                check_stored(cacher, source)
                prefix = own_prefix(output.cacher)
                check_one_call([*(m for m, other in found if other == prefix), manifest])
            except ArtifactMissingError as error:
                # What is whole, but not good for use, would win over what is made now.
                is_mixed = isinstance(error, ArtifactMixedError)
                is_whole = is_whole or is_mixed or isinstance(error, ArtifactRejectedError)
                if error.notice and (is_whole or isinstance(error, ArtifactDamagedError)):
                    self.warnings.append(error.notice)
                self.replace_whole = is_whole or self._is_partly_there()
                return None
            except CacheError as error:
                if not self.env.store.goes_on_without(error):
                    raise
                return None
            found.append((manifest, prefix))
        manifests = [manifest for manifest, _ in found]
        if not stands_on_current(manifests, job, self.inputs.passed, self.env.store):
            return None
        return tuple(artifact_info(manifest) for manifest, _ in found) if job.outputs else ()

    def _is_partly_there(self) -> bool:
        # All outputs of a stage come from one call: what is left of another call must not stay beside new ones.
        stems = [output.stem for output in self.job.outputs]
        return len(stems) > 1 and bool(self.env.store.present(stems))

    # --- call ------------------------------------------------------------------------------------------------------
    def compute(self) -> tuple[ArtifactInfo, ...]:
        """Call the stage's function and keep what it returns, if need be in several attempts."""
        return with_retries(self._attempt, self.job, self.warn)

    def _attempt(self) -> tuple[ArtifactInfo, ...]:
        self.reported = []
        with ExitStack() as folders:
            keeper, artifacts = self.call(
                folders, self.inputs, self.reported, Witness if self.job.checks else OutputWriter
            )
            self.values = keeper.values and {**keeper.values, MADE_FROM: dict(self.inputs.digests)}
            self.witness = keeper if isinstance(keeper, Witness) else None
            return artifacts

    def call(
        self, folders: ExitStack, inputs: Inputs, reported: list[Reported], kind: type[OutputWriter]
    ) -> tuple[OutputWriter, tuple[ArtifactInfo, ...]]:
        """Call the stage's function once, and keep what it returns; what keeps it, and what is said of the stored ones.

        Parameters
        ----------
        folders : ExitStack
            Holds the working folders.
        reported : list of Reported
            Takes what it reports.
        kind : type
            What keeps the outputs.
        """
        job = self.job
        for output in job.outputs:
            if output.keep is not Keep.PASS:
                (output.cacher() if isinstance(output.cacher, type) else output.cacher).check_ready()
        files = folders.enter_context(self.env.store.workspace(job.marker.stem, run=self.env.work))
        keeper = kind(job, self.env, files, reported, inputs.digests, self.replace_whole, self.may_commit)
        record = inputs.own_record(files, reported)
        keeper.prepare(record, folders)
        record.give_cachers = keeper.show_cachers
        arguments, named = inputs.arguments()
        started = time.perf_counter()
        call = partial(call_stage, job, [record, *arguments], named, self.surroundings)
        with Kept() as process:
            returned = load_given(job) if job.given else call()
            seconds = time.perf_counter() - started
            process.undo()
            return keeper, keeper.keep(returned, seconds)

    # --- check -----------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Compute once more and compare with what was made, or with what the store holds; nothing of it is kept."""
        second = SecondCall(self.job, self.env, self.inputs.passed, self.call, self.warn)
        self.findings = second.compared_with(self.witness)
        if self.witness is None:  # else what the first call reported is told
            self.reported = second.reported
