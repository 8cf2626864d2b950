"""Run one job: look, load, call, commit. Every executor runs jobs through `run_job`, so semantics cannot drift."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from curidask.caching import Lazy
from curidask.caching.base import Cacheable
from curidask.caching.references import StageFiles
from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    CacheError,
    CuridaskError,
    OutputSignatureError,
    UnpicklableError,
)
from curidask.executors import kept_reports
from curidask.executors.base import (
    ArtifactInfo,
    ErrorInfo,
    Job,
    JobOutput,
    JobResult,
    Keep,
    Kind,
    Outcome,
    Passed,
    Reported,
    Source,
    Stored,
)
from curidask.executors.calling import call_stage, with_retries
from curidask.executors.describe import (
    describe_error,
    describe_params,
    loaded_packages,
    preview,
    user_name,
    worker_name,
)
from curidask.executors.stage_record import GatheredInputs, StageRecord, StageState
from curidask.executors.surroundings import NOTHING, Surroundings
from curidask.executors.values import StageFile, pack, private_copy, resolved, unpack
from curidask.graph import Literal, RecordInfo
from curidask.store.base import Store
from curidask.store.claims import Claims, Held
from curidask.store.manifests import FileEntry, Manifest, beside_name
from curidask.store.payload import Workspace


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


class _InputLostSignal(BaseException):
    """Carries a lost input past the user's ``except Exception``."""

    def __init__(self, task: int, error: ArtifactMissingError) -> None:
        super().__init__(task)
        self.task = task
        self.error = error


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
    result = _Run(job, env, passed, surroundings)
    try:
        with result.claimed() as held:
            if held is not None:
                return JobResult(Outcome(job.id, Kind.HELD, worker=worker_name(), held=held))
            artifacts = result.reuse()
            kind = Kind.DONE if artifacts is None else Kind.FOUND
            if artifacts is None:
                artifacts = result.compute()
    except _InputLostSignal as signal:
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
    passed: Mapping[int, Mapping[int, Any]]
    surroundings: Surroundings
    values: dict[int, Any] = field(default_factory=dict)
    input_digests: dict[str, str] = field(default_factory=dict)
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

    # --- load ------------------------------------------------------------------------------------------------------
    def load(self, source: Source) -> Any:
        """The value of an input."""
        if isinstance(source, Literal):
            return private_copy(source.value)
        if isinstance(source, Passed):
            value = unpack(self.passed[source.task][source.index], shared=source.shared)
            try:
                return resolved(value, self.env.store)
            except ArtifactMissingError as error:
                raise _InputLostSignal(source.task, error) from None
        try:
            value, manifest = load_stored(self.env.store, source)
        except ArtifactMissingError as error:
            raise _InputLostSignal(source.task, error) from None
        self.input_digests[source.key] = manifest.digest
        return value

    # --- call ------------------------------------------------------------------------------------------------------
    def compute(self) -> tuple[ArtifactInfo, ...]:
        """Call the stage's function and keep what it returns, if need be in several attempts."""
        return with_retries(self._attempt, self.job, self.warn)

    def _attempt(self) -> tuple[ArtifactInfo, ...]:
        job = self.job
        for of_an_earlier_attempt in (self.values, self.reported):
            of_an_earlier_attempt.clear()
        for output in job.outputs:
            if output.keep is not Keep.PASS:
                (output.cacher() if isinstance(output.cacher, type) else output.cacher).check_ready()
        with self.env.store.workspace(job.marker.stem, run=self.env.work) as files:
            record = StageRecord(job.record, self._state(job.inputs), job.spec.name, self._paths(files), self.reported)
            arguments: list[Any] = [record]
            named: dict[str, Any] = {}
            if job.spec.is_aggregate:
                records, named = self._gather()
                arguments.append(records)
            else:
                named = {name: self.load(source) for name, source in job.inputs.items()}
            started = time.perf_counter()
            returned = call_stage(job, arguments, named, self.surroundings)
            seconds = time.perf_counter() - started
            values = split_outputs(job, returned)
            return self._keep(values, record, seconds, files)

    def _state(self, sources: Mapping[str, Source]) -> StageState:
        def load(name: str) -> Any:
            return self.load(sources[name])

        return StageState(load, list(sources), self.job.label)

    def _gather(self) -> tuple[list[StageRecord], dict[str, GatheredInputs]]:
        stage = self.job.spec.name
        records = []
        by_input: dict[str, list[StageRecord]] = {name: [] for name in self.job.spec.inputs or ()}
        for info, sources in self.job.gathered:
            record = StageRecord(info, self._state(sources), stage)
            records.append(record)
            for name in by_input:
                if name in sources:
                    by_input[name].append(record)
        named = {
            name: GatheredInputs(partial(_read_state, name), having)
            for name, having in by_input.items()
            if name not in self.job.kwargs
        }
        return records, named

    def _paths(self, files: Workspace) -> tuple[Callable[..., str], Callable[..., str]]:
        def get_path(*name: Any, **options: Any) -> str:
            path = files.path(files.basename + beside_name(*name, **options))
            path.parent.mkdir(parents=True, exist_ok=True)
            return str(path)

        def get_dir(*name: Any, **options: Any) -> str:
            folder = files.path(files.basename + beside_name(*name, **options))
            folder.mkdir(parents=True, exist_ok=True)
            return str(folder)

        return get_path, get_dir

    # --- keep ------------------------------------------------------------------------------------------------------
    def _keep(
        self, values: Sequence[Any], record: StageRecord, seconds: float, files: Workspace
    ) -> tuple[ArtifactInfo, ...]:
        saved: list[tuple[JobOutput, Cacheable, Any, Workspace]] = []
        with ExitStack() as workspaces:
            # All are written before one is committed: an output may refer to the stage's files, which move then.
            for index, (output, value) in enumerate(zip(self.job.outputs, values, strict=True)):
                if output.keep is Keep.PASS:
                    self.values[index] = self._pack(output, self._without_folder(value, files))
                    continue
                workspace = workspaces.enter_context(self.env.store.workspace(output.stem, run=self.env.work))
                cacher = self._save(output, value, record, workspace, files)
                if output.keep is Keep.ROUND_TRIP:
                    self.values[index] = self._pack(output, cacher.load())
                    files.stays |= cacher.refers
                else:
                    saved.append((output, cacher, value, workspace))
            if saved:
                return self._commit(saved, seconds, files)
        if not files.is_empty and self.job.marker.keep is Keep.COMMIT:
            self._commit_files(files, seconds)
        return ()

    def _without_folder(self, value: Any, files: Workspace) -> Any:
        """Let a path into the working folder, which the files leave, stand for the file."""
        if not isinstance(value, str | Path) or not files.made:
            return value
        name = StageFiles.being_made(files).name_of(os.fspath(value))
        if name is None:
            return value
        marker = self.job.marker
        if marker.keep is not Keep.COMMIT:  # a dry run: they stay where they are until it ends
            files.stays = True
            return value
        holder = next((output for output in self.job.outputs if output.keep is Keep.COMMIT), marker)
        return StageFile(holder.stem, holder.key, name, isinstance(value, Path))

    def _commit(
        self, saved: Sequence[tuple[JobOutput, Cacheable, Any, Workspace]], seconds: float, files: Workspace
    ) -> tuple[ArtifactInfo, ...]:
        kept_reports.write(self.reported, files)
        artifacts = []
        tracked: Workspace | tuple[FileEntry, ...] | None = files
        for output, cacher, value, workspace in saved:
            whole = self.env.store.commit(
                workspace,
                self._manifest(output, cacher, preview(value), seconds),
                tracked=tracked if tracked is files or cacher.refers else None,
                replace_whole=self.replace_whole,
            )
            artifacts.append(artifact_info(whole))
            if tracked is files:  # the first one took them into the store
                tracked = whole.tracked
        return tuple(artifacts)

    def _commit_files(self, files: Workspace, seconds: float) -> None:
        """Store what a stage without stored outputs wrote, so that it is there later and, without outputs, reusable."""
        kept_reports.write(self.reported, files)
        marker = self.job.marker
        with self.env.store.workspace(marker.stem, run=self.env.work) as nothing:
            manifest = self._manifest(marker, None, "", seconds)
            self.env.store.commit(nothing, manifest, tracked=files, replace_whole=True)

    def _save(
        self, output: JobOutput, value: Any, record: StageRecord, workspace: Workspace, files: Workspace
    ) -> Cacheable:
        cacher = bind(output.cacher, workspace.folder, workspace.basename, output.name, self.job.spec.name, record)
        if cacher.refers:
            cacher.stage_files = StageFiles.being_made(files)
        try:
            cacher.save(value)
        except CuridaskError as error:
            error.where = error.where or f"output {output.name!r} of {self.job.label}"
            raise
        except OSError as error:
            raise CacheError(
                f"The output {output.name!r} could not be written: {error.strerror or error}.",
                where=f"{type(cacher).__name__} of {self.job.label}",
                fix="free space on the disk of the cache or choose another with --cache; what is committed stays",
            ) from error
        return cacher

    def _pack(self, output: JobOutput, value: Any) -> Any:
        try:
            return pack(value, portable=self.env.portable)
        except Exception as error:
            raise UnpicklableError(
                f"The output {output.name!r} ({type(value).__name__}) cannot travel between processes: {error}",
                where=self.job.label,
                fix="return plain data, give the output a cacher that can store it, make it inside the stage that "
                "uses it, or run in this process with --parallel 0",
            ) from error

    def _manifest(self, output: JobOutput, cacher: Cacheable | None, text: str, seconds: float) -> Manifest:
        job = self.job
        return Manifest(
            key=output.key,
            stem=output.stem,
            prefix=job.prefix,
            stage=job.spec.name,
            output=output.name,
            params_hash=job.record.params_hash,
            set_name=job.record.name,
            components=dict(job.components),
            cacher=cacher_name(cacher),
            preview=text,
            params=describe_params(job.record.params),
            inputs=tuple(self._describe_inputs()),
            run=self.env.run,
            user=user_name(),
            host=socket.gethostname(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(seconds, 6),
            packages=loaded_packages(),
            extra_metadata=dict(cacher.extra_metadata) if cacher is not None else {},
        )

    def _describe_inputs(self) -> list[dict[str, Any]]:
        rows = [(name, source) for name, source in self.job.inputs.items()]
        rows += [(name, source) for _, sources in self.job.gathered for name, source in sources.items()]
        return [{"name": n, "key": s.key, "digest": self.input_digests.get(s.key, "")} for n, s in rows]


def _read_state(name: str, record: StageRecord) -> Any:
    return record.state[name]


def artifact_info(manifest: Manifest) -> ArtifactInfo:
    """What is said of an artifact."""
    return ArtifactInfo(
        manifest.output,
        manifest.stem,
        manifest.size_bytes,
        manifest.digest,
        manifest.preview,
        manifest.run,
        tuple(manifest.stem + file.name for file in manifest.files),
    )


# --- values ----------------------------------------------------------------------------------------------------------
def cacher_name(template: Any) -> str:
    """What manifests call the writer of a payload; what another one wrote is another's, and counts as missing.

    That is the class's name, with an extension that is not the class's own: a reader would look for other files. It is
    empty where there is no cacher.
    """
    if template is None:
        return ""
    cacher = template() if isinstance(template, type) else template
    kind, extension = type(cacher), getattr(cacher, "extension", "")
    return kind.__name__ if extension == getattr(kind, "extension", "") else f"{kind.__name__}({extension!r})"


def bind(
    template: Any, folder: Path, basename: str, output: str, stage: str, record: StageRecord | RecordInfo | None
) -> Cacheable:
    """A cacher of its own for one artifact, out of the class or the instance that the stage declares."""
    cacher: Cacheable = template() if isinstance(template, type) else template
    return cacher.bound(folder, basename, record=record, stage=stage, name=output)


def load_stored(store: Store, source: Stored) -> tuple[Any, Manifest]:
    """Load a stored value after checking it against its manifest.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    CacheError
        When the bytes are right but the cacher cannot load them.
    """
    cacher, manifest = find_stored(store, source)
    if source.lazy:
        cacher.check_references()
        return Lazy(source.name, resolve=False, cacher=cacher), manifest
    try:
        return cacher.load(), manifest
    except CuridaskError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            # Race: verified, then removed by another process before it was opened. Gone is gone, and raises here.
            store.checkout(source.stem, source.key)
        raise CacheError(
            f"{type(cacher).__name__} could not load the artifact {source.name!r}: {type(error).__name__}: {error}",
            where=source.stem,
            fix=f"its bytes are what was stored, so look at the cacher's load(), or recompute with "
            f"--overwrite-stage {source.stage}",
        ) from error


def find_stored(store: Store, source: Stored) -> tuple[Cacheable, Manifest]:
    """Check a stored value against its manifest; gives what can load it.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    """
    checkout = store.checkout(source.stem, source.key, cacher=cacher_name(source.cacher))
    if source.cacher is None:  # files of a stage without outputs
        return Cacheable(), checkout.manifest
    cacher = bind(source.cacher, checkout.folder, checkout.basename, source.name, source.stage, source.record)
    cacher.extra_metadata = dict(checkout.manifest.extra_metadata)
    cacher.pin = checkout.pin
    if cacher.refers:
        cacher.stage_files = StageFiles(tracked=checkout.tracked)
    return cacher, checkout.manifest


def split_outputs(job: Job, returned: Any) -> Sequence[Any]:
    """What the function returned as one value an output.

    Raises
    ------
    OutputSignatureError
        When the numbers differ.
    """
    names = [output.name for output in job.outputs]
    if not names:
        return ()
    if len(names) == 1:
        return (returned,)
    if isinstance(returned, Sequence) and not isinstance(returned, str | bytes) and len(returned) == len(names):
        return returned
    got = f"{len(returned)} values" if isinstance(returned, tuple | list) else f"one {type(returned).__name__}"
    raise OutputSignatureError(
        f"The stage declares {len(names)} outputs ({', '.join(names)}) but returned {got}.",
        where=job.label,
        fix=f"end the function with `return {', '.join(names)}`",
    )
