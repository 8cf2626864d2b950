"""The record of a stored value, as its cacher sees it when it loads: what it knows in `save`, with nothing to write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from curidask.core.artifact_names import beside_name
from curidask.core.graph import RecordInfo
from curidask.errors import CacheError, StageAccessError
from curidask.execution.base import Stored
from curidask.execution.environment import Environment, ManagerFacts
from curidask.execution.lazy_dicts import StageState
from curidask.execution.stage_context import StageRecord
from curidask.execution.stage_paths import EarlierFiles, InputLostSignal
from curidask.store.base import Store
from curidask.store.payload import Checkout


class StoredRecord(StageRecord):
    """The record of a value that a cacher loads.

    It travels without the store, in which it finds what stages wrote.

    Parameters
    ----------
    source : Stored
        The value.
    facts : ManagerFacts
    checkout : Checkout or None
        Of the value.
    store : Store or None
    """

    def __init__(
        self, source: Stored, facts: ManagerFacts, checkout: Checkout | None = None, store: Store | None = None
    ) -> None:
        info = source.record
        self._parts = (replace(source, cacher=None), facts)
        self._where = f"a cacher of stage {source.stage!r} of {info.label}"
        refuse = partial(_not_here, self._where)
        state = StageState(refuse, (), self._where, refuse, n_held=info.n_held)
        paths = StoredPaths(source.stage, source, checkout, store, self._where)
        super().__init__(info, state, paths, [], facts, partial(_records, info, facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredRecord, self._parts

    def report(self, reportable: Any) -> None:
        """Refuse: what is reported while a value is loaded would be shown in some runs and not in others."""
        _not_here(self._where, "report")


@dataclass(frozen=True, slots=True)
class StoredPaths:
    """The paths of what stages wrote, for a value that is loaded.

    Attributes
    ----------
    stage : str
        The stage that made the value.
    source : Stored
    checkout : Checkout or None
        Of the value, with what the stage wrote beside it.
    store : Store or None
    where : str
    """

    stage: str
    source: Stored
    checkout: Checkout | None
    store: Store | None
    where: str

    @property
    def own(self) -> object:
        """None for a record that went into the value's: it has no value itself."""
        return self.source.key or None

    def path(
        self, name: str, subdir: str | None, prefix: str | None, stage_name: str | None, track: bool, *, is_folder: bool
    ) -> str:
        """The path of a file that was written under that name, or of a folder."""
        names = [beside_name(name, subdir, prefix, None, tracked) for tracked in (track, not track)]
        found = self._own(names) if stage_name in (None, self.stage) else self._earlier(str(stage_name), names)
        if found is None:
            raise CacheError(
                f"The stage {stage_name or self.stage!r} wrote no file {name!r}.",
                where=self.where,
                fix="in load(), get_path() and get_dir() of the record give what save() or the stage wrote there",
            )
        return found

    def _own(self, names: Sequence[str]) -> str | None:
        for checkout in self._checkouts():
            marker = next((found[0] for found in map(_MARKER.match, checkout.tracked) if found), "")
            paths = (checkout.tracked_path(marker + name) for name in names)
            if found := next((path for path in paths if path is not None), None):
                return str(found)
        return None

    def _checkouts(self) -> Iterator[Checkout]:
        """The outputs of the call: one of them has the files."""
        if self.checkout is not None:
            yield self.checkout
        if self.store is not None:
            for stem, manifest in self.store.manifests(self.source.siblings).items():
                yield self.store.checkout(stem, manifest.key)

    def _earlier(self, stage: str, names: Sequence[str]) -> str | None:
        if self.store is None:
            return None
        info = self.source.record
        env = Environment(self.store, info.run, portable=False)
        reached = [past.task for past in info.past]
        try:
            return EarlierFiles(info, reached, env, info.prefix, self.where, {}).find(stage, names)
        except InputLostSignal as lost:
            raise lost.error from None


_MARKER = re.compile(r".*?\.[0-9a-f]{12}")
"""How the names begin of the files that a stage wrote beside its outputs.

See `curidask.core.artifact_names.files_stem`.
"""


def _records(info: RecordInfo, facts: ManagerFacts) -> list[StageRecord]:
    if info.inputs is None or (info.is_aggregate and not info.inputs):
        _not_here(info.label, "input_records")
    stages = [each.past[-1].stage if each.past else "" for each in info.inputs]
    sources = [Stored(-1, "", "", "", None, stage, each) for stage, each in zip(stages, info.inputs, strict=True)]
    return [StoredRecord(source, facts) for source in sources]


def _not_here(where: str, *asked: Any) -> NoReturn:
    raise StageAccessError(
        f"A cacher that loads a value cannot use {asked[-1]!r} of its record.",
        where=where,
        fix="what load() needs, save() can keep in `self.extra_metadata` or in files of its own",
    )
