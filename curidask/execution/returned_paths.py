"""Paths into the working folders of a call in what its stage returned: replaced where that can be, else refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

from curidask.caching.path_refs import StageFiles, look_at
from curidask.errors import CacheError
from curidask.execution.path_tokens import PREFIX, Holder, swapped
from curidask.execution.values import Made, Unpicklable
from curidask.store.workspace import Workspace

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
        value : object
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
        from curidask.caching import pickling

        sink = _Sink(Search(self._marks))
        with contextlib.suppress(Exception):
            pickling.dump(value, cast("IO[bytes]", sink))
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
