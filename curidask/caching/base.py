"""The base of all cachers, and `Lazy`, the reference to a stored value."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from curidask.errors import CacheError
from curidask.store.manifests import payload_name

if TYPE_CHECKING:
    from curidask.caching.references import StageFiles


class Cacheable:
    """Writes a value to files and reads it back.

    A subclass overrides `save` and `load` only. Both work on local paths that `get_path` and `get_dir` give; where
    those are, and how the files get into the cache and back, is not the cacher's business, so one that works in a
    folder also works on an object store.

    Stages take a class or an instance in ``cachers=[...]``. A cacher with a path also works by itself::

        JsonCacher("results.json").save({"score": 0.9})
        scores = JsonCacher("results.json").load()

    Parameters
    ----------
    path_override : str or Path, optional
        The file to use, when the cacher is used by itself. Its folder is made by `save`. On a stage, where a copy is
        published for people, from the project's folder on; a template that may name parameters of the set,
        ``{stage}``, ``{name}`` and ``{params_hash}``: see `override_path`.
    name : str, optional
        Name of the value; on a stage, the output's name.
    subdir : str, optional
        Folders within the cache for the files, separated by ``/``.
    prefix : str, optional
        How the files' names begin, instead of with the experiment's name. Experiments that give the same one share.
    track : bool
        Whether the files go into the folder of a store-full run.
    extension : str, optional
        Of the files, instead of the class's own.
    overwrite_path : str or Path, optional
        Another name for `path_override`.

    Attributes
    ----------
    extra_metadata : dict
        Facts that `save` wants to keep and `load` wants to see; JSON values.
    record, params, stage
        The record, its parameter set and the stage's name; None when the cacher is used by itself.
    stage_files : StageFiles or None
        What the stage wrote beside its outputs, for a class with ``refers = True``.
    pin : object
        Keeps what it loads on this machine's disk, as long as the cacher is there.

    Notes
    -----
    The constructor of a subclass need not call this one. An instance on a stage is a template: each artifact gets a
    shallow copy of it.
    """

    extension: str = ""
    exact: ClassVar[bool] = False
    """Whether `load` gives a value that equals the saved one in all respects, whatever value it takes."""
    refers: ClassVar[bool] = False
    """Whether the payload refers to files outside of it, which `check` looks at."""
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
    _folder: str | None = None
    _basename: str = ""

    def __init__(
        self,
        path_override: str | Path | None = None,
        *,
        name: str | None = None,
        subdir: str | None = None,
        prefix: str | None = None,
        track: bool = True,
        extension: str | None = None,
        overwrite_path: str | Path | None = None,
    ) -> None:
        self.path_override = path_override if path_override is not None else overwrite_path
        self.name = name
        self.subdir = subdir
        self.prefix = prefix
        self.track = track
        if extension is not None:
            self.extension = extension if extension.startswith(".") or not extension else f".{extension}"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "save" in cls.__dict__ and not hasattr(cls.__dict__["save"], "__wrapped__"):
            cls.save = _making_folder(cls.__dict__["save"])  # type: ignore[method-assign]

    # --- what a subclass overrides -----------------------------------------------------------------------------------
    def save(self, obj: Any) -> Any:
        """Write a value to `get_path`, or to several paths, or below `get_dir`."""
        raise CacheError(
            f"{type(self).__name__} does not say how to save.", fix="define `save(self, obj)` in the class"
        )

    def load(self) -> Any:
        """Read the value back from where `save` wrote it."""
        raise CacheError(f"{type(self).__name__} does not say how to load.", fix="define `load(self)` in the class")

    def check_ready(self) -> None:
        """Raise a `CacheError` when `save` could not work here, since a package is missing, for one.

        Called where the stage is about to run, so that nothing is computed for hours that cannot be stored then.
        """

    def check(self) -> bool:
        """Whether what `save` wrote is there and good for use.

        On a stage this is asked before an artifact is reused, of classes that override it: False, or an
        `ArtifactMissingError`, has the stage run again. The artifact was verified by then.
        """
        return self._folder is not None or os.path.exists(self.get_path())

    # --- what it uses ------------------------------------------------------------------------------------------------
    def get_path(self, suffix: str | None = None) -> str:
        """A path for a file of the value.

        Parameters
        ----------
        suffix : str, optional
            Tells several files of one value apart: ``get_path("_part2")`` of a JSON cacher ends in ``_part2.json``. An
            underscore is put before a suffix that begins with neither ``_`` nor ``.``. A suffix that has an extension
            of its own keeps it: ``get_path("weights.npz")`` ends in ``_weights.npz``.

        Raises
        ------
        CacheError
            When the cacher is neither used by a stage nor was given a path.
        UnsafeNameError
            When the suffix has separators.
        """
        folder, basename, extension = self._place()
        return os.path.join(folder, payload_name(basename, suffix, extension))

    def get_dir(self, name: str) -> str:
        """A folder for files of the value with names of their own, made by now; `name` as for `get_path`."""
        folder, basename, _ = self._place()
        path = os.path.join(folder, payload_name(basename, name, ""))
        os.makedirs(path, exist_ok=True)
        return path

    @property
    def params(self) -> Any:
        """The parameter set the value belongs to, None when the cacher is used by itself."""
        return getattr(self.record, "params", None)

    @property
    def extra_metadata(self) -> dict[str, Any]:
        """Facts kept with the value."""
        # Made here, since a subclass's constructor may not call ours.
        facts: dict[str, Any] = self.__dict__.setdefault("_extra_metadata", {})
        return facts

    @extra_metadata.setter
    def extra_metadata(self, facts: dict[str, Any]) -> None:
        self.__dict__["_extra_metadata"] = facts

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
        other.record = record
        other.stage = stage
        other.name = name or self.name
        other.extra_metadata = dict(self.extra_metadata)
        return other

    def override_path(self) -> str | None:
        """The path that was asked for with `path_override`, its template filled in; None when none was.

        Raises
        ------
        CacheError
            When the template names something that the parameter set does not have.
        """
        if self.path_override is None:
            return None
        template = os.fspath(self.path_override)
        if self._folder is None:
            return template
        try:
            return template.format_map(_Fields(self))
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise CacheError(
                f"The path {template!r} names something that is not there: {error}.",
                where=f"{type(self).__name__} of stage {self.stage!r}",
                fix="name fields of the parameter set, or {stage}, {name}, {params_hash}",
            ) from error

    def _place(self) -> tuple[str, str, str]:
        """Folder, basename and extension of the paths."""
        if self._folder is not None:
            return self._folder, self._basename, self.extension
        path = self.override_path()
        if path is None:
            raise CacheError(
                f"A {type(self).__name__} without a path was used by itself.",
                fix=f"give it one: {type(self).__name__}('path/to/file'), or list it in a stage's `cachers`",
            )
        folder, file = os.path.split(path)
        basename, extension = os.path.splitext(file)
        return folder, basename, extension


def _making_folder(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def save_into_folder(self: Cacheable, *args: Any, **kwargs: Any) -> Any:
        if self._folder is None and self.path_override is not None:
            os.makedirs(os.path.dirname(os.path.abspath(self.path_override)), exist_ok=True)
        return save(self, *args, **kwargs)

    return save_into_folder


class _Fields(dict[str, Any]):
    """What a path's template may name, looked up when it is named."""

    def __init__(self, cacher: Cacheable) -> None:
        record = cacher.record
        params_hash = record.get_hash() if hasattr(record, "get_hash") else getattr(record, "params_hash", "")
        super().__init__(stage=cacher.stage, name=cacher.name, params_hash=params_hash, hash=params_hash)
        self._params = cacher.params

    def __missing__(self, field: str) -> Any:
        try:
            return getattr(self._params, field)
        except AttributeError:
            raise KeyError(field) from None


class Lazy:
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

    __slots__ = ("cacher", "name", "resolve")

    def __init__(self, name: str, resolve: bool = True, cacher: Cacheable | None = None) -> None:
        self.name = name
        self.resolve = resolve
        self.cacher = cacher

    def load(self) -> Any:
        """Load the value.

        Raises
        ------
        CacheError
            When the output was declared but nothing has computed it.
        """
        if self.cacher is None:
            raise CacheError(
                f"The lazy output {self.name!r} has no value yet.",
                fix="run the stage that makes it, and read its state",
            )
        return self.cacher.load()

    def __repr__(self) -> str:
        return f"Lazy({self.name!r}, resolve={self.resolve})"
