"""The page of the reference tells what is there: each name can be had, with the parameters that stand beside it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import curidask as cf
from curidask import caching, reporting
from curidask.errors import UnknownKeywordError
from curidask.record import ArtifactRepresentation
from curidask.staging import SkippedOutput

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"

THERE = ("as documented", "goes beyond", "another thing")
NOT_HERE = "not here"

Names = tuple[str, ...]
"""Names of one parameter, the one of curifactory first."""


@dataclass(frozen=True)
class Row:
    """What the page says of a name.

    Attributes
    ----------
    module : str
        Without the package; empty for the package itself.
    name : str
        As seen from the module.
    positional, named : tuple of Names
        Parameters by their order, and those that are given by name.
    refused : tuple of str
        Documented parameters that are errors.
    status : str
    """

    module: str
    name: str
    positional: tuple[Names, ...]
    named: tuple[Names, ...]
    refused: Names
    status: str

    @property
    def full_name(self) -> str:
        """The name as seen from the package."""
        return f"{self.module}.{self.name}".removeprefix(".")


def rows() -> Iterator[Row]:
    """Each name of the page."""
    module = ""
    for line in PAGE.read_text().splitlines():
        if heading := re.match(r"## `curidask\.?(\w*)`", line):
            module = heading[1]
        if line.startswith("| `"):
            first, parameters, status, _ = (cell.strip() for cell in line.strip("|").split("|"))
            kinds = dict(_parameters(parameters))
            for name in re.findall(r"`([\w.]+)`", first):
                refused = tuple(names[0] for names in kinds.get("not here", ()))
                yield Row(module, name, kinds.get("", ()), kinds.get("by name", ()), refused, status)


def _parameters(cell: str) -> Iterator[tuple[str, tuple[Names, ...]]]:
    """The groups of parameters in a cell: how they are given, and the names of each."""
    for group in filter(None, map(str.strip, cell.split(";"))):
        kind, _, listed = group.rpartition(":")
        yield kind, tuple(tuple(re.findall(r"`(\w+)`", item)) for item in listed.split(","))


ALL = list(rows())


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Objects whose attributes only an instance has, by the names of their classes."""

    @cf.stage(None, [cf.Lazy("a")])
    def make(record: Any) -> Any:
        return 1

    with contextlib.chdir(tmp_path_factory.mktemp("reference")), cf.ArtifactManager("names") as manager:
        record = make(cf.Record(manager, cf.ExperimentParameters("set")))
        record.state.resolve = False
        frame = pd.DataFrame()
        made = [
            *(record, record.state, record.params, record.state["a"], manager, cf.Procedure([make], manager)),
            *(ArtifactRepresentation(record, "a", 1), SkippedOutput(record, "make", None)),
            *(caching.FileReferenceCacher("a"), caching.PandasCacher("a"), reporting.DFReporter(frame)),
            *(reporting.FigureReporter(None), reporting.HTMLReporter(""), reporting.ImageReporter("a.png")),
            *(reporting.JsonReporter({}), reporting.LatexTableReporter(frame), reporting.LinePlotReporter([1])),
        ]
        found = {type(each).__name__: each for each in made}
        yield {
            **found,
            "Cacheable": found["PandasCacher"],
            "ExperimentArgs": record.params,
            "Reportable": found["HTMLReporter"],
        }


def found(row: Row, instances: dict[str, Any]) -> Any:
    """What a row names.

    Raises
    ------
    AttributeError, ModuleNotFoundError
        When it is not there.
    """
    first, _, attribute = row.name.partition(".")
    value = getattr(importlib.import_module(f"curidask.{row.module}".strip(".")), first)
    return getattr(instances[first], attribute) if attribute else value


class Accepted:
    """The keywords that a function or class takes, by signature and as synonyms of its parameters."""

    def __init__(self, called: Callable[..., Any]) -> None:
        self.order: list[str] = []
        self.by_keyword: dict[str, str] = {}
        for function in self._functions(called):
            parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
            self.order = self.order or [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            self.by_keyword |= {
                p.name: p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            }
            self.by_keyword |= getattr(function, "__synonyms__", {})
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return  # it passes nothing on to the constructor of a base

    @staticmethod
    def _functions(called: Callable[..., Any]) -> list[Callable[..., Any]]:
        if not inspect.isclass(called):
            return [called]
        return [vars(kind)["__init__"] for kind in called.__mro__[:-1] if "__init__" in vars(kind)]


@pytest.mark.parametrize("row", [row for row in ALL if row.status != NOT_HERE], ids=lambda row: row.full_name)
def test_each_name_is_there_with_its_parameters(row: Row, instances: dict[str, Any]) -> None:
    assert row.status in THERE
    value = found(row, instances)
    if not (row.positional or row.named or row.refused):
        return
    accepted = Accepted(value)
    given = [[accepted.by_keyword.get(name) for name in names] for names in (*row.positional, *row.named)]
    assert all(len(set(targets)) == 1 and targets[0] for targets in given), "two names of one parameter are not one"
    targets = [targets[0] for targets in given]
    assert len(targets) == len(set(targets))
    assert accepted.order[: len(row.positional)] == targets[: len(row.positional)]
    assert not set(row.refused) & set(accepted.by_keyword)


CALLED = [row for row in ALL if row.positional or row.named]


@pytest.mark.parametrize("row", CALLED, ids=lambda row: row.full_name)
def test_a_keyword_that_is_not_there_is_an_error(row: Row, instances: dict[str, Any]) -> None:
    with pytest.raises(UnknownKeywordError, match="no_such_keyword") as caught:
        found(row, instances)(*[None] * len(row.positional), no_such_keyword=1)
    assert caught.value.fix


@pytest.mark.parametrize("row", [row for row in ALL if row.status == NOT_HERE], ids=lambda row: row.full_name)
def test_what_is_not_here_is_not_there(row: Row, instances: dict[str, Any]) -> None:
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        found(row, instances)


def test_what_is_named_instead_is_there(instances: dict[str, Any]) -> None:
    manager, record = instances["ArtifactManager"], instances["Record"]
    assert {"options", "param_sets"} <= manager.describe_run().keys()
    assert len(manager.graph) == 1
    assert manager.plan().decisions
    assert manager.config.cache
    assert record.stages[-1] == "make"


def test_each_name_stands_once_on_the_page() -> None:
    names = [row.full_name for row in ALL]
    assert sorted(names) == sorted(set(names))
    assert len(names) > 280
