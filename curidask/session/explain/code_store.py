"""The code that made artifacts, kept once beside them: what `curidask explain` compares with today's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from curidask.core.artifact_names import CODE
from curidask.core.graph import Graph
from curidask.core.planner import Action, Plan
from curidask.errors import CacheError
from curidask.execution.listener import Listener
from curidask.session.stage_code import WATCHED_CODE, StageCode
from curidask.store.backends.base import ObjectStore
from curidask.store.base import Store, without_place
from curidask.store.manifest import LARGE_BYTES, is_digest, is_texts, parse_object


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A definition that a stage reached.

    Attributes
    ----------
    kind, digest, source : str
        See `curidask.core.code.reach.Part`.
    """

    kind: str
    digest: str
    source: str


class CodeKeeper(Listener):
    """Keeps the code of the stages that run in the cache; it listens to the runner.

    Parameters
    ----------
    codes : callable
        Gives the code of all stages that were called, by what stands for it in keys.
    late : bool
        Keep it when `finish` is called: between the steps of a session its folder holds artifacts only.
    """

    told_as = "the keeping of code"

    def __init__(self, store: Store, codes: Callable[[], Mapping[str, StageCode]], *, late: bool = False) -> None:
        self._store = store
        self._codes = codes
        self._late = late
        self._wanted: set[str] = set()
        self._kept: set[str] = set()

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Keep what is not there yet."""
        self._wanted |= {str(graph[task].components.get("code")) for task in plan.ids(Action.RUN)}
        if not self._late:
            self.finish()

    def finish(self) -> None:
        """Keep what stages that ran reached: one question for all of it, and an object for each that is new."""
        wanted, codes = self._wanted - self._kept, self._codes()
        new = {digest: codes[digest] for digest in sorted(wanted) if digest in codes and codes[digest].parts}
        self._kept |= wanted
        for place in self._store.places if new else ():
            without_place(self._store, place, partial(_keep, place, new))


def read_code(store: Store, digests: Iterable[str]) -> dict[str, dict[str, KeptPart]]:
    """The definitions behind what stands for code in keys, by name; what was not kept, or is damaged, is left out."""
    wanted = {_name(digest): digest for digest in digests if is_digest(digest)}
    found: dict[str, dict[str, KeptPart]] = {}
    for source in store.sources:
        data: Mapping[str, bytes] = {}
        with suppress(CacheError):  # that tier tells nothing
            data = source.objects.read_many(name for name, digest in wanted.items() if digest not in found)
        for name, content in data.items():
            with suppress(ValueError):
                found[wanted[name]] = _decoded(content)
    return found


def _keep(place: ObjectStore, new: Mapping[str, StageCode]) -> None:
    names = {_name(digest): digest for digest in new}
    there = place.exists(names)
    for name in names.keys() - there:
        place.write(name, _encoded(new[names[name]]))


def _name(digest: str) -> str:
    return f"{CODE}{digest}.json"


def _encoded(code: StageCode) -> bytes:
    parts = [[part.name, part.kind, part.digest, part.source] for part in code.parts]
    return json.dumps({"version": 1, "parts": parts, "unfollowed": list(code.unfollowed)}).encode()


def _decoded(content: bytes) -> dict[str, KeptPart]:
    rows = parse_object(content, LARGE_BYTES).get("parts", ())
    if not isinstance(rows, list) or not all(is_texts(row) and len(row) == 4 for row in rows):
        raise ValueError("it has another form")
    return {name: KeptPart(kind, digest, source) for name, kind, digest, source in rows}


# --- telling that what is reused was made by other code, for stages whose code does not count ------------------------
class CodeChanges(Listener):
    """Looks at what is reused of stages with ``code="warn"``; it listens to the runner."""

    told_as = "looking for changes of code"

    def __init__(self, store: Store, warn: Callable[[str], None]) -> None:
        self._store = store
        self._warn = warn
        self._looked_at: set[int] = set()

    def planned(self, graph: Graph, plan: Plan) -> None:
        """Compare the code of what is reused with that which made it; one request for all of it."""
        tasks = [graph[task] for task in plan.ids(Action.REUSE) if task not in self._looked_at]
        watched = {task.store_stems[0]: task for task in tasks if WATCHED_CODE in task.components}
        self._looked_at.update(task.id for task in tasks)
        edited: Counter[str] = Counter()
        for stem, manifest in (self._store.manifests(watched) if watched else {}).items():
            task = watched[stem]
            edited[task.spec.name] += manifest.components.get(WATCHED_CODE) != task.components[WATCHED_CODE]
        for stage, count in edited.items():
            if count:
                results = "1 result" if count == 1 else f"{count} results"
                self._warn(
                    f"the code of the stage {stage!r} was edited since {results} of it were made that are reused; "
                    f"--overwrite-stage {stage} computes them anew"
                )
