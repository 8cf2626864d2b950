"""What the stages of a run reported, collected in the run's folder, from where the report is made."""

from __future__ import annotations

import bisect
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import safe_part
from curidask.core.graph import RecordInfo, Task
from curidask.errors import ArtifactMissingError
from curidask.execution import outputs
from curidask.execution.base import Kind, Outcome, Reported
from curidask.execution.listener import Listener
from curidask.store.base import Store

FOLDER = "reportables"
FRAGMENT = "fragment.html"


class ReportCollector(Listener):
    """Takes reportables as they come and writes each to a folder of its own; keeps one row about each in memory.

    Their order is that in which the stages were called, however they end.

    It listens to the runner for those of the stages that run. Those of stages that are reused come from the cache when
    `gather` is called.

    Parameters
    ----------
    folder : Path or None
        The run's folder, made when there is something to write; None for a temporary one (a dry run).

    Attributes
    ----------
    rows : list of dict
        For each reportable: ``task`` (None outside of stages), ``stage``, ``record`` (its index), ``set``, ``hash``,
        ``name``, ``group``, ``kind``, ``folder`` (relative to the run's folder) and ``files``; ``of_input`` for one
        that a stage reported on a record that went into its own.
    """

    told_as = "the keeping of what stages reported"

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.rows: list[dict[str, Any]] = []
        self._settled: set[int] = set()
        self._places: list[tuple[int, bool]] = []
        self._count = 0

    @property
    def folder(self) -> Path:
        """Where the rows' folders lie."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="curidask-reportables-"))
            weakref.finalize(self, shutil.rmtree, self._folder, True)
        return self._folder

    # --- Listener ----------------------------------------------------------------------------------------------------
    def ended(self, task: Task, outcome: Outcome) -> None:
        """Take what a stage reported; a stage that ran again has another say."""
        if outcome.kind in (Kind.FOUND, Kind.UNCHANGED):
            return  # it lies in the cache, as of a stage that is reused
        self._forget(task.id)
        self._settled.add(task.id)
        for reported in outcome.reported:
            self._add_of_stage(reported, task)

    # --- taking in ---------------------------------------------------------------------------------------------------
    def add(
        self, reported: Reported, record: RecordInfo, stage: str, task: int | None, *, before: int = 0
    ) -> dict[str, Any]:
        """Write a reportable; its row. One outside of stages comes before what this task and later ones report."""
        name = f"{FOLDER}/{self._count:04}-{safe_part(reported.name, 40)}"
        self._count += 1
        folder = self.folder / name
        folder.mkdir(parents=True)
        names = {}
        for file, data in reported.files.items():
            names[file] = safe_part(file, 120)
            (folder / names[file]).write_bytes(data)
        (folder / FRAGMENT).write_text(reported.html, encoding="utf-8")
        row = {
            "task": task,
            "stage": stage,
            "record": record.index,
            "set": record.name,
            "hash": record.params_hash,
            "name": reported.name,
            "group": reported.group,
            "kind": reported.kind,
            "folder": name,
            "files": names,
        }
        place = (before, False) if task is None else (task, True)
        at = bisect.bisect_right(self._places, place)
        self._places.insert(at, place)
        self.rows.insert(at, row)
        return row

    def gather(self, store: Store, tasks: Iterable[Task]) -> list[str]:
        """Fetch from the cache what tasks that did not run reported when they ran.

        Parameters
        ----------
        tasks : iterable of Task
            Those that ran, or were fetched before, are passed over.

        Returns
        -------
        list of str
            Warnings about what is damaged.
        """
        waiting = {task.marker: task for task in tasks if task.id not in self._settled and task.stored}
        self._settled.update(task.id for task in waiting.values())
        indexes = {outputs.index_name(marker): marker for marker in waiting}
        warnings = []
        for index in sorted(store.having(indexes), key=lambda name: waiting[indexes[name]].id):
            task = waiting[indexes[index]]
            manifest = store.manifest(task.store_stems[0])
            if manifest is None:
                continue
            try:
                kept = outputs.read(task.marker, store.restore_tracked(manifest))
            except ArtifactMissingError as error:
                warnings.append(f"what the {task.label} reported is damaged in the cache: {error.what}")
                continue
            for reported in kept:
                self._add_of_stage(reported, task)
        return warnings

    def _add_of_stage(self, reported: Reported, task: Task) -> None:
        inputs = [each.record for each in task.gathered] or task.record.inputs or ()
        place = reported.input_record
        if place is None or not 0 <= place < len(inputs):
            self.add(reported, task.record, task.spec.name, task.id)
            return
        past = inputs[place].past
        row = self.add(reported, inputs[place], past[-1].stage if past else task.spec.name, task.id)
        row["of_input"] = True

    def _forget(self, task: int) -> None:
        first, end = (find(self._places, (task, True)) for find in (bisect.bisect_left, bisect.bisect_right))
        for row in self.rows[first:end]:
            shutil.rmtree(self.folder / row["folder"], ignore_errors=True)
        del self.rows[first:end], self._places[first:end]
