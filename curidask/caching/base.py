"""What a cacher is, and `Lazy`, the output that loads when it is looked at."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Self

from curidask.errors import CacheError


class Cacheable:
    """Base class of cachers.

    A subclass says in ``save(obj)`` how a value becomes files, and in ``load()`` how the files become the value. It
    always works on local paths, which it gets from `get_path` and `get_dir`; the store moves or uploads what was
    written, and brings it back before a load.

    Parameters
    ----------
    path_override : str, optional
        A path of your own; with it a cacher works inline: ``JsonCacher("x.json").load()``.
    name : str, optional
        The output's name; given by the stage.
    subdir : str, optional
        Folders within the cache to put the artifact under.
    prefix : str, optional
        Beginning of the artifact's name in place of the experiment's.
    track : bool
        Whether a full copy of a run includes it.
    extension : str, optional
        In place of the class's own, with its dot.

    Attributes
    ----------
    extra_metadata : dict
        Plain values to keep in the artifact's manifest; there again when it is loaded.
    record, params, stage
        What the artifact belongs to; None inline.

    Examples
    --------
    >>> class TextCacher(Cacheable):
    ...     extension = ".txt"
    ...     def save(self, obj):
    ...         with open(self.get_path(), "w") as file:
    ...             file.write(obj)
    ...     def load(self):
    ...         with open(self.get_path()) as file:
    ...             return file.read()
    """

    extension: str = ""

    # Defaults of the class serve subclasses whose __init__ does not call this one.
    path_override: str | None = None
    name: str | None = None
    subdir: str | None = None
    prefix: str | None = None
    track: bool = True
    record: Any = None
    params: Any = None
    stage: str | None = None
    _folder: Path | None = None
    _basename: str = ""
    _metadata: dict[str, Any] | None = None

    def __init__(
        self,
        path_override: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        subdir: str | None = None,
        prefix: str | None = None,
        track: bool = True,
        extension: str | None = None,
        overwrite_path: str | os.PathLike[str] | None = None,
    ) -> None:
        path = overwrite_path if path_override is None else path_override
        self.path_override = None if path is None else os.fspath(path)
        self.name = name
        self.subdir = subdir
        self.prefix = prefix
        self.track = track
        if extension is not None:
            self.extension = extension

    @property
    def extra_metadata(self) -> dict[str, Any]:
        """Plain values kept in the manifest."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @extra_metadata.setter
    def extra_metadata(self, values: dict[str, Any]) -> None:
        self._metadata = values

    def save(self, obj: Any) -> None:
        """Write a value to `get_path` or `get_dir`."""
        raise CacheError(f"{type(self).__name__} has no save().", fix="define `save(self, obj)` in the cacher's class")

    def load(self) -> Any:
        """Read the value back."""
        raise CacheError(f"{type(self).__name__} has no load().", fix="define `load(self)` in the cacher's class")

    def get_path(self, suffix: str | None = None) -> str:
        """A local path to write to or read from.

        Parameters
        ----------
        suffix : str, optional
            Tells several files of one artifact apart. With a dot in it, it brings its own extension
            (``"_weights.npz"``), otherwise the cacher's is added.
        """
        suffix = suffix or ""
        if self._folder is not None:
            extension = "" if "." in suffix else self.extension
            return os.path.join(self._folder, f"{self._basename}{suffix}{extension}")
        if self.path_override is None:
            raise CacheError(
                f"{type(self).__name__} has no path.",
                fix=f"give it one, as in `{type(self).__name__}('x{self.extension}')`, or name it as a stage's cacher",
            )
        stem, extension = os.path.splitext(self.path_override)
        return f"{stem}{suffix}{'' if '.' in suffix else extension}" if suffix else self.path_override

    def get_dir(self, name: str) -> str:
        """A local folder to write files to or read them from; it exists."""
        path = self.get_path(f"_{name.lstrip('_')}/.")[:-2]
        os.makedirs(path, exist_ok=True)
        return path

    def bound(
        self, folder: Path, basename: str, *, record: Any = None, stage: str | None = None, name: str = ""
    ) -> Self:
        """A copy for one artifact, working on a local folder (called by the framework)."""
        cacher = copy.copy(self)
        cacher._folder = folder
        cacher._basename = basename
        cacher._metadata = {}
        cacher.record = record
        cacher.params = getattr(record, "params", None)
        cacher.stage = stage
        cacher.name = name
        return cacher


class Lazy:
    """An output that stays on disk: it is loaded each time it is looked at, and dropped when nobody holds it.

    Parameters
    ----------
    name : str
        The output's name.
    resolve : bool
        Whether later stages get the value (True), or this object itself, with ``.cacher.get_path()`` and ``.load()``.

    Attributes
    ----------
    cacher : Cacheable or None
        What loads it; set once the artifact is there.
    """

    __slots__ = ("cacher", "name", "resolve")

    def __init__(self, name: str, resolve: bool = True, *, cacher: Cacheable | None = None) -> None:
        self.name = name
        self.resolve = resolve
        self.cacher = cacher

    def __repr__(self) -> str:
        return f"Lazy({self.name!r})"

    def load(self) -> Any:
        """The value."""
        if self.cacher is None:
            raise CacheError(
                f"The lazy output {self.name!r} is not there yet.", fix="take it from a record's state after its stage"
            )
        return self.cacher.load()
