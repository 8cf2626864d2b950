"""What becomes of what a stage returned and wrote: each output goes into the store, or is packed to travel."""

from __future__ import annotations

import io
import json
import pickle
import socket
import types
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curidask.caching.base import Cacheable, StageFiles
from curidask.core.artifact_names import safe_part
from curidask.core.code.identity import is_installed
from curidask.core.preview import describe_params, preview
from curidask.errors import ArtifactDamagedError, CacheError, CuridaskError, OutputSignatureError, UnpicklableError
from curidask.execution.artifact_io import artifact_info, bind, cacher_name
from curidask.execution.base import ArtifactInfo, Environment, Job, JobOutput, Keep, Reported
from curidask.execution.copies import read_once_error, read_once_part
from curidask.execution.returned_paths import NOTE, Holder, Referring, ReturnedPaths, pack, with_paths
from curidask.execution.stage_context import StageContext, written_as_output
from curidask.execution.tracebacks import loaded_packages, user_name
from curidask.hashing import digest
from curidask.store.backends.errors import what_is_full
from curidask.store.manifest import (
    BROUGHT,
    LARGE_BYTES,
    MOST_BYTES,
    FileEntry,
    Manifest,
    is_named_texts,
    is_text,
    parse_json,
    read_file,
)
from curidask.store.workspace import Workspace

# --- what a stage reported, kept beside its artifacts ----------------------------------------------------------------
# Written by the worker, read when a later run reuses the stage.

FOLDER = ".reported"
"""Follows the marker in the names; what a stage writes itself has an underscore there."""


def index_name(marker: str) -> str:
    """The object that lists what a stage reported."""
    return f"{marker}{FOLDER}/index.json"


def write(reported: Sequence[Reported], files: Workspace) -> None:
    """Put reportables among the files of a stage.

    Parameters
    ----------
    files : Workspace
        Of the stage's tracked files.
    """
    if not reported:
        return
    folder = files.path(files.basename + FOLDER)
    folder.mkdir()
    rows = []
    for number, item in enumerate(reported):
        names = {name: f"{number}-{safe_part(name)}" for name in item.files}
        for name, data in item.files.items():
            (folder / names[name]).write_bytes(data)
        row = {"name": item.name, "group": item.group, "kind": item.kind, "html": item.html, "files": names}
        rows.append(row if item.input_record is None else {**row, "input_record": item.input_record})
    (folder / "index.json").write_text(json.dumps(rows), encoding="utf-8")


def read(marker: str, tracked: Mapping[str, Path]) -> list[Reported]:
    """The reportables among the verified tracked files of a stage.

    Parameters
    ----------
    marker : str
        The store name of the stage's tracked files.
    tracked : mapping of str to Path
        Their names in the store, and where they lie.

    Raises
    ------
    ArtifactDamagedError
        When the list of them has another form, or names what is no file of the stage.
    """
    index = tracked.get(index_name(marker))
    if index is None:
        return []
    try:
        rows = parse_json(read_file(index), LARGE_BYTES)
        if not isinstance(rows, list):
            raise ValueError("it is no list")
        return [_reported(marker, row, tracked) for row in rows]
    except (OSError, ValueError) as error:
        raise ArtifactDamagedError(f"What it reported cannot be read: {error}.", where=marker) from error


def _reported(marker: str, row: Any, tracked: Mapping[str, Path]) -> Reported:
    if not isinstance(row, dict) or not all(is_right(row.get(name)) for name, is_right in _IS_RIGHT.items()):
        raise ValueError("it has another form")
    # Only files of the stage itself, by their names in the store: a name is never made into a path.
    places = {name: tracked.get(f"{marker}{FOLDER}/{kept}") for name, kept in row["files"].items()}
    files = {}
    for name, place in places.items():
        if place is None:
            raise ValueError(f"there is no file {name!r:.80}")
        files[name] = read_file(place, MOST_BYTES)
    return Reported(row["name"], row["group"], row["kind"], row["html"], files, row.get("input_record"))


_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "group", "kind"), is_text),
    "html": lambda value: isinstance(value, str),
    "files": is_named_texts,
    "input_record": lambda value: value is None or type(value) is int,
}


# --- whether what a stage returned brings code along -----------------------------------------------------------------
# Then equal bytes do not mean that it does the same.

PICKLING = ("PickleCacher", "PandasCacher")
"""Our cachers that may store more than plain data."""

_PACKAGE = __name__.partition(".")[0]


def brings_code(template: Any, value: Any) -> bool:
    """Whether another version of the project's code may load something else, out of the same bytes.

    Parameters
    ----------
    template : type or object
        The cacher, as the stage declares it. What an instance is told decides what it loads, as its code does.
    """
    if not isinstance(template, type) or template.__module__.partition(".")[0] != _PACKAGE:
        return True
    return template.__name__ in PICKLING and _has_code(value)


def mark(code: str, contents: Iterable[str]) -> str:
    """What tells such a value from another of the same bytes.

    Parameters
    ----------
    code : str
        What stands for the code of the stage in its key, that of its cachers among it.
    contents : iterable of str
        What the stage was given, in the order of its inputs.
    """
    return digest((BROUGHT, code, list(contents)))


class _FoundError(Exception):
    """Ends a search."""


class _Search(pickle.Pickler):
    """Goes through a value as pickle does, to the first function or class of a project."""

    def reducer_override(self, obj: Any) -> Any:
        """Write a number in place of functions and classes, which need not be found by their name."""
        is_named = hasattr(obj, "__qualname__") and getattr(
            obj, "__module__", None
        )  # functions of compiled modules too
        if not is_installed(obj if is_named else type(obj)):
            raise _FoundError
        is_code = isinstance(obj, type | types.FunctionType)
        return NotImplemented if obj is int or not is_code else (int, ())


def _has_code(value: Any) -> bool:
    """Whether functions or classes of a project are in a value; also where that cannot be told."""
    try:
        _Search(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=lambda buffer: False).dump(value)
    except Exception:
        return True
    return False


# --- outputs ---------------------------------------------------------------------------------------------------------
NO_ROOM = "free space on the disk of the cache or choose another with --cache; what is committed stays"


@dataclass(slots=True)
class Making:
    """An output that goes through a cacher.

    Attributes
    ----------
    cacher : Cacheable
        Bound to the workspace.
    brings_code : bool
        Whether its value may be another one with other code.
    holders : collection of Holder
        The artifacts that the files go with which its value names.
    """

    output: JobOutput
    cacher: Cacheable
    workspace: Workspace
    holders: Collection[Holder] = ()
    brings_code: bool = False

    @property
    def holder(self) -> Holder:
        """The artifact to be."""
        return self.output.stem, self.output.key

    @property
    def refers(self) -> bool:
        """Whether what the stage wrote beside its outputs goes with this one too."""
        return self.cacher.refers or bool(self.holders)


@dataclass(slots=True)
class OutputWriter:
    """Keeps the outputs of one call of a stage.

    Attributes
    ----------
    files : Workspace
        What the stage wrote beside its outputs.
    input_digests : mapping of str to str
        The digests of the inputs that were loaded, by key.
    replace_whole : bool
        Whether what is whole in the store gives way.
    may_commit : callable
        Raises when somebody else has the right to commit by now.
    values : dict of int to object
        The outputs that are not stored, packed, by place.
    """

    job: Job
    env: Environment
    files: Workspace
    reported: Sequence[Reported]
    input_digests: Mapping[str, str]
    replace_whole: bool
    may_commit: Callable[[], None]
    values: dict[int, Any] = field(default_factory=dict)
    _call: str = field(default_factory=lambda: uuid.uuid4().hex)
    _making: list[Making | None] = field(default_factory=list)

    def prepare(self, record: StageContext, folders: ExitStack) -> None:
        """Bind the cachers before the call, since the stage may ask them for their paths."""
        for output in self.job.outputs:
            if output.keep is Keep.PASS:
                self._making.append(None)
                continue
            workspace = folders.enter_context(self.env.store.workspace(output.stem, run=self.env.work))
            cacher = bind(output.cacher, workspace.folder, workspace.basename, output.name, self.job.spec.name, record)
            if cacher.refers:
                cacher.stage_files = StageFiles.being_made(self.files)
            self._making.append(Making(output, cacher, workspace))

    def show_cachers(self) -> list[Cacheable | None] | None:
        """The cachers, for the stage; None when it has none."""
        for making in filter(None, self._making):
            making.workspace.shown = True
        if not any(self._making):
            return None
        return [None if making is None else making.cacher for making in self._making]

    def keep(self, returned: Any, seconds: float) -> tuple[ArtifactInfo, ...]:
        """Keep what the function returned after so many seconds; what is said of the stored ones."""
        paths = self._returned_paths()
        saved: list[tuple[Making, str]] = []
        # All are written before one is committed: an output may refer to the stage's files, which move then.
        for index, (making, value) in enumerate(zip(self._making, split_outputs(self.job, returned), strict=True)):
            output = self.job.outputs[index]
            with written_as_output():
                kept = self._pass(output, value, paths) if making is None else self._save(making, value, paths)
            if making is None:
                self.values[index] = kept
                continue
            if output.keep is Keep.ROUND_TRIP:
                self.values[index] = self._round_trip(making, paths)
            else:
                saved.append((making, preview(kept)))
        if paths is not None:
            paths.check_written()
        if saved:
            return self._commit(saved, seconds)
        if not self.files.is_empty and self._is_stored:
            self._commit_files(seconds)
        return ()

    @property
    def _is_stored(self) -> bool:
        """Whether anything is; in a dry run files stay where they are until it ends."""
        return self.job.marker.keep is Keep.COMMIT

    # --- paths of the stage's files --------------------------------------------------------------------------------
    def _returned_paths(self) -> ReturnedPaths | None:
        """What deals with the paths that the stage was given; None when it was given none."""
        shown: list[tuple[Workspace, Holder | None]] = [(self.files, None)] if self.files.shown else []
        shown += [(m.workspace, m.holder) for m in self._making if m is not None and m.workspace.shown]
        for workspace, _ in shown:
            workspace.stays = not self._is_stored
        return ReturnedPaths(shown, self.job.label) if shown else None

    def _pass(self, output: JobOutput, value: Any, paths: ReturnedPaths | None) -> Any:
        """Pack a value that is not stored."""
        if paths is None:
            return self._pack(output, value)
        first = next((m.holder for m in self._making if m is not None), (self.job.marker.stem, self.job.marker.key))
        replaced, holders = paths.replaced(value, first, output.name)
        packed = self._pack(output, Referring(replaced, holders) if holders else replaced)
        paths.check_packed(packed, output.name)
        return packed if self._is_stored or not holders else self._pack(output, value)

    def _save(self, making: Making, value: Any, paths: ReturnedPaths | None) -> Any:
        """Write a value; gives it as it was written."""
        name = making.output.name
        if paths is not None and not making.cacher.refers:
            value, making.holders = paths.replaced(value, making.holder, name)
        self._write(making, value)
        making.brings_code = brings_code(making.output.cacher, value)
        if paths is not None:
            paths.check_files(making.workspace, name)
        return value

    def _round_trip(self, making: Making, paths: ReturnedPaths | None) -> Any:
        value = making.cacher.load()
        if making.holders and paths is not None:
            value = with_paths(value, paths.local)
        return self._pack(making.output, value)

    def _commit(self, saved: Sequence[tuple[Making, str]], seconds: float) -> tuple[ArtifactInfo, ...]:
        self.may_commit()
        write(self.reported, self.files)
        theirs = self._made_by_another(saved)
        if theirs:
            return tuple(map(artifact_info, theirs))
        replace_whole = self.replace_whole or len(saved) > 1  # or some of it would be of another call
        artifacts = []
        tracked: Workspace | tuple[FileEntry, ...] | None = self.files
        for making, text in saved:
            whole = self.env.store.commit(
                making.workspace,
                self._manifest(making.output, making, text, seconds),
                tracked=tracked if tracked is self.files or making.refers else None,
                replace_whole=replace_whole,
            )
            artifacts.append(artifact_info(whole, self.env.store.take_tags(whole.stem)))
            if tracked is self.files:  # the first one took them into the store
                tracked = whole.tracked
        return tuple(artifacts)

    def _made_by_another(self, saved: Sequence[tuple[Making, str]]) -> list[Manifest]:
        """What another call has stored meanwhile, of all outputs: same key, same result, so the first one stays.

        Under a claim there is none.
        """
        claims = self.env.claims
        is_claimed = claims is not None and not self.env.store.is_left_alone(claims.objects)
        if self.replace_whole or len(saved) < 2 or is_claimed:
            return []
        stems = [making.output.stem for making, _ in saved]
        found = self.env.store.manifests(stems)
        calls = {manifest.call for manifest in found.values()}
        is_whole = len(found) == len(saved) and len(calls) == 1 and self.env.store.present(stems) == set(stems)
        return [found[stem] for stem in stems] if is_whole else []

    def _commit_files(self, seconds: float) -> None:
        """Store what a stage without stored outputs wrote, so that it is there later and, without outputs, reusable."""
        self.may_commit()
        write(self.reported, self.files)
        marker = self.job.marker
        with self.env.store.workspace(marker.stem, run=self.env.work) as nothing:
            manifest = self._manifest(marker, None, "", seconds)
            self.env.store.commit(nothing, manifest, tracked=self.files, replace_whole=True)

    def _write(self, making: Making, value: Any) -> None:
        output, cacher = making.output, making.cacher
        try:
            making.workspace.mend()
            cacher.save(value)
        except CuridaskError as error:
            error.where = error.where or f"output {output.name!r} of {self.job.label}"
            raise
        except OSError as error:
            raise CacheError(
                f"The output {output.name!r} could not be written: {error.strerror or error}.",
                where=f"{type(cacher).__name__} of {self.job.label}",
                fix=what_is_full(error) or NO_ROOM,
            ) from error

    def _pack(self, output: JobOutput, value: Any) -> Any:
        try:
            return pack(value, portable=self.env.portable, shared=output.shared)
        except Exception as error:
            part = read_once_part(value)
            if part is not None:
                fix = "return `list(...)` of it, or give the output a cacher that stores what it yields"
                what = f"The output {output.name!r}"
                raise read_once_error(what, value, part, where=self.job.label, fix=fix) from None
            raise UnpicklableError(
                f"The output {output.name!r} ({type(value).__name__}) cannot travel between processes: {error}",
                where=self.job.label,
                fix="return plain data, give the output a cacher that can store it, make it inside the stage that "
                "uses it, or run in this process with --parallel 0",
            ) from error

    def _manifest(self, output: JobOutput, making: Making | None, text: str, seconds: float) -> Manifest:
        job = self.job
        facts = {} if making is None else dict(making.cacher.extra_metadata)
        if making is not None and making.holders:
            facts[NOTE] = sorted(list(holder) for holder in making.holders if holder != making.holder)
        return Manifest(
            key=output.key,
            stem=output.stem,
            prefix=job.prefix,
            stage=job.spec.name,
            output=output.name,
            params_hash=job.record.used_hash,
            set_name=job.record.name,
            components=self._components(making),
            cacher=cacher_name(making and making.cacher),
            preview=text,
            params=describe_params(job.record.params, job.record.used_names),
            inputs=tuple(self._describe_inputs()),
            call=self._call,
            run=self.env.run,
            user=user_name(),
            host=socket.gethostname(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(seconds, 6),
            packages=loaded_packages(),
            extra_metadata=facts,
        )

    def _components(self, making: Making | None) -> dict[str, Any]:
        if making is None or not making.brings_code:
            return dict(self.job.components)
        contents = [self.input_digests.get(source.key, "") for source in self.job.sources]
        return {**self.job.components, BROUGHT: mark(str(self.job.components.get("code")), contents)}

    def _describe_inputs(self) -> list[dict[str, Any]]:
        rows = [(name, source) for name, source in self.job.inputs.items()]
        rows += [(name, source) for _, sources in self.job.gathered for name, source in sources.items()]
        direct = [{"name": n, "key": s.key, "digest": self.input_digests.get(s.key, "")} for n, s in rows]
        keys = {source.key for _, source in rows}
        return direct + [{"name": "", "key": k, "digest": d} for k, d in self.input_digests.items() if k not in keys]


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
