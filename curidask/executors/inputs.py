"""What a stage is called with: its inputs, each loaded from where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curidask.errors import ArtifactMissingError
from curidask.executors.base import Job, Passed, Source
from curidask.executors.stage_record import GatheredInputs, StageRecord, StageState
from curidask.executors.stored import load_stored
from curidask.executors.values import private_copy, resolved, unpack
from curidask.graph import Literal
from curidask.store.base import Store


class InputLostSignal(BaseException):
    """Carries a lost input past the user's ``except Exception``."""

    def __init__(self, task: int, error: ArtifactMissingError) -> None:
        super().__init__(task)
        self.task = task
        self.error = error


@dataclass(slots=True)
class Inputs:
    """Loads the inputs of a job.

    Attributes
    ----------
    job : Job
    store : Store
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    digests : dict of str to str
        Of the stored ones that were loaded, by key.
    """

    job: Job
    store: Store
    passed: Mapping[int, Mapping[int, Any]]
    digests: dict[str, str] = field(default_factory=dict)

    def load(self, source: Source) -> Any:
        """The value of an input.

        Raises
        ------
        InputLostSignal
            When it is gone or damaged.
        """
        if isinstance(source, Literal):
            return private_copy(source.value)
        if isinstance(source, Passed):
            value = unpack(self.passed[source.task][source.index], shared=source.shared)
            try:
                return resolved(value, self.store)
            except ArtifactMissingError as error:
                raise InputLostSignal(source.task, error) from None
        try:
            value, manifest = load_stored(self.store, source)
        except ArtifactMissingError as error:
            raise InputLostSignal(source.task, error) from None
        self.digests[source.key] = manifest.digest
        return value

    def state(self, sources: Mapping[str, Source]) -> StageState:
        """Inputs as a stage reads them from a record; each loads when it is looked at."""

        def load(name: str) -> Any:
            return self.load(sources[name])

        return StageState(load, list(sources), self.job.label)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the function gets beside its record: an aggregate its records, and both their inputs by name."""
        if self.job.spec.is_aggregate:
            records, gathered = self._gathered()
            return [records], gathered
        return [], {name: self.load(source) for name, source in self.job.inputs.items()}

    def _gathered(self) -> tuple[list[StageRecord], dict[str, Any]]:
        stage = self.job.spec.name
        records = []
        by_input: dict[str, list[StageRecord]] = {name: [] for name in self.job.spec.inputs or ()}
        for info, sources in self.job.gathered:
            record = StageRecord(info, self.state(sources), stage)
            records.append(record)
            for name in by_input:
                if name in sources:
                    by_input[name].append(record)
        named = {
            name: GatheredInputs(partial(_read_state, name), having)
            for name, having in by_input.items()
            if name not in self.job.kwargs
        }
        return records, named


def _read_state(name: str, record: StageRecord) -> Any:
    return record.state[name]
