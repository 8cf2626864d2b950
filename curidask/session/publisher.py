"""Publishing: copies of artifacts at the paths that `path_override` names, for people.

What lies there already and was not published is the user's: it is never written to, see
`curidask.execution.override_files`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curidask.core.artifact_names import LAYOUT_SUFFIX, stem_of
from curidask.core.graph import Graph, Task
from curidask.core.planner import Action, Plan
from curidask.errors import CacheError
from curidask.execution.artifact_io import cacher_name
from curidask.execution.base import MADE, Outcome
from curidask.execution.listener import Listener
from curidask.execution.override_files import Owner, find_override, note_ours, owner
from curidask.store.backends.remote import is_executable
from curidask.store.base import Store
from curidask.store.integrity import check_file
from curidask.store.manifest import FileEntry
from curidask.store.payload import Checkout

PLACEHOLDER = ".empty"


@dataclass(frozen=True, slots=True)
class Publication:
    """An output that is to be published.

    Attributes
    ----------
    path : str
        Where to, absolute.
    stem, key, cacher : str
        The artifact, and what writes it.
    extension : str
        Of its payload.
    label : str
        Output, stage and set, for messages.
    """

    path: str
    stem: str
    key: str
    cacher: str
    extension: str
    label: str


class Publisher(Listener):
    """Keeps published files equal to their artifacts. It listens to the runner.

    A file is published when its stage has run, and when the stage was reused, or not needed, and the file is missing
    or is what another artifact held. One that was changed since stays, with a warning.

    Parameters
    ----------
    root : Path
        Where relative paths start.
    warn : callable
        Is given what the user should know.

    Notes
    -----
    A file is written beside and renamed, so nobody sees half of one; a folder is replaced as a whole.
    """

    told_as: ClassVar[str] = "the publishing of copies"

    def __init__(self, store: Store, root: Path, warn: Callable[[str], None]) -> None:
        self._store = store
        self._root = root
        self._warn = warn
        self._there: list[Publication] = []
        self._by_path: dict[str, Publication] = {}
        self._told: set[str] = set()

    # --- Listener ----------------------------------------------------------------------------------------------------
    def check_plan(self, graph: Graph, plan: Plan) -> None:
        """Find the paths.

        Raises
        ------
        CacheError
            For a path that cannot be meant, before anything runs.
        """
        there = []
        for task in sorted(plan.decisions):
            for publication in self._publications(graph[task]):
                self._claim(publication)
                if plan.decisions[task].action is not Action.RUN:
                    there.append(publication)
        self._there = [p for p in there if self._by_path[p.path] is p]

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Publish what is there already."""
        self._publish_changed(self._there)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Publish what a task made."""
        if outcome.kind in MADE:
            self._note_written(task)
            found = self._publications(task)
            self._publish_changed([p for p in found if self._by_path.get(p.path, p).stem == p.stem])

    # --- where to ----------------------------------------------------------------------------------------------------
    def _publications(self, task: Task) -> list[Publication]:
        found: list[Publication] = []
        if task.given:
            return found
        for index, (output, stem) in enumerate(zip(task.outputs, task.stems, strict=True)):
            override = find_override(output, task.spec.name, task.record, self._root)
            if stem is None or override is None or not override.cacher.publishes:
                continue
            label = f"output {output.name!r} of {task.label}"
            name, extension = cacher_name(output.cacher), override.cacher.extension
            self._check_path(override.path, override.asked, label, extension)
            found.append(Publication(override.path, stem, task.ref(index).key, name, extension, label))
        return found

    def _note_written(self, task: Task) -> None:
        """Note down what a stage wrote itself to the path that its `PathRef` asks for."""
        for output in () if task.given else task.outputs:
            override = find_override(output, task.spec.name, task.record, self._root)
            if override is not None and not override.cacher.publishes and os.path.exists(override.path):
                with suppress(OSError):  # a place where nothing can be noted down: its files count as the user's
                    note_ours(override.path)

    def _check_path(self, path: str, asked: str, label: str, extension: str) -> None:
        # Without an extension it may be a folder that is published: `get_dir()` makes one.
        if asked.endswith(("/", os.sep)) or (extension and os.path.isdir(path)):
            raise CacheError(
                f"The path_override {asked!r} names a folder.",
                where=label,
                fix="name a file, such as 'results/best.json'",
            )
        cache = self._store.local_root
        inside = "" if cache is None else os.path.relpath(os.path.realpath(path), os.path.realpath(cache))
        if stem_of(inside) is not None:
            raise CacheError(
                f"The path_override {asked!r} has a name in the cache that artifacts have.",
                where=label,
                fix="name another: the artifact is in the cache anyway, this is where a copy goes",
            )

    def _claim(self, publication: Publication) -> None:
        path = publication.path
        other = self._by_path.get(path)
        self._by_path[path] = publication
        if other is None or other.stem == publication.stem or path in self._told:
            return
        self._told.add(path)
        self._warn(
            f"{other.label} and {publication.label} are both published as {path!r}, where only the last one stays: "
            "put {params_hash} or a field of the parameter set into the path_override"
        )

    # --- publishing --------------------------------------------------------------------------------------------------
    def _publish_changed(self, publications: Sequence[Publication]) -> None:
        if not publications:
            return
        manifests = self._store.manifests(p.stem for p in publications)
        for publication in publications:
            manifest = manifests.get(publication.stem)
            if manifest is None or (manifest.key, manifest.cacher) != (publication.key, publication.cacher):
                continue  # nothing is there (a stage that was not needed), or it is about to be made again
            try:
                if not _is_published(publication, manifest.files):
                    self._tell_left(publish(publication, self._store.checkout(publication.stem, publication.key)))
            except OSError as error:
                reason = error.what if isinstance(error, CacheError) else error.strerror or str(error)
                self._warn(f"{publication.label} could not be published as {publication.path!r}: {reason}")

    def _tell_left(self, left: Mapping[str, Owner]) -> None:
        for path, whose in left.items():
            self._warn(f"{path!r} was {whose.value} and stays as it is; remove it to have it written anew")


def publish(publication: Publication, checkout: Checkout) -> dict[str, Owner]:
    """Copy the payload of an artifact to its published place; gives what stays there since it is not ours."""
    os.makedirs(os.path.dirname(publication.path), exist_ok=True)
    left: dict[str, Owner] = {}
    for target, entries in _targets(publication, checkout.manifest.files):
        whose = owner(target)
        if whose in (Owner.USER, Owner.CHANGED):
            left[target] = whose
            continue
        beside = f"{os.path.dirname(target)}/.{os.path.basename(target)}.part-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            for entry in entries:
                inside = entry.name.partition("/")[2]
                path = f"{beside}/{inside}" if inside else beside
                if inside:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                source = f"{checkout.folder}/{checkout.basename}{entry.name}"
                shutil.copyfile(source, path)
                if is_executable(source):
                    os.chmod(path, 0o755)
            _replace(beside, target)
            note_ours(target)
        finally:
            _remove(beside)
    return left


def _is_published(publication: Publication, files: Iterable[FileEntry]) -> bool:
    """Whether the published files are what the artifact holds, by size and digest, and nothing else."""
    for target, entries in _targets(publication, files):
        for entry in entries:
            inside = entry.name.partition("/")[2]
            try:
                check_file(f"{target}/{inside}" if inside else target, target, entry, "digest")
            except OSError:
                return False
        if os.path.isdir(target) and sum(len(names) for _, _, names in os.walk(target)) != len(entries):
            return False
    return True


def _targets(publication: Publication, files: Iterable[FileEntry]) -> list[tuple[str, list[FileEntry]]]:
    """The files and folders to be published, by path, with what goes there."""
    targets: dict[str, list[FileEntry]] = {}
    for entry in files:
        if entry.name not in (PLACEHOLDER, LAYOUT_SUFFIX):
            targets.setdefault(_target(publication, entry.name), []).append(entry)
    return list(targets.items())


def _target(publication: Publication, name: str) -> str:
    """Where a payload file, or the folder it is in, goes: where the cacher would look when it is used by itself."""
    top, slash, _ = name.partition("/")
    if top == ("" if slash else publication.extension):
        return publication.path
    return publication.path.removesuffix(publication.extension) + top


def _replace(new: str, target: str) -> None:
    if not os.path.isdir(new):
        os.replace(new, target)
        return
    old = f"{new}.old"
    with suppress(FileNotFoundError):
        os.rename(target, old)
    os.rename(new, target)
    _remove(old)


def _remove(path: str) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
