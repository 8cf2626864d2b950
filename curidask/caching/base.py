"""The base of all cachers, and `Lazy`, the reference to a stored value."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from curidask.caching import comparing
from curidask.caching.values import json_bytes
from curidask.core.artifact_names import ArtifactName, payload_name, suffixed
from curidask.core.keywords import CheckedCalls, described, keywords
from curidask.errors import CacheError, CacherPathError, IncompleteCacherError, WrongTypeError

if TYPE_CHECKING:
    from curidask.store.manifest import Manifest
    from curidask.store.workspace import Workspace

PACKAGE = "curidask.caching"
METADATA_SUFFIX = "_metadata.json"


@dataclass(frozen=True, slots=True)
class StageFiles:
    """The files that a stage wrote beside its outputs: where they lie now, and their names in the store.

    Attributes
    ----------
    workspace : Workspace or None
        The working folder in which they are being made; None for files that came out of the store.
    tracked : mapping of str to Path
        Those that came out of the store, verified, by their names there.
    """

    workspace: Workspace | None = None
    tracked: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def being_made(cls, workspace: Workspace) -> StageFiles:
        """Those in a workspace that is not committed yet."""
        return cls(workspace)

    @property
    def _subdir(self) -> str:
        """What their names in the store begin with, before what lies in the folder."""
        if self.workspace is None:
            return ""
        return self.workspace.stem[: len(self.workspace.stem) - len(self.workspace.basename)]

    def new_path(self, name: str) -> str:
        """A path to write to, by what follows the store name of the stage's files; the folder around it is made by now.

        Only while they are being made.
        """
        assert self.workspace is not None
        path = self.workspace.path(self.workspace.basename + name)
        self.workspace.shown = True
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def name_of(self, path: str) -> str | None:
        """The name in the store of a path in the working folder; None for a path elsewhere."""
        if self.workspace is None or not self.workspace.made:
            return None
        for form in (os.path.abspath, os.path.realpath):  # a user may have resolved links on the way
            folder, inside = form(self.workspace.location) + os.sep, form(path)
            if inside.startswith(folder):
                return self._subdir + inside[len(folder) :].replace(os.sep, "/")
        return None

    def path_of(self, name: str) -> str | None:
        """Where the file or folder of that name lies now; None where there is none."""
        if self.workspace is not None:
            path = os.path.join(self.workspace.location, name[len(self._subdir) :])
            return path if os.path.exists(path) else None
        if name in self.tracked:
            return os.fspath(self.tracked[name])
        inside = next((other for other in self.tracked if other.startswith(name + "/")), None)
        if inside is None:
            return None
        return os.fspath(self.tracked[inside])[: len(name) - len(inside)]


class Cacheable(CheckedCalls):
    """Writes a value to files and reads it back.

    A subclass overrides `save` and `load` only. Both work on local paths that `get_path` and `get_dir` give; where
    those are, and how the files get into the cache and back, is not the cacher's business, so one that works in a
    folder also works on an object store.

    Stages take a class or an instance in ``cachers=[...]``. A cacher with a path also works by itself, and so does one
    with a record and a name, whose path is that of ``record.get_path``::

        JsonCacher("results.json").save({"score": 0.9})
        scores = JsonCacher("results.json").load()
        JsonCacher(name="scores", record=record).save(scores)

    Parameters
    ----------
    path_override : str or Path, optional
        The file to use, when the cacher is used by itself. Its folder is made by `save`. On a stage, where a copy is
        published for people, from the project's folder on; a template that may name parameters of the set and more:
        see `override_path`. (`overwrite_path` is a synonym.)
    name : str, optional
        Name of the value; on a stage, the output's name.
    subdir : str, optional
        Folders within the cache for the files, separated by ``/``.
    prefix : str, optional
        How the files' names begin, instead of with the experiment's name. Experiments that give the same one share.
    extension : str, optional
        Of the files, instead of the class's own.
    record : Record, optional
        The record that the value belongs to, for a cacher that is used by itself; see `set_record`.
    track : bool
        Whether the files go into the folder of a store-full run.

    Attributes
    ----------
    extra_metadata : dict
        Facts that `save` wants to keep and `load` wants to see; JSON values.
    metadata : dict or None
        What is known of the value; see `collect_metadata`.
    cache_paths : list of str
        The paths that `get_path` gave so far.
    record, params, stage
        The record, its parameter set and the stage's name; None when the cacher is used by itself.
    stage_files : StageFiles or None
        What the stage wrote beside its outputs, for a class with ``refers = True``.
    pin : object
        Keeps what it loads on this machine's disk, as long as the cacher is there.
    manifest : Manifest or None
        Of the artifact that it loads.

    Notes
    -----
    The constructor of a subclass need not call this one. An instance on a stage is a template: each artifact gets a
    shallow copy of it.
    """

    __module__ = PACKAGE

    extension: str = ""
    exact: ClassVar[bool] = False
    """Whether `load` gives a value that equals the saved one in all respects, whatever value it takes."""
    refers: ClassVar[bool] = False
    """Whether the payload refers to files outside of it, which `check_references` looks at."""
    publishes: ClassVar[bool] = True
    """Whether a copy of the payload is put where `path_override` says; without, the stage itself writes there."""

    path_override: str | Path | None = None
    name: str | None = None
    subdir: str | None = None
    prefix: str | None = None
    track: bool = True
    record: Any = None
    stage: str | None = None
    stage_files: StageFiles | None = None
    pin: object = None
    manifest: Manifest | None = None
    _folder: str | None = None
    _basename: str = ""

    @keywords(overwrite_path="path_override")
    def __init__(
        self,
        path_override: str | Path | None = None,
        name: str | None = None,
        subdir: str | None = None,
        prefix: str | None = None,
        extension: str | None = None,
        record: Any = None,
        track: bool = True,
    ) -> None:
        self.path_override = path_override
        self.name = name
        self.subdir = subdir
        self.prefix = prefix
        self.track = track
        if extension is not None:
            self.extension = extension if extension.startswith(".") or not extension else f".{extension}"
        if record is not None:
            self.set_record(record)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__module__.startswith(f"{PACKAGE}."):
            cls.__module__ = PACKAGE  # where it is documented, whichever module it lies in
        if "save" in cls.__dict__ and not hasattr(cls.__dict__["save"], "__wrapped__"):
            cls.save = _making_folder(cls.__dict__["save"])  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    # --- what a subclass overrides -----------------------------------------------------------------------------------
    def save(self, obj: Any) -> Any:
        """Write a value to `get_path`, or to several paths, or below `get_dir`."""
        raise IncompleteCacherError(
            f"{type(self).__name__} does not say how to save.", fix="define `save(self, obj)` in the class"
        )

    def load(self) -> Any:
        """Read the value back from where `save` wrote it."""
        raise IncompleteCacherError(
            f"{type(self).__name__} does not say how to load.", fix="define `load(self)` in the class"
        )

    def check(self) -> bool:
        """Whether there is something to load: a stored artifact, which was verified, or anything at `get_path`.

        Of a class that overrides it, it is asked before a stage's artifact is reused: False, or an
        `ArtifactMissingError`, has the stage run again.
        """
        return self.manifest is not None or os.path.exists(self.get_path())

    def check_ready(self) -> None:
        """Raise a `CacheError` when `save` could not work here, since a package is missing, for one.

        Called where the stage is about to run, so that nothing is computed for hours that cannot be stored then, and
        before `save` of a cacher that is used by itself.
        """

    def check_references(self) -> None:
        """Look at what the payload refers to; for classes with ``refers = True``.

        Raises
        ------
        ArtifactMissingError
            When it is gone or changed: the artifact is then made again.
        """

    # --- what it uses ------------------------------------------------------------------------------------------------
    @keywords()
    def get_path(self, suffix: str | None = None) -> str:
        """A path for a file of the value.

        Parameters
        ----------
        suffix : str, optional
            Tells several files of one value apart. It takes the place of the extension: of a JSON cacher,
            ``get_path()`` ends in ``.json``, ``get_path("_part2")`` in ``_part2`` and ``get_path("_weights.npz")`` in
            ``_weights.npz``. An underscore is put before a suffix that begins with neither ``_`` nor ``.``.

        Raises
        ------
        CacherPathError
            When the cacher is not used by a stage, and has neither a path nor a record and a name.
        UnsafeNameError
            When the suffix has separators, or names the artifact's own metadata.
        """
        path = self._path(suffix)
        if path not in self.cache_paths:
            self.cache_paths.append(path)
        return path

    @keywords(suffix="name")
    def get_dir(self, name: str | None = None) -> str:
        """A folder for files of the value with names of their own, made by now; `name` as the suffix of `get_path`."""
        path = self._dir(name)
        os.makedirs(path, exist_ok=True)
        return path

    @property
    def cache_paths(self) -> list[str]:
        """The paths that `get_path` gave so far."""
        # Made here, since a subclass's constructor may not call ours.
        paths: list[str] = self.__dict__.setdefault("_cache_paths", [])
        return paths

    @property
    def params(self) -> Any:
        """The parameter set the value belongs to, None when the cacher is used by itself."""
        return getattr(self.record, "params", None)

    @keywords()
    def set_record(self, record: Any) -> None:
        """Let the value belong to a record: a name is then enough for a path, and `metadata` describes it."""
        if record is not None and not hasattr(record, "params"):
            raise WrongTypeError(
                f"The record of {type(self).__name__} is {described(record)}, not a Record.",
                fix="give what `Record(manager, param_set)` made",
            )
        self.record = record
        self.__dict__.pop("_metadata", None)

    # --- what is kept of the value -----------------------------------------------------------------------------------
    @property
    def extra_metadata(self) -> dict[str, Any]:
        """Facts kept with the value."""
        facts: dict[str, Any] = self.__dict__.setdefault("_extra_metadata", {})
        return facts

    @extra_metadata.setter
    def extra_metadata(self, facts: dict[str, Any]) -> None:
        self.__dict__["_extra_metadata"] = facts

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What is known of the value; None for a cacher without a record until `load_metadata` found something."""
        if "_metadata" not in self.__dict__ and (self.record is not None or self.manifest is not None):
            self.collect_metadata()
        metadata: dict[str, Any] | None = self.__dict__.get("_metadata")
        return metadata

    @metadata.setter
    def metadata(self, facts: dict[str, Any] | None) -> None:
        self.__dict__["_metadata"] = facts

    def collect_metadata(self) -> None:
        """Fill `metadata` with what is known now.

        That is ``artifact_generated`` (when), ``params_hash``, ``params_name``, ``record_name``, ``stage``,
        ``artifact_name``, ``cacher_type``, ``params`` (values for people to read), ``extra`` (`extra_metadata`) and
        ``manager_run_info`` (the run that made it). ``record_prior_stages`` and ``prior_records`` are there where the
        record knows them, and ``preview``, a short text about the value, once it is stored.

        Raises
        ------
        CacheError
            When the cacher has no record.
        """
        if self.record is None and self.manifest is None:
            raise CacheError(
                f"A {type(self).__name__} without a record has no metadata to collect.",
                fix="give it one with `record=` or `set_record(record)`; `extra_metadata` needs none",
            )
        self.metadata = {
            **({} if self.record is None else comparing.of_record(self.record, self.stage)),
            **({} if self.manifest is None else comparing.of_manifest(self.manifest)),
            "artifact_name": self.name,
            "cacher_type": str(type(self)),
            "extra": self.extra_metadata,
        }

    def save_metadata(self) -> None:
        """Write `metadata`, or `extra_metadata` alone where there is no record, beside a value that is stored by hand.

        On a stage there is nothing to do: an artifact's description is stored with it.
        """
        if self._folder is not None:
            return
        metadata = self.metadata or {}
        metadata["extra"] = metadata.get("extra", {}) | self.extra_metadata
        path = self.get_path(METADATA_SUFFIX)
        data = json_bytes(metadata, path)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def load_metadata(self) -> dict[str, Any] | None:
        """Read what is known of a stored value into `metadata` and `extra_metadata`.

        Returns
        -------
        dict or None
            The metadata; None when there is none.

        Raises
        ------
        CacheError
            When the file beside a value that was stored by hand is none of ours.
        """
        if self._folder is None and os.path.exists(path := self.get_path(METADATA_SUFFIX)):
            self.metadata = _read_metadata(path)
            self.extra_metadata = self.metadata["extra"]
        return self.metadata

    # --- what the framework uses -------------------------------------------------------------------------------------
    def bound(
        self, folder: Path, basename: str, *, record: Any = None, stage: str | None = None, name: str | None = None
    ) -> Self:
        """Return a copy whose paths are in a folder and begin with a basename.

        Parameters
        ----------
        folder : Path
            A local folder: a workspace to save to, or a checkout to load from.
        basename : str
        record : Record, optional
        stage, name : str, optional
            The stage and the output.
        """
        other = copy.copy(self)
        other._folder = os.fspath(folder)
        other._basename = basename
        other.set_record(record)
        other.stage = stage
        other.name = name or self.name
        other.manifest = None
        other.extra_metadata = dict(self.extra_metadata)
        other.__dict__.pop("_cache_paths", None)
        return other

    def describe_by(self, manifest: Manifest) -> None:
        """Take over what the manifest of an artifact says, before the artifact is loaded."""
        self.manifest = manifest
        self.extra_metadata = dict(manifest.extra_metadata)

    def override_path(self) -> str | None:
        """The path that was asked for with `path_override`, its template filled in; None when none was.

        A template may name ``{params.x}`` (any field of the parameter set, also as ``{x}``), ``{hash}`` (also
        ``{params_hash}``), ``{stage}``, ``{name}`` (the output's), ``{experiment}``, ``{cache}`` (the cache's folder)
        and ``{artifact_filename}`` (prefix, hash, stage and name, with the extension). It is filled in when there is a
        record.

        Raises
        ------
        CacheError
            When the template names something that the parameter set does not have.
        """
        if self.path_override is None:
            return None
        template = os.fspath(self.path_override)
        if self.record is None:
            return template
        try:
            return template.format_map(_Fields(self))
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise CacheError(
                f"The path {template!r} names something that is not there: {error}.",
                where=f"{type(self).__name__} of stage {self.stage!r}",
                fix="name fields of the parameter set, or {stage}, {name}, {hash}, {experiment}, {artifact_filename}, "
                "or {cache} where the cache is a folder",
            ) from error

    # --- places ------------------------------------------------------------------------------------------------------
    @property
    def _own_extension(self) -> str:
        """What paths outside of the cache end in."""
        return self.extension

    def _path(self, suffix: str | None) -> str:
        if self._folder is not None:
            return os.path.join(self._folder, self._payload_name(suffix))
        path = self.override_path()
        return self._of_record("get_path", suffix) if path is None else beside(path, suffix, self._own_extension)

    def _dir(self, name: str | None) -> str:
        if self._folder is not None:
            return os.path.join(self._folder, payload_name(self._basename, name, ""))
        path = self.override_path()
        return self._of_record("get_dir", name) if path is None else beside(path, name, self._own_extension)

    def _payload_name(self, suffix: str | None) -> str:
        name = payload_name(self._basename, suffix, self.extension)
        if self.manifest is not None and suffix and "." not in suffix:
            # The extension once followed a suffix that had none.
            older, start = name + self.extension, len(self._basename)
            files = {entry.name for entry in self.manifest.files}
            return older if older[start:] in files and name[start:] not in files else name
        return name

    def _of_record(self, method: str, suffix: str | None) -> str:
        """The path that the record gives to files of this name."""
        if self.record is None or self.name is None:
            kind = type(self).__name__
            raise CacherPathError(
                f"A {kind} without a path was used by itself.",
                fix=f"give it one: {kind}('path/to/file'), or {kind}(name=..., record=record), or list it in a "
                "stage's `cachers`",
            )
        extension = "" if method == "get_dir" or self.name.endswith(self._own_extension) else self._own_extension
        name = suffixed(self.name, suffix) if suffix else self.name + extension
        stage = None if self._folder is not None else self.stage  # the record of a running stage knows which it is
        path: str = getattr(self.record, method)(name, self.subdir, self.prefix, stage, self.track)
        return path


def beside(path: str, suffix: str | None, extension: str) -> str:
    """The path of a file with a suffix beside the one at a path, from which an extension is taken off."""
    return suffixed(path.removesuffix(extension), suffix) if suffix else path


def _read_metadata(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
        if isinstance(found, dict) and isinstance(found.setdefault("extra", {}), dict):
            return found
        problem = "it is no object with an object 'extra'"
    except ValueError as error:
        problem = str(error)
    raise CacheError(f"The metadata of a value cannot be read: {problem}.", where=path, fix="remove the file")


def _making_folder(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def save_into_folder(self: Cacheable, *args: Any, **kwargs: Any) -> Any:
        if self._folder is None:
            self.check_ready()  # on a stage that was asked before it ran
            if (path := self.override_path()) is not None:
                os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return save(self, *args, **kwargs)

    return save_into_folder


class _Fields(dict[str, Any]):
    """What a path's template may name, looked up when it is named."""

    def __init__(self, cacher: Cacheable) -> None:
        info = comparing.info_of(cacher.record)
        params_hash = comparing.hash_of(cacher.record)
        known = {"experiment": getattr(info, "experiment", ""), "cache": getattr(info, "cache", "")}
        super().__init__({name: value for name, value in known.items() if value})
        self.update(stage=cacher.stage, name=cacher.name, params_hash=params_hash, hash=params_hash)
        self.update(params=cacher.params)
        self._cacher = cacher
        self._prefix = getattr(info, "prefix", "")

    def __missing__(self, field: str) -> Any:
        if field == "artifact_filename":
            return self._filename()
        try:
            return getattr(self["params"], field)
        except AttributeError:
            raise KeyError(field) from None

    def _filename(self) -> str:
        cacher = self._cacher
        prefix = cacher.prefix or self._prefix
        if not (prefix and cacher.stage and cacher.name):
            return os.path.basename(cacher._of_record("get_path", None))
        return ArtifactName(prefix, self["hash"], cacher.stage, cacher.name, "").readable + cacher.extension


class Lazy(CheckedCalls):
    """An output that is loaded when it is looked at, each time, instead of staying in memory.

    Parameters
    ----------
    name : str
        The output's name.
    resolve : bool
        Whether stages and the state get the value (True), or this object.
    cacher : Cacheable, optional
        What loads the value; the framework sets it.
    """

    __module__ = PACKAGE
    __slots__ = ("cacher", "name", "resolve")

    @keywords()
    def __init__(self, name: str, resolve: bool = True, cacher: Cacheable | None = None) -> None:
        self.name = name
        self.resolve = resolve
        self.cacher = cacher

    def load(self) -> Any:
        """Load the value, after checking its files once more.

        Raises
        ------
        ArtifactDamagedError
            When a file is gone or changed since.
        CacheError
            When the output was declared but nothing has computed it.
        """
        if self.cacher is None:
            raise CacheError(
                f"The lazy output {self.name!r} has no value yet.",
                fix="run the stage that makes it, and read its state",
            )
        return self.cacher.load()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Lazy({self.name!r}, resolve={self.resolve})"
