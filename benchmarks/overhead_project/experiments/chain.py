"""Three stages that do nothing for each parameter set, and an aggregate: what is left is the cost of the framework."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher


@dataclass
class Params(cf.ExperimentParameters):
    """A parameter set that differs from the others in its number."""

    index: int = 0


@cf.stage(None, ["a"], [JsonCacher])
def first(record: cf.Record) -> int:
    index: int = record.params.index
    return index


@cf.stage(["a"], ["b"], [JsonCacher])
def second(record: cf.Record, a: int) -> int:
    return a + 1


@cf.stage(["b"], ["c"], [JsonCacher])
def third(record: cf.Record, b: int) -> int:
    return b + 1


@cf.aggregate(["c"], ["total"], [JsonCacher])
def total(record: cf.Record, records: list[cf.Record], c: Mapping[cf.Record, int]) -> int:
    return sum(c.values())


def get_params() -> list[Params]:
    """As many sets as the benchmark asks for."""
    return [Params(f"set{index}", index=index) for index in range(int(os.environ["OVERHEAD_RECORDS"]))]


def run(param_sets: list[Params], manager: cf.ArtifactManager) -> None:
    records = [third(second(first(cf.Record(manager, params)))) for params in param_sets]
    total(cf.Record(manager, None), records)
