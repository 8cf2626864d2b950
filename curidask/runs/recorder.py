"""Keeping the record of a session: completing it with what is known beside the runner's events, and writing it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from curidask.core.graph import Graph
from curidask.core.planner import Action
from curidask.core.preview import describe_params
from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError
from curidask.execution.artifact_io import artifact_info
from curidask.execution.tracebacks import first_line
from curidask.runs import param_registry
from curidask.runs import record as run_records
from curidask.runs.record import RunRecord
from curidask.runs.reportables import ReportCollector
from curidask.store.base import Store, without_cache

DESCRIBED_AT_MOST = 500
"""Reused artifacts whose manifests are read for the run record."""

NOTHING_KEPT = "nothing is kept of how it went"

logger = logging.getLogger("curidask.run")

Now = Callable[[int], int]


class RecordOfRun(Protocol):
    """A record of the session, as far as it is told of."""

    index: int
    manager: Any
    tasks: list[int]

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def params(self) -> Any: ...  # noqa: D102
    @property
    def is_aggregate(self) -> bool: ...  # noqa: D102
    @property
    def input_records(self) -> Sequence[Any]: ...  # noqa: D102
    def get_hash(self) -> str: ...  # noqa: D102


class RunRecorder:
    """Completes and writes a run record.

    Parameters
    ----------
    runs, log : Path
        The folder of all runs, and the log of this one.
    records : list of Record
        The session's, as they come.
    now : callable
        Gives the task that stands in the place of one that was replaced.
    """

    def __init__(
        self,
        run_record: RunRecord,
        graph: Graph,
        store: Store,
        reported: ReportCollector,
        records: Sequence[RecordOfRun],
        now: Now,
        *,
        runs: Path,
        log: Path,
    ) -> None:
        self._record = run_record
        self._runs = runs
        self._log = log
        self._graph = graph
        self._store = store
        self._reported = reported
        self._records = records
        self._now = now
        self._has_told = False

    def save_so_far(self, whole: bool) -> None:
        """Write the run record while the run goes on, at first without its tasks."""
        with self._told(NOTHING_KEPT):
            run_records.save(self._record, self._graph if whole else Graph(), {}, self._runs)

    def save(self) -> Path:
        """Write the run record as it is now, and the parameter sets into the registry, where they can be; its path."""
        sets = [record.params for record in self._records if record.params is not None]
        with self._told("its record has not all of it"):
            self._complete()
        with self._told("its parameter sets are not kept"):
            param_registry.add(self._runs, self._record.name, self._record.reference, sets)
        with self._told(NOTHING_KEPT):
            run_records.save(self._record, self._graph, self._param_sets(), self._runs, self._reported.rows)
        return self._runs / self._record.reference / "run.json"

    @contextmanager
    def _told(self, lost: str) -> Iterator[None]:
        """Let the run go on when its record cannot be made or written, and say once what is lost by that."""
        try:
            yield
        except Exception as error:
            if not self._has_told:
                self._has_told = True
                what, where = f"The run record cannot be made: {first_line(error)}.", ""
                if isinstance(error, CacheError):
                    what, where = error.what, f" ({error.where})"
                logger.warning("%s The run goes on, and %s%s", what, lost, where, extra={"notice": True, "stage": ""})

    def as_dict(self) -> dict[str, Any]:
        """The run record as it is now, as plain JSON values."""
        self._complete()
        values = self._record.as_dict(self._graph, self._param_sets(), self._reported.rows)
        text = json.dumps(values)
        shown = hide_secrets(text)
        return values if shown == text else dict(json.loads(shown))

    def _gather_reported(self) -> None:
        """Fetch what stages reported that are reused; see `ReportCollector`.

        Of what should have run and did not, the cache may have what it reported in another run.
        """
        decisions, results = self._record.decisions, self._record.results
        did_not_run = {t for t, (action, _) in decisions.items() if action is Action.RUN and t not in results}
        tasks = [task for task in self._graph if task.id in decisions and task.id not in did_not_run]
        with without_cache(self._record.warned, "what reused stages reported was not fetched"):
            for text in self._reported.gather(self._store, tasks):
                self._record.warned(text)

    def _complete(self) -> None:
        self._gather_reported()
        self._describe_reused()
        self._record.records = [self._row(record) for record in self._records]
        self._record.log = str(self._log) if os.path.exists(self._log) else ""

    def _describe_reused(self) -> None:
        """Let the run record say what was reused; of many artifacts it keeps the names only (a manifest each)."""
        ran, rows = self._record.results, self._record.decisions
        stems = [stem for task in self._graph if task.id in rows and task.id not in ran for stem in task.stems]
        wanted = [stem for stem in stems if stem is not None]
        if len(wanted) <= DESCRIBED_AT_MOST:
            with without_cache(self._record.warned, "what was reused is not described"):
                manifests = self._store.manifests(wanted)
                self._record.described = {stem: artifact_info(manifest) for stem, manifest in manifests.items()}

    def _row(self, record: RecordOfRun) -> dict[str, Any]:
        return {
            "index": record.index,
            "name": record.name,
            "hash": record.get_hash(),
            "aggregate": record.is_aggregate,
            "inputs": [other.index for other in record.input_records if other.manager is record.manager],
            "tasks": list(dict.fromkeys(t for task in record.tasks for t in (task, self._now(task)))),
        }

    def _param_sets(self) -> dict[str, Any]:
        sets = {record.get_hash(): record for record in self._records if record.params is not None}
        return {hash_: {"name": r.name, "values": describe_params(r.params)} for hash_, r in sets.items()}
