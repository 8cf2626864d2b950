"""Paths into the working folders of a call in what its stage returned: replaced where that can be, else refused."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePath
from typing import IO, Any, cast

from curidask.caching.base import StageFiles
from curidask.caching.path_refs import look_at
from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CacheError
from curidask.execution.copies import Copy, is_open_file, private_copy, read_once_part
from curidask.store.base import Store
from curidask.store.payload import Checkout
from curidask.store.workspace import Workspace

# --- tokens: what stands in a stored value for the path of a file that goes with its artifact ------------------------
# The working folder in which a stage writes its files is gone when the stage has ended, and on each machine the files
# lie somewhere else. So a path of one of them is replaced by its name in the store while the value is stored or
# travels, and whoever reads the value gets the path that holds there.

PREFIX = "curidask-file:"
"""Begins a token; the file's name in the store follows."""

NOTE = "curidask:files"
"""In a manifest's `extra_metadata`: that the value has tokens, and the other artifacts whose files they name."""

Holder = tuple[str, str]
"""Stem and key of an artifact that files go with."""

Swap = Callable[[str], str | None]
"""Gives what stands in the place of a text, None for the text itself."""


def with_paths(value: Any, paths: Mapping[str, str]) -> Any:
    """The value with the paths in the place of their tokens.

    Raises
    ------
    ArtifactMissingError
        When there is no path for one.
    """

    def path(text: str) -> str | None:
        if not text.startswith(PREFIX):
            return None
        if text not in paths:
            raise ArtifactMissingError(f"There is no file {text.removeprefix(PREFIX)!r} of a stage.")
        return paths[text]

    return swapped(value, path)


def local_paths(holders: Iterable[Holder], store: Store, *opened: Checkout) -> dict[str, str]:
    """Where the files of artifacts lie on this machine, and the folders around them, verified, by their tokens.

    Parameters
    ----------
    *opened : Checkout
        Further artifacts, which need no checkout any more.

    Raises
    ------
    ArtifactMissingError
    """
    found: dict[str, str] = {}
    for checkout in (*opened, *(store.checkout(stem, key) for stem, key in holders)):
        manifest = checkout.manifest
        for name, path in checkout.tracked.items():
            _add(found, name, str(path))
        for entry in manifest.files:
            _add(found, manifest.stem + entry.name, f"{checkout.folder}/{checkout.basename}{entry.name}")
    return found


def _add(found: dict[str, str], name: str, path: str) -> None:
    while PREFIX + name not in found:
        found[PREFIX + name] = path
        if "/" not in name:
            return
        name, path = name.rpartition("/")[0], path.rpartition("/")[0]


def holders_noted(noted: Any) -> list[Holder]:
    """The artifacts that a manifest names, out of what it says under `NOTE`.

    Raises
    ------
    ArtifactDamagedError
        When that is not of the right form.
    """
    if not isinstance(noted, list) or not all(map(_is_holder, noted)):
        raise ArtifactDamagedError("Its manifest does not say rightly what that is.")
    return [(stem, key) for stem, key in noted]


def _is_holder(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)


# --- walking through values ------------------------------------------------------------------------------------------
def swapped(value: Any, swap: Swap) -> Any:
    """The value with other texts and paths in its lists, tuples, sets, values of dicts and fields of dataclasses.

    What holds nothing to be swapped stays the same object; what does is copied.
    """
    try:
        return _Walk(swap).through(value)
    except RecursionError:  # too deep to be walked; nothing was swapped
        return value


class _Walk:
    def __init__(self, swap: Swap) -> None:
        self._swap = swap
        # By id, with the value, so that no other gets that id. What is met twice stays one object; what holds itself
        # comes to an end.
        self._met: dict[int, tuple[Any, Any]] = {}

    def through(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            new = self._swap(value)
            return value if new is None else new
        if isinstance(value, PurePath):
            new = self._swap(str(value))
            return value if new is None else kind(new)
        if id(value) not in self._met:
            self._met[id(value)] = value, value
            self._met[id(value)] = value, self._container(value)
        return self._met[id(value)][1]

    def _container(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._changed(value, value, _set_item)
        if is_dataclass(value) and not isinstance(value, type):
            held = {f.name: getattr(value, f.name) for f in fields(value) if hasattr(value, f.name)}
            return self._changed(value, held, object.__setattr__)
        make = getattr(type(value), "_make", None) if isinstance(value, tuple) else None  # a named tuple
        if make is None and type(value) not in _SEQUENCES:
            return value
        items = [self.through(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return (make or type(value))(items)

    def _changed(self, value: Any, held: Mapping[Any, Any], put: Callable[[Any, Any, Any], None]) -> Any:
        swapped = {key: new for key, old in held.items() if (new := self.through(old)) is not old}
        if not swapped:
            return value
        other = copy.copy(value)
        for key, new in swapped.items():
            put(other, key, new)
        return other


def _set_item(mapping: Any, key: Any, value: Any) -> None:
    mapping[key] = value


_ATOMS = frozenset((int, float, bool, complex, bytes, type(None)))
_SEQUENCES = frozenset((list, tuple, set, frozenset))


# --- values that are not stored, on their way from the job that makes them to those that read them -------------------
@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes: it travels without being understood on the way, and each reader gets a copy of its own."""

    data: bytes

    @property
    def blocks(self) -> list[bytes | bytearray]:
        """All the bytes."""
        return [self.data]

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self.data)


@dataclass(frozen=True, slots=True)
class Unpicklable:
    """A value that stays in this process."""

    value: Any


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A `Copy` in a file."""

    path: str


Made = Packed | Copy | Unpicklable
Held = Made | OnDisk


@dataclass(frozen=True, slots=True)
class Referring:
    """A value with tokens in the place of paths of a stage's files.

    Attributes
    ----------
    holders : collection of Holder
        The artifacts that the files go with.
    """

    value: Any
    holders: Collection[Holder]


def resolved(value: Any, store: Store) -> Any:
    """The value as its reader gets it: with paths that are there, verified.

    Raises
    ------
    ArtifactMissingError
        When a file that it refers to is gone or damaged.
    """
    if not isinstance(value, Referring):
        return value
    return with_paths(value.value, local_paths(value.holders, store))


def pack(value: Any, *, portable: bool, shared: bool) -> Made:
    """Make a value ready to be held for its readers, so that nobody changes it who made it or has it still.

    Parameters
    ----------
    portable : bool
        Whether readers may be in other processes.
    shared : bool
        Whether it may be read more than once.

    Raises
    ------
    Exception
        Whatever pickling raises, when the value must be portable and is not, or cannot be read by all.
    """
    if portable:
        from curidask.caching import files

        if is_open_file(value):  # cloudpickle would read it
            raise TypeError("it is an open file")
        return Packed(files.dumps(value))
    try:
        return Copy.of(value)
    except Exception:
        if shared and read_once_part(value) is not None:
            raise
        return Unpicklable(private_copy(value))


def unpack(held: Held, *, shared: bool) -> Any:
    """Give one reader its value, which nobody else sees."""
    if isinstance(held, Copy):
        return held.value(shared=shared)
    if isinstance(held, OnDisk):
        with open(held.path, "rb") as file:
            copy: Copy = pickle.load(file)
        return copy.value(shared=False)
    if isinstance(held, Unpicklable):
        return private_copy(held.value) if shared else held.value
    from curidask.caching import files

    return files.loads(held.data)


# --- returned paths --------------------------------------------------------------------------------------------------
BLOCK_BYTES = 1 << 20

_ENCODINGS = ("utf-8", "utf-16-le", "utf-32-le")
"""How texts lie in files: numpy, for one, has four bytes a character."""


@dataclass(slots=True)
class ReturnedPaths:
    """Deals with the paths that a stage was given, where they are in what it returned.

    Attributes
    ----------
    folders : sequence of (Workspace, Holder or None)
        The working folders of the call, each with the artifact that what is in it goes with; None for what goes with
        whichever artifact names it.
    label : str
        Stage and record, for messages.
    local : dict of str to str
        The paths that were replaced, by their tokens.
    """

    folders: Sequence[tuple[Workspace, Holder | None]]
    label: str
    local: dict[str, str] = field(default_factory=dict)
    _found_in: dict[str, str] = field(default_factory=dict)
    _marks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The last part of a working folder's path is nowhere else in the world, and the same however links in the path
        # were followed and separators written.
        self._marks = [os.path.basename(workspace.location) for workspace, _ in self.folders]

    def replaced(self, value: Any, own: Holder, output: str) -> tuple[Any, set[Holder]]:
        """The value with tokens in the place of paths, and the artifacts that the files go with.

        Parameters
        ----------
        own : Holder
            The artifact that files go with which go with none in particular.
        output : str
            The output's name.
        """
        holders: set[Holder] = set()

        def token(text: str) -> str | None:
            found = self._name_of(text)
            if found is None:
                return None
            name, holder = found
            holders.add(holder or own)
            self.local[PREFIX + name] = text
            self._found_in[PREFIX + name] = output
            return PREFIX + name

        return swapped(value, token), holders

    def _name_of(self, text: str) -> tuple[str, Holder | None] | None:
        for (workspace, holder), mark in zip(self.folders, self._marks, strict=True):
            if mark in text and "\0" not in text:
                name = StageFiles.being_made(workspace).name_of(text)
                if name is not None:
                    return name, holder
        return None

    # --- what cannot be kept -----------------------------------------------------------------------------------------
    def check_written(self) -> None:
        """Raise when there is nothing at a path that was returned.

        Raises
        ------
        CacheError
        """
        for token, path in self.local.items():
            there = look_at(path, digest=False)
            if there is None or not there["n_files"]:
                raise CacheError(
                    f"The stage wrote nothing to the path that it returned in the output {self._found_in[token]!r}: "
                    f"{os.path.basename(path)!r}.",
                    where=self.label,
                    fix="write the file, or into the folder, before the function returns; return None where there is "
                    "nothing to be written",
                )

    def check_files(self, workspace: Workspace, output: str) -> None:
        """Raise when files that a cacher wrote mention a working folder.

        Raises
        ------
        CacheError
        """
        for inside, _, names in os.walk(workspace.location):
            for path in (os.path.join(inside, name) for name in names):
                if os.path.isfile(path) and self._mentioned_in(_blocks_of(path)):
                    raise self._refusal(output)

    def check_packed(self, packed: Made, output: str) -> None:
        """Raise when a value that is not stored mentions a working folder.

        One that stays in this process and cannot be pickled is let pass, for there is no looking into it.

        Raises
        ------
        CacheError
        """
        if self._mentioned_by(packed.value) if isinstance(packed, Unpicklable) else self._mentioned_in(packed.blocks):
            raise self._refusal(output)

    def _mentioned_by(self, value: Any) -> bool:
        from curidask.caching import files

        sink = _Sink(Search(self._marks))
        with contextlib.suppress(Exception):
            files.dump(value, cast("IO[bytes]", sink))
        return sink.found

    def _mentioned_in(self, blocks: Iterable[bytes | bytearray]) -> bool:
        search = Search(self._marks)
        return any(search.finds(block) for block in blocks)

    def _refusal(self, output: str) -> CacheError:
        return CacheError(
            f"The output {output!r} holds a path into the working folder of its stage, which is gone when the stage "
            "has ended, where it cannot be replaced: inside of another text, of a table or of an object.",
            where=self.label,
            fix="return the path as an output of its own with PathRef as its cacher, several with FileReferenceCacher, "
            "or in lists, tuples, dicts (as values) or dataclasses; in texts and tables name the file without folders",
        )


def _blocks_of(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


class Search:
    """Looks for texts in bytes that come block by block."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._wanted = [text.encode(encoding) for text in texts for encoding in _ENCODINGS]
        self._overlap = max(map(len, self._wanted), default=1) - 1
        self._last = b""

    def finds(self, block: bytes | bytearray) -> bool:
        """Whether one of the texts is in the block, or begins in the one before."""
        across = self._last + block[: self._overlap]
        self._last = (self._last + block[-self._overlap :])[-self._overlap :]
        return any(wanted in block or wanted in across for wanted in self._wanted)


class _Sink:
    """A file for a pickle that nobody reads: it is searched while it is written."""

    def __init__(self, search: Search) -> None:
        self.found = False
        self._search = search

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), BLOCK_BYTES):
            self.found = self.found or self._search.finds(bytes(view[start : start + BLOCK_BYTES]))
        return len(view)

    def tell(self) -> int:
        return 0

    def seek(self, _: int) -> int:
        return 0

    def truncate(self) -> int:
        return 0
