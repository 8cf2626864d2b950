"""Cachers whose value is a path: they keep where files are, and what they were, instead of copying them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, ClassVar

from curidask.caching.base import Cacheable, beside
from curidask.core.artifact_names import check_object_name
from curidask.core.keywords import keywords
from curidask.errors import ArtifactMissingError, CacheError
from curidask.store.integrity import checked_verify, hash_file
from curidask.store.manifest import FileEntry, content_digest

__all__ = ["FileReferenceCacher", "PathRef"]


class FileReferenceCacher(Cacheable):
    """Stores paths of files or folders, not what is in them.

    The value is a path, or lists, tuples and dicts of paths; texts come back as texts, `Path` objects as such. What
    lies there is looked at when it is stored and again when it is loaded: once a file is gone or changed, the
    artifact counts as missing and its stage runs again. Paths from ``record.get_path`` and ``record.get_dir`` may be
    among them: those files are kept in the cache, and the paths come back as they are then.

    Parameters
    ----------
    path_override : str or Path, optional
    verify : {"digest", "size", "off"}
        What is looked at: size and SHA-256; number and size of the files, for files too large to be read each time;
        or only whether they are there.
    **options
        As for `Cacheable`.

    Notes
    -----
    A relative path starts at the folder in which the experiment runs. A path on one machine's disk is found on that
    machine only.
    """

    extension = ".json"
    refers: ClassVar[bool] = True
    verify: str = "digest"

    @keywords()
    def __init__(self, *args: Any, verify: str = "digest", **options: Any) -> None:
        super().__init__(*args, **options)
        self.verify = checked_verify(verify)

    def save(self, obj: Any) -> str:
        """Write the paths; the path of the file in which they are.

        Raises
        ------
        CacheError
            For what is no path, and for a path at which there is nothing.
        """
        text = json.dumps(self._encoded(obj), indent=1)
        path = self._payload_path()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def load(self) -> Any:
        """Read the paths.

        Raises
        ------
        ArtifactMissingError
            Naming a file that is gone or changed.
        """
        stored = self._stored()
        self._check(stored)
        return self._decoded(stored)

    def check(self) -> bool:
        """Whether all files are there and are what they were."""
        try:
            self.check_references()
        except (ArtifactMissingError, FileNotFoundError):
            return False
        return True

    def check_references(self) -> None:
        """Look whether all files are what they were.

        Raises
        ------
        ArtifactMissingError
            Naming one that is not.
        """
        self._check(self._stored())

    # --- value to JSON and back --------------------------------------------------------------------------------------
    def _encoded(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str | PurePath):
            as_path = {"as": "Path"} if isinstance(value, PurePath) else {}
            return self._described(os.fspath(value)) | as_path
        if type(value) in (list, tuple):
            return {type(value).__name__: [self._encoded(item) for item in value]}
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return {"dict": {key: self._encoded(item) for key, item in value.items()}}
        raise CacheError(
            f"{value!r:.60} (of type {type(value).__name__}) is no path.",
            where=self._where,
            fix="return a path (a text or a Path), or lists, tuples or dicts with text keys of paths",
        )

    def _described(self, path: str) -> dict[str, Any]:
        name = self.stage_files.name_of(path) if self.stage_files is not None else None
        found = look_at(path, digest=self.verify == "digest" and name is None)
        if found is None:
            raise CacheError(
                f"There is nothing at the path {path!r}.",
                where=self._where,
                fix="write the file before you return its path; relative paths start in the folder of the run",
            )
        if name is None:
            return {"path": path} | found
        if not found["n_files"]:
            raise CacheError(
                f"The folder {os.path.basename(path)!r} is empty, so nothing of it would be kept.",
                where=self._where,
                fix="write a file into it before you return its path",
            )
        return {"stage_file": name}  # committed with the stage, and verified by the store

    def _decoded(self, node: dict[str, Any]) -> Any:
        for kind in (list, tuple):
            if kind.__name__ in node:
                return kind(self._decoded(item) for item in node[kind.__name__])
        if "dict" in node:
            return {key: self._decoded(item) for key, item in node["dict"].items()}
        path = node["path"] if "path" in node else self._own_path(node["stage_file"])
        return Path(path) if "as" in node else path

    # --- looking -----------------------------------------------------------------------------------------------------
    def _check(self, stored: dict[str, Any]) -> None:
        for node in _paths(stored):
            if "path" not in node:
                self._own_path(node["stage_file"])
                continue
            try:
                found = look_at(node["path"], digest=self.verify == "digest" and bool(node.get("sha256")))
            except FileNotFoundError:  # removed while it was looked at
                found = None
            if found is None:
                raise self._lost(node["path"], "is gone")
            if self.verify != "off" and "sha256" in node and any(found[fact] not in ("", node[fact]) for fact in found):
                raise self._lost(node["path"], "was changed")

    def _own_path(self, name: str) -> str:
        path = self.stage_files.path_of(check_object_name(name)) if self.stage_files is not None else None
        if path is None:
            raise self._lost(name, "is gone")
        return path

    def _payload_path(self) -> str:
        """The path of the file in which the paths are written down."""
        return super().get_path()

    def _stored(self) -> dict[str, Any]:
        with open(self._payload_path(), encoding="utf-8") as file:
            stored = json.load(file)
        return stored if isinstance(stored, dict) else _bare(stored)

    def _lost(self, path: str, problem: str) -> ArtifactMissingError:
        return ArtifactMissingError(f"{path!r}, which it refers to, {problem}.", where=self._where)

    @property
    def _where(self) -> str:
        return f"{type(self).__name__} of {self._basename or os.fspath(self.path_override or '')}"


class PathRef(FileReferenceCacher):
    """Stores one path, at which the stage itself wrote a file or folder; nothing is copied.

    The stage gets the path from ``record.get_path`` or ``record.get_dir``; then what it wrote is kept in the cache
    with the artifact, and on any machine the path that comes back is one that is there. Or it writes to a path of its
    own, to which `path_override` holds it, a template as for `Cacheable`.

    `get_path` gives the path that is asked for: that of `path_override`, or of ``record.get_path`` with the output's
    name; and where what was written lies, once it is stored. By itself, ``PathRef(path).load()`` gives the path, when
    something is there.

    Parameters
    ----------
    path_override : str or Path, optional
    verify : {"digest", "size", "off"}
        As for `FileReferenceCacher`.
    **options
        As for `Cacheable`.
    """

    publishes: ClassVar[bool] = False

    @keywords()
    def get_path(self, suffix: str | None = None) -> str:
        """The path that is kept, and not one of the cacher's own."""
        if self._is_inline:
            return super().get_path(suffix)
        path = self.override_path()
        if path is None:
            path = self._kept() if os.path.exists(self._payload_path()) else self._of_record("get_path", None)
        return beside(path, suffix, self._own_extension)

    def check(self) -> bool:
        """Whether what the path leads to is there and, once it is stored, unchanged."""
        if self._is_inline or not os.path.exists(self._payload_path()):
            return os.path.exists(self.get_path())
        return super().check()

    def save(self, obj: Any) -> str:
        """Keep the path; the path.

        Raises
        ------
        CacheError
            When it is no path, is not the one that `path_override` asks for, or leads to nothing.
        """
        if not isinstance(obj, str | PurePath):
            raise CacheError(
                f"The value is a {type(obj).__name__}, not a path.",
                where=self._where,
                fix="write the file to `path = record.get_path('name')` and return the path",
            )
        asked = self.override_path()
        if asked is not None and os.path.abspath(obj) != os.path.abspath(asked):
            raise CacheError(
                f"The stage returned the path {os.fspath(obj)!r}, but its PathRef asks for {asked!r}.",
                where=self._where,
                fix="write to that path and return it, or leave `path_override` out",
            )
        if self._is_inline:
            self._described(os.fspath(obj))
        else:
            super().save(obj)
        return os.fspath(obj)

    def load(self) -> Any:
        """Give the path.

        Raises
        ------
        ArtifactMissingError
            When what lies there is gone or changed.
        """
        if not self._is_inline:
            return super().load()
        path = self.get_path()
        if not os.path.exists(path):
            raise self._lost(path, "is gone")
        return path

    def _kept(self) -> str:
        return str(self._decoded(self._stored()))

    @property
    def _own_extension(self) -> str:
        return "" if self.extension == type(self).extension else self.extension

    @property
    def _is_inline(self) -> bool:
        # By itself its path is that of the user's file: there is nowhere to note anything down.
        return self._folder is None


def _bare(paths: Any) -> dict[str, Any]:
    """Paths of which nothing was noted down, as curifactory wrote them."""
    return {"list": [_bare(path) for path in paths]} if isinstance(paths, list) else {"path": paths}


def look_at(path: str, *, digest: bool) -> dict[str, Any] | None:
    """What lies at a path: number of files, bytes and, when asked for, SHA-256; None when nothing does."""
    if os.path.isfile(path):
        size, sha256 = hash_file(path) if digest else (os.path.getsize(path), "")
        return {"n_files": 1, "size_bytes": size, "sha256": sha256}
    if not os.path.isdir(path):
        return None
    names = sorted(_files_in(path))
    entries = [_entry(path, name, digest=digest) for name in names]
    size = sum(entry.size_bytes for entry in entries)
    return {"n_files": len(names), "size_bytes": size, "sha256": content_digest(entries) if digest else ""}


def _entry(folder: str, name: str, *, digest: bool) -> FileEntry:
    path = os.path.join(folder, name)
    return FileEntry(name, *(hash_file(path) if digest else (os.path.getsize(path), "")))


def _files_in(folder: str) -> Iterator[str]:
    for inside, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(inside, name), folder)


def _paths(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a stored value that stand for a path."""
    pending = [node]
    while pending:
        part = pending.pop()
        if "path" in part or "stage_file" in part:
            yield part
        else:
            inner = part.get("list") or part.get("tuple") or list(part.get("dict", {}).values())
            pending += reversed(inner)
