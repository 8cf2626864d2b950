"""What the parts of a session need of it and of its records, so that they need not know the manager."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from curidask.core.graph import ArtifactRef, Graph, RecordInfo
from curidask.core.planner import Plan
from curidask.core.spec import StageSpec
from curidask.runs.record import RunRecord
from curidask.runs.recorder import RecordOfRun
from curidask.session.config import Config
from curidask.store.base import Store


class RecordLike(RecordOfRun, Protocol):
    """A record of a session; see `curidask.Record`."""

    input_infos: tuple[RecordInfo, ...]
    state: Any

    @property
    def fixed_hash(self) -> str: ...  # noqa: D102
    @property
    def last_stage(self) -> str | None: ...  # noqa: D102
    def add_task(self, spec: StageSpec, task: int, inputs: Sequence[str], refs: Sequence[ArtifactRef]) -> None: ...  # noqa: D102
    def check_unchanged(self) -> None: ...  # noqa: D102
    def find_written(  # noqa: D102
        self, name: str, subdir: str | None, prefix: str | None, stage: str | None, track: bool
    ) -> str | None: ...
    def get_reference_name(self) -> str: ...  # noqa: D102
    def set_aggregate(self, aggregate_records: Sequence[Any]) -> None: ...  # noqa: D102
    def info(self, *, alone: bool = False) -> RecordInfo: ...  # noqa: D102


class Session(Protocol):
    """A session; see `curidask.ArtifactManager`."""

    config: Config
    dry: bool
    experiment_name: str
    graph: Graph
    is_recorded: bool
    reference: str
    run_record: RunRecord
    store: Store

    @property
    def records(self) -> Sequence[RecordLike]: ...  # noqa: D102
    @property
    def run_folder(self) -> Path: ...  # noqa: D102
    @property
    def writable(self) -> bool: ...  # noqa: D102
    def generate_report(self) -> Any: ...  # noqa: D102
    def plan(self) -> Plan: ...  # noqa: D102
