"""The page of the reference names what is there: each name can be had, with the parameters that stand beside it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.representation import ArtifactRepresentation

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"


@dataclass(frozen=True)
class Row:
    module: str
    name: str
    parameters: tuple[str, ...]
    status: str


def rows() -> Iterator[Row]:
    module = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            named = re.findall(r"`(curidask\.\w+)`", line)
            module = named[0] if len(named) == 1 else ""
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            name = cells[0].strip("`")
            home = module or "curidask." + name.partition(".")[0]
            short = name if module else name.partition(".")[2]
            yield Row(home, short, tuple(re.findall(r"`(\w+)`", cells[1])), cells[2])


def instances(manager: cf.ArtifactManager) -> dict[str, Any]:
    """Objects whose attributes only an instance has."""

    @cf.stage(None, [cf.Lazy("a")])
    def make(record: Any) -> Any:
        return 1

    record = make(cf.Record(manager, cf.ExperimentParameters("set")))
    record.state.resolve = False
    return {
        "Record": record,
        "CacheAwareDict": record.state,
        "ArtifactRepresentation": ArtifactRepresentation(record, "a", 1),
        "Lazy": record.state["a"],
        "Procedure": cf.Procedure([make], manager),
        "ArtifactManager": manager,
        "Cacheable": record.state["a"].cacher,
        "ExperimentParameters": record.params,
        "ExperimentArgs": record.params,
    }


ALL = list(rows())


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.module}.{row.name}")
def test_each_name_is_there_with_its_parameters(row: Row, tmp_path: Path) -> None:
    assert row.status in ("as documented", "goes beyond")
    first, _, attribute = row.name.partition(".")
    found = getattr(importlib.import_module(row.module), first)
    if attribute:
        with cf.ArtifactManager("names", cache=str(tmp_path / "cache")) as manager:
            found = getattr(instances(manager)[first], attribute)
    if row.parameters:
        accepted = inspect.signature(found).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
        assert takes_all or set(row.parameters) <= set(accepted)


def test_the_page_is_as_long_as_the_documents() -> None:
    assert len(ALL) == len({(row.module, row.name) for row in ALL})
    assert len(ALL) > 80
    assert {row.module.partition(".")[2] for row in ALL} >= {
        "staging", "record", "procedure", "params", "args", "caching", "reporting", "manager", "experiment",
    }  # fmt: skip
