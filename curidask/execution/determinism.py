"""A second call of a stage on the same inputs, of which nothing is kept: tells what came out another time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

from curidask.caching import files as pickling
from curidask.core.graph import RecordInfo
from curidask.core.hash_fields import field_names
from curidask.execution.artifact_io import artifact_info, bind, cacher_name
from curidask.execution.base import ArtifactInfo, Environment, Finding, Job, JobOutput, Keep, Reported, Source, Stored
from curidask.execution.copies import is_plain
from curidask.execution.inputs import Inputs
from curidask.execution.outputs import FOLDER, Making, OutputWriter
from curidask.execution.returned_paths import Made, ReturnedPaths, Unpicklable, unpack
from curidask.execution.stage_call import with_retries
from curidask.execution.stage_context import StoredRecord
from curidask.execution.stage_paths import InputLostSignal
from curidask.execution.tracebacks import first_line
from curidask.hashing import digest, encode
from curidask.store.manifest import FileEntry
from curidask.store.payload import prepare, scan

DIFFERS, CACHED, CHANGED, FAILED = "differs", "cached", "changed", "failed"
SHOWN_DIGITS = 8

Call = Callable[[ExitStack, Inputs, list[Reported], type[OutputWriter]], tuple[OutputWriter, tuple[ArtifactInfo, ...]]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an output or a file was.

    Attributes
    ----------
    digest : str
        Of its bytes; empty where there are none.
    load : callable, optional
        Gives the value, with tokens in the place of paths; None for what is no more than its bytes.
    """

    digest: str = ""
    load: Callable[[], Any] | None = None

    def is_like(self, other: Evidence) -> bool:
        """Whether both are the same: equal bytes, or equal values that are written in another way."""
        if self.digest == other.digest:
            return True
        if self.load is None or other.load is None:
            return False
        with suppress(Exception):  # of the cacher
            return are_equal(self.load(), other.load()) is not False
        return False

    def __str__(self) -> str:
        return self.digest[:SHOWN_DIGITS] or "nothing"


Evidences = Mapping[str, Evidence]
"""By what they are of, in words."""


def are_equal(first: Any, second: Any) -> bool | None:
    """Whether two values are equal by their pickles or their canonical encodings; None when neither tells."""
    if first is second:
        return True
    told = None
    for form in (pickling.dumps, encode, _pickled_again):
        with suppress(Exception):  # a value without that form
            told = form(first) == form(second)
            if told:
                return True
    return told


def _pickled_again(value: Any) -> bytes:
    """A pickle that does not tell which of its parts were one object by chance, as interned texts are."""
    return pickling.dumps(pickling.loads(pickling.dumps(value)))


class Witness(OutputWriter):
    """Keeps the outputs of a call as always, and knows afterwards what they were."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.evidence: dict[str, Evidence] = {}

    def keep(self, returned: Any, seconds: float) -> tuple[ArtifactInfo, ...]:
        """See `OutputWriter.keep`."""
        written = scan(self.files, f"The stage {self.job.spec.name!r}")[1]  # before what was reported lies there
        self.evidence.update(_of_files(self.job, written))
        return super().keep(returned, seconds)

    def _pass(self, output: JobOutput, value: Any, paths: ReturnedPaths | None) -> Any:
        kept = super()._pass(output, value, paths)
        told = value if paths is None else paths.replaced(value, ("", ""), output.name)[0]
        self.evidence[_named(output)] = _of_packed(self._pack(output, told))
        return kept

    def _save(self, making: Making, value: Any, paths: ReturnedPaths | None) -> Any:
        kept = super()._save(making, value, paths)
        files = prepare(making.workspace, self._manifest(making.output, making, "", 0.0), None)
        load = None if making.cacher.refers else self._loader(making)
        self.evidence[_named(making.output)] = Evidence(files.manifest.digest, load)
        return kept

    def _loader(self, making: Making) -> Callable[[], Any]:
        if making.output.keep is Keep.COMMIT:
            return partial(_stored_value, self.job, making.output, self.env)
        packed = self._pack(making.output, making.cacher.load())  # its folder is gone when it is asked for
        return partial(unpack, packed, shared=True)

    def _commit(self, saved: Sequence[tuple[Making, str]], seconds: float) -> tuple[ArtifactInfo, ...]:
        if self.job.commits or self.job.stored:
            return super()._commit(saved, seconds)
        found = self.env.store.manifests(making.output.stem for making, _ in saved)
        return tuple(map(artifact_info, found.values()))

    def _commit_files(self, seconds: float) -> None:
        marker = self.job.marker.stem
        if self.job.commits or self.job.stored or self.env.store.manifest(marker) is None:
            super()._commit_files(seconds)


class Unkept(Witness):
    """Knows what the outputs of a call were, and leaves nothing of them when its working folders go."""

    def keep(self, returned: Any, seconds: float) -> tuple[ArtifactInfo, ...]:
        """Nothing is stored."""
        try:
            return super().keep(returned, seconds)
        finally:
            for workspace in (self.files, *(making.workspace for making in self._making if making is not None)):
                workspace.stays = False

    def _loader(self, making: Making) -> Callable[[], Any]:
        return making.cacher.load

    def _commit(self, saved: Sequence[tuple[Making, str]], seconds: float) -> tuple[ArtifactInfo, ...]:
        return ()

    def _commit_files(self, seconds: float) -> None:
        pass


class Observed(Inputs):
    """Loads the inputs of a job, and can tell afterwards which of them were changed in place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._loaded: list[tuple[Source, Any]] = []
        self._record_given: Any = None

    def load(self, source: Source) -> Any:
        """See `Inputs.load`."""
        value = super().load(source)
        if not is_plain(value) and not (isinstance(source, Stored) and source.lazy):
            self._loaded.append((source, value))
        return value

    def own_record(self, files: Any, reported: list[Reported]) -> Any:
        """See `Inputs.own_record`."""
        record = super().own_record(files, reported)
        self._record_given = record
        return record

    def changed(self) -> dict[str, None]:
        """What is another now than it was, in words."""
        names = _names_of_sources(self.job)
        found = {names[id(source)]: None for source, value in self._loaded if self._is_changed(source, value)}
        members = zip(self._gathered, (info for info, _ in self.job.gathered), strict=True)
        if _has_changed_set(self._record_given, self.job.record):
            found["parameters"] = None
        return found | {f"parameters of {info.label}": None for each, info in members if _has_changed_set(each, info)}

    def _is_changed(self, source: Source, value: Any) -> bool:
        before = super().load(source)
        # What is not even like itself when it is loaded twice tells nothing.
        return are_equal(value, before) is False and are_equal(super().load(source), before) is True


def _names_of_sources(job: Job) -> dict[int, str]:
    named = [("input {!r}", job.inputs), ("argument {!r}", job.kwargs)]
    named += [(f"input {{!r}} of {info.label}", sources) for info, sources in job.gathered]
    return {id(source): text.format(name) for text, sources in named for name, source in sources.items()}


def _has_changed_set(record: Any, info: RecordInfo) -> bool:
    held = vars(record).get("params")  # there once the stage has looked at it
    if held is None:
        return False
    names = field_names(info.params) if info.used_names is None else info.used_names
    return are_equal(*([_part(params, name) for name in names] for params in (held, info.params))) is False


def _part(params: Any, name: str) -> Any:
    return reduce(lambda holder, field: getattr(holder, field, None), name.split("."), params)


class SecondCall:
    """Calls a stage again.

    Parameters
    ----------
    passed : mapping
        See `Inputs`.
    call : callable
        Calls the stage on inputs and gives what kept the outputs.
    warn : callable
        Told of each exception that another attempt follows.

    Attributes
    ----------
    reported : list of Reported
        What it reported.
    """

    def __init__(
        self,
        job: Job,
        env: Environment,
        passed: Mapping[int, Mapping[int, Any]],
        call: Call,
        warn: Callable[[str], None],
    ) -> None:
        self.reported: list[Reported] = []
        self._job = job
        self._env = env
        self._passed = passed
        self._call = call
        self._warn = warn

    def compared_with(self, first: Witness | None) -> tuple[Finding, ...]:
        """What it shows, beside what the first call made; None for what lies in the store."""
        try:
            with ExitStack() as folders:
                return tuple(self._findings(first, folders))
        except InputLostSignal as signal:
            return (Finding(CHANGED, f"inputs in the cache ({signal.error.what})"),)
        except Exception as error:
            return (Finding(FAILED, first_line(error)),)

    def _findings(self, first: Witness | None, folders: ExitStack) -> Iterator[Finding]:
        second, changed = self._again(folders)
        yield from (Finding(CHANGED, name) for name in changed)
        if first is not None:
            yield from differences(first.evidence, second.evidence)
            return
        found = differences(_of_stored(self._job, self._env), second.evidence)
        if found:  # made of other inputs, by other packages: only two calls on the same ones tell
            third, _ = self._again(folders)
            found = differences(second.evidence, third.evidence) or [replace(each, kind=CACHED) for each in found]
        yield from found

    def _again(self, folders: ExitStack) -> tuple[Witness, Iterable[str]]:
        def attempt() -> tuple[Witness, Iterable[str]]:
            self.reported = []
            inputs = Observed(self._job, self._env, self._passed)
            keeper, _ = self._call(folders, inputs, self.reported, Unkept)
            assert isinstance(keeper, Witness)
            return keeper, inputs.changed()

        return with_retries(attempt, self._job, self._warn)


def differences(first: Evidences, second: Evidences) -> list[Finding]:
    """What is not the same in both."""
    pairs = {name: (first.get(name, Evidence()), second.get(name, Evidence())) for name in {**first, **second}}
    return [Finding(DIFFERS, name, f"{a} and {b}") for name, (a, b) in pairs.items() if not a.is_like(b)]


# --- evidence --------------------------------------------------------------------------------------------------------
def _named(output: JobOutput) -> str:
    return f"output {output.name!r}"


def _of_files(job: Job, entries: Iterable[FileEntry]) -> dict[str, Evidence]:
    start = job.marker.stem
    own = ((entry.name.removeprefix(start), entry.sha256) for entry in entries)
    return {f"file {name.lstrip('_')!r}": Evidence(sha256) for name, sha256 in own if not name.startswith(FOLDER)}


def _of_packed(packed: Made) -> Evidence:
    load = partial(unpack, packed, shared=True)
    if not isinstance(packed, Unpicklable):
        return Evidence(hashlib.sha256(b"".join(packed.blocks)).hexdigest(), load)
    with suppress(Exception):  # a value without an identity tells nothing
        return Evidence(digest(packed.value), load)
    return Evidence()


def _of_stored(job: Job, env: Environment) -> Evidences:
    """What the store holds of a job all of whose outputs are stored."""
    found: dict[str, Evidence] = {}
    for output in job.outputs or (job.marker,):
        manifest = env.store.checkout(output.stem, output.key).manifest
        found.update(_of_files(job, manifest.tracked))
        if output.cacher is not None:
            refers = getattr(output.cacher, "refers", False)
            load = None if refers else partial(_stored_value, job, output, env)
            found[_named(output)] = Evidence(manifest.digest, load)
    return found


def _stored_value(job: Job, output: JobOutput, env: Environment) -> Any:
    """A stored value with tokens in the place of paths, which are others in each working folder."""
    source = Stored(job.id, output.name, output.stem, output.key, output.cacher, job.spec.name, job.record)
    checkout = env.store.checkout(output.stem, output.key, cacher=cacher_name(output.cacher))
    record = StoredRecord(source, env.facts, checkout, env.store)
    cacher = bind(output.cacher, checkout.folder, checkout.basename, output.name, job.spec.name, record)
    cacher.describe_by(checkout.manifest)
    return cacher.load()
