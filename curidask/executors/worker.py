"""Run one job: look, load, call, commit. Every executor runs jobs through `run_job`, so semantics cannot drift."""

from __future__ import annotations

import contextlib
import copy
import getpass
import os
import pickle
import platform
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
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
    Source,
    Stored,
)
from curidask.executors.stage_record import GatheredInputs, StageRecord, StageState
from curidask.graph import Literal, RecordInfo
from curidask.store.artifacts import ArtifactStore, Workspace
from curidask.store.manifests import FileEntry, Manifest, safe_part

FRAMEWORK = str(Path(__file__).resolve().parents[1]) + os.sep


@dataclass(frozen=True, slots=True)
class Environment:
    """What all jobs of a run share on a worker.

    Attributes
    ----------
    store : ArtifactStore
    run : str
        Reference of the run, for manifests and work folders.
    portable : bool
        Values that are not stored must travel between processes, so they are pickled as soon as they are made.
    """

    store: ArtifactStore
    run: str
    portable: bool


class _InputLostSignal(BaseException):
    """Carries a lost input past the user's ``except Exception``."""

    def __init__(self, task: int, error: ArtifactMissingError) -> None:
        super().__init__(task)
        self.task = task
        self.error = error


def run_job(job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]]) -> JobResult:
    """Run a job to its outcome; only an interrupt or the death of the process comes out as an exception.

    Parameters
    ----------
    job : Job
    env : Environment
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    """
    started = time.perf_counter()
    result = _Run(job, env, passed)
    try:
        artifacts = result.reuse()
        kind = Kind.DONE if artifacts is None else Kind.FOUND
        if artifacts is None:
            artifacts = result.compute()
    except _InputLostSignal as signal:
        outcome = Outcome(job.id, Kind.INPUT_LOST, lost=(signal.task,), warnings=(signal.error.notice,))
        return JobResult(outcome)
    except Exception as error:
        info = describe_error(error, portable=env.portable)
        seconds = time.perf_counter() - started
        return JobResult(Outcome(job.id, Kind.FAILED, seconds, worker_name(), info))
    seconds = time.perf_counter() - started
    warnings = tuple(result.warnings)
    outcome = Outcome(job.id, kind, seconds, worker_name(), artifacts=artifacts, warnings=warnings)
    return JobResult(outcome, result.values)


@dataclass(slots=True)
class _Run:
    """One job being run."""

    job: Job
    env: Environment
    passed: Mapping[int, Mapping[int, Any]]
    values: dict[int, Any] = field(default_factory=dict)
    input_digests: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    replace_whole: bool = True

    # --- look ------------------------------------------------------------------------------------------------------
    def reuse(self) -> tuple[ArtifactInfo, ...] | None:
        """What the store holds already, when it is all that the job would make."""
        job = self.job
        if not job.reusable:
            return None
        found: list[ArtifactInfo] = []
        for output in job.outputs:
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
            found.append(_artifact_info(manifest))
        return tuple(found)

    def _is_partly_there(self) -> bool:
        # All outputs of a stage come from one call: what is left of another call must not stay beside new ones.
        stems = [output.stem for output in self.job.outputs]
        return len(stems) > 1 and bool(self.env.store.present(stems))

    # --- load ------------------------------------------------------------------------------------------------------
    def load(self, source: Source) -> Any:
        """The value of an input."""
        if isinstance(source, Literal):
            return _private_copy(source.value)
        if isinstance(source, Passed):
            packed = self.passed[source.task][source.index]
            return unpack(packed, shared=source.shared)
        try:
            value, manifest = load_stored(self.env.store, source)
        except ArtifactMissingError as error:
            raise _InputLostSignal(source.task, error) from None
        self.input_digests[source.key] = manifest.digest
        return value

    # --- call ------------------------------------------------------------------------------------------------------
    def compute(self) -> tuple[ArtifactInfo, ...]:
        """Call the stage's function and keep what it returns."""
        job = self.job
        for output in job.outputs:
            if output.keep is not Keep.PASS:
                (output.cacher() if isinstance(output.cacher, type) else output.cacher).check_ready()
        with self.env.store.workspace(job.marker, run=self.env.run) as files:
            record = StageRecord(job.record, self._state(job.inputs), job.spec.name, self._paths(files))
            arguments: list[Any] = [record]
            named: dict[str, Any] = {}
            if job.spec.is_aggregate:
                records, named = self._gather()
                arguments.append(records)
            else:
                named = {name: self.load(source) for name, source in job.inputs.items()}
            started = time.perf_counter()
            returned = job.spec.function(*arguments, **named, **job.kwargs)
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
        def get_path(obj_name: str, **_: Any) -> str:
            return str(files.path(f"{files.basename}_{safe_part(obj_name)}"))

        def get_dir(dir_name_suffix: str, **_: Any) -> str:
            folder = files.path(f"{files.basename}_{safe_part(dir_name_suffix)}")
            folder.mkdir(parents=True, exist_ok=True)
            return str(folder)

        return get_path, get_dir

    # --- keep ------------------------------------------------------------------------------------------------------
    def _keep(
        self, values: Sequence[Any], record: StageRecord, seconds: float, files: Workspace
    ) -> tuple[ArtifactInfo, ...]:
        saved: list[tuple[JobOutput, Cacheable, Any, Workspace]] = []
        with contextlib.ExitStack() as workspaces:
            # All are written before one is committed: an output may refer to the stage's files, which move then.
            for index, (output, value) in enumerate(zip(self.job.outputs, values, strict=True)):
                if output.keep is Keep.PASS:
                    self.values[index] = self._pack(output, value)
                    continue
                workspace = workspaces.enter_context(self.env.store.workspace(output.stem, run=self.env.run))
                cacher = self._save(output, value, record, workspace, files)
                if output.keep is Keep.ROUND_TRIP:
                    self.values[index] = self._pack(output, cacher.load())
                    files.stays |= cacher.refers
                else:
                    saved.append((output, cacher, value, workspace))
            return self._commit(saved, seconds, files)

    def _commit(
        self, saved: Sequence[tuple[JobOutput, Cacheable, Any, Workspace]], seconds: float, files: Workspace
    ) -> tuple[ArtifactInfo, ...]:
        artifacts = []
        tracked: Workspace | tuple[FileEntry, ...] | None = files
        for output, cacher, value, workspace in saved:
            whole = self.env.store.commit(
                workspace,
                self._manifest(output, cacher, value, seconds),
                tracked=tracked if tracked is files or cacher.refers else None,
                replace_whole=self.replace_whole,
            )
            artifacts.append(_artifact_info(whole))
            if tracked is files:  # the first one took them into the store
                tracked = whole.tracked
        return tuple(artifacts)

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

    def _manifest(self, output: JobOutput, cacher: Cacheable, value: Any, seconds: float) -> Manifest:
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
            preview=preview(value),
            params=describe_params(job.record.params),
            inputs=tuple(self._describe_inputs()),
            run=self.env.run,
            user=_user(),
            host=socket.gethostname(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(seconds, 6),
            packages=loaded_packages(),
            extra_metadata=dict(cacher.extra_metadata),
        )

    def _describe_inputs(self) -> list[dict[str, Any]]:
        rows = [(name, source) for name, source in self.job.inputs.items()]
        rows += [(name, source) for _, sources in self.job.gathered for name, source in sources.items()]
        return [{"name": n, "key": s.key, "digest": self.input_digests.get(s.key, "")} for n, s in rows]


def _read_state(name: str, record: StageRecord) -> Any:
    return record.state[name]


def _artifact_info(manifest: Manifest) -> ArtifactInfo:
    size = sum(entry.size_bytes for entry in manifest.files)
    return ArtifactInfo(manifest.output, manifest.stem, size, manifest.digest, manifest.preview)


# --- values ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes


def pack(value: Any, *, portable: bool) -> Any:
    """Make a value ready to be held for its readers.

    Raises
    ------
    Exception
        Whatever pickling raises, when the value must be portable and is not.
    """
    if not portable:
        return value
    from curidask.caching import pickling

    return Packed(pickling.dumps(value))


def unpack(packed: Any, *, shared: bool) -> Any:
    """Give one reader its value: a private copy where others read it too."""
    if isinstance(packed, Packed):
        from curidask.caching import pickling

        return pickling.loads(packed.data)
    return _private_copy(packed) if shared else packed


def _private_copy(value: Any) -> Any:
    try:
        return pickle.loads(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception:  # what pickle cannot copy, deepcopy may; what neither can (a connection) is shared as it is
        with contextlib.suppress(Exception):
            return copy.deepcopy(value)
        return value


def cacher_name(template: Any) -> str:
    """What manifests call the writer of a payload; what another one wrote is another's, and counts as missing.

    That is the class's name, with an extension that is not the class's own: a reader would look for other files.
    """
    cacher = template() if isinstance(template, type) else template
    kind, extension = type(cacher), getattr(cacher, "extension", "")
    return kind.__name__ if extension == getattr(kind, "extension", "") else f"{kind.__name__}({extension!r})"


def bind(
    template: Any, folder: Path, basename: str, output: str, stage: str, record: StageRecord | RecordInfo | None
) -> Cacheable:
    """A cacher of its own for one artifact, out of the class or the instance that the stage declares."""
    cacher: Cacheable = template() if isinstance(template, type) else template
    return cacher.bound(folder, basename, record=record, stage=stage, name=output)


def load_stored(store: ArtifactStore, source: Stored) -> tuple[Any, Manifest]:
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


def find_stored(store: ArtifactStore, source: Stored) -> tuple[Cacheable, Manifest]:
    """Check a stored value against its manifest; gives what can load it.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    """
    checkout = store.checkout(source.stem, source.key, cacher=cacher_name(source.cacher))
    cacher = bind(source.cacher, checkout.folder, checkout.basename, source.name, source.stage, source.record)
    cacher.extra_metadata = dict(checkout.manifest.extra_metadata)
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


# --- descriptions ----------------------------------------------------------------------------------------------------
def describe_error(error: BaseException, *, portable: bool) -> ErrorInfo:
    """An exception as text, with the user's frames only."""
    if isinstance(error, CuridaskError):
        message, fix = error.what, error.fix
    else:
        message, fix = _safe_str(error), ""
    exception: BaseException | None = error
    if portable:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            exception = None
    # Our own errors say what is behind them; of their traceback only the user's frames could help.
    text = user_traceback(error, chain=not isinstance(error, CuridaskError))
    if isinstance(error, CuridaskError) and "  File " not in text:
        text = ""
    return ErrorInfo(type(error).__name__, message, text, fix, exception)


def user_traceback(error: BaseException, *, chain: bool = True) -> str:
    """The traceback without the frames of the framework, at its start and in its middle."""
    try:
        formatted = traceback.TracebackException.from_exception(error)
    except Exception:  # an exception whose own attributes raise
        return f"{type(error).__name__}: {_safe_str(error)}\n"
    seen: set[int] = set()
    current: traceback.TracebackException | None = formatted
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kept = [frame for frame in current.stack if not frame.filename.startswith(FRAMEWORK)]
        current.stack = traceback.StackSummary.from_list(kept)
        current = current.__cause__ or current.__context__
    try:
        return "".join(formatted.format(chain=chain))
    except Exception:
        return f"{type(error).__name__}: {_safe_str(error)}\n"


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its message could not be made: {type(broken).__name__}>"


def preview(value: Any, limit: int = 80) -> str:
    """A short text about a value: type, shape or length, and how it begins."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} of shape {shape}"
    if isinstance(value, bool | int | float | complex | type(None)):
        return repr(value)
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= limit else value[:limit]) + ("" if len(value) <= limit else "…")
    try:
        return f"{kind} of length {len(value)}"
    except Exception:
        return kind


def describe_params(params: Any) -> dict[str, Any]:
    """The fields of a parameter set as plain JSON values, for people to read."""
    if params is None:
        return {}
    names = [name for name in vars(params) if name not in ("hash", "hash_representations", "overwrite")]
    return {name: _plain(getattr(params, name)) for name in names}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return (
        getattr(value, "__qualname__", None) or preview(value)
        if not isinstance(value, list | tuple)
        else _plain_list(value)
    )


def _plain_list(value: Sequence[Any]) -> Any:
    return [_plain(item) for item in value] if len(value) <= 20 else preview(value)


@cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user id, as in some containers
        return "unknown"


@cache
def worker_name() -> str:
    """Host and process, as messages name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def loaded_packages() -> dict[str, str]:
    """Versions of Python and of the top-level packages that are loaded (a package loaded later is seen later)."""
    return _versions(len(sys.modules))


_seen: tuple[int, dict[str, str]] = (0, {})


def _versions(n_modules: int) -> dict[str, str]:
    # Going through sys.modules costs more than storing a small artifact, so it is done when a module has come.
    global _seen  # noqa: PLW0603
    if _seen[0] != n_modules:
        versions = {"python": platform.python_version()}
        for name, module in list(sys.modules.items()):
            # Out of its namespace: asking the module itself can warn, or import something.
            version = None if "." in name or name.startswith("_") else vars(module).get("__version__")
            if isinstance(version, str) and name not in sys.stdlib_module_names:
                versions[name] = version
        _seen = (n_modules, versions)
    return _seen[1]
