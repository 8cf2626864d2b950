"""``record.rng`` and ``record.seed``: the same in each run and wherever a stage runs, others for each stage and set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.clusters.base import Connection
from curidask.clusters.local import local


@dataclass
class Params(cf.ExperimentParameters):
    a: int = 1
    b: int = 1


@cf.stage(None, ["one"])
def one(record: Any, n: int = 3) -> Any:
    return [record.seed, record.rng.integers(1 << 30, size=n).tolist(), record.rng.random()]


@cf.stage(None, ["two"])
def two(record: Any) -> Any:
    return [record.seed, record.rng.integers(1 << 30, size=3).tolist(), record.rng.random()]


@cf.stage(None, ["of_a"], params=["a"])
def of_a(record: Any) -> Any:
    return record.seed


@cf.aggregate([], ["all"])
def gather(record: Any, records: Any) -> Any:
    return [record.seed, [r.seed for r in records]]


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    with local(1) as connection:
        yield connection


def drawn(tmp_path: Path, **where: Any) -> dict[str, Any]:
    with cf.ArtifactManager("draws", cache=tmp_path, **where) as manager:
        sets = [Params("p"), Params("q"), Params("r", b=2)]
        records = [cf.Record(manager, params) for params in sets]
        made = {f"{r.name} {stage.__name__}": stage(r).output for r in records for stage in (one, two, of_a)}
        made["argument"] = one(records[0], n=2).output
        made["all"] = gather(cf.Record(manager, None), records).output
        return made


def test_draws_are_those_of_stage_parameters_and_arguments(tmp_path: Path, workers: Connection) -> None:
    found = drawn(tmp_path / "here", parallel=0)
    assert drawn(tmp_path / "there", cluster=workers.client) == found
    assert found["p one"] == found["q one"]  # the name does not count
    assert found["p one"] != found["r one"]
    assert found["p one"] != found["p two"]
    assert found["argument"][0] != found["p one"][0]
    assert found["p of_a"] == found["r of_a"]
    assert found["all"][1] == [0, 0, 0]
