"""What is computed again in a live session that is told to overwrite in the middle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.errors import SelectionError
from tests.conftest import Project


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture
def ran() -> list[str]:
    """The stages that ran."""
    return []


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("live", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


def cell(manager: cf.ArtifactManager, ran: list[str], value: int = 0) -> Any:
    """What a notebook's cell does: define stages, and run them on new records."""

    @cf.stage(None, ["a"], [JsonCacher], code="ignore")
    def first(record: Any) -> Any:
        ran.append("first")
        return value or len(ran)

    @cf.stage(["a"], ["b"], [JsonCacher])
    def second(record: Any, a: Any) -> Any:
        ran.append("second")
        return a * 10

    @cf.aggregate(["b"], ["c"], [JsonCacher])
    def gather(record: Any, records: Any, b: Any) -> Any:
        ran.append("gather")
        return sum(b.values())

    record = second(first(cf.Record(manager, Params("one"))))
    return gather(cf.Record(manager, None), [record]).output


def test_everything(manager: cf.ArtifactManager, ran: list[str]) -> None:
    assert [cell(manager, ran), cell(manager, ran)] == [10, 10]
    manager.overwrite = True
    assert cell(manager, ran, 7) == 70
    assert cell(manager, ran, 8) == 80
    manager.overwrite = False
    assert cell(manager, ran, 9) == 80
    assert ran == ["first", "second", "gather"] * 3


@pytest.mark.parametrize(("stage", "again"), [("first", 3), ("second", 2), ("gather", 1)])
def test_a_stage_and_what_depends_on_it(manager: cf.ArtifactManager, ran: list[str], stage: str, again: int) -> None:
    cell(manager, ran)
    manager.overwrite_stages = [stage]
    assert cell(manager, ran, 7) == (70 if stage == "first" else 10)
    assert ran[3:] == ["first", "second", "gather"][-again:]
    manager.overwrite_stages = []
    cell(manager, ran, 9)
    assert len(ran) == 3 + again


def test_a_set_that_overwrites_reaches_what_gathers_it(manager: cf.ArtifactManager, ran: list[str]) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        ran.append("make")
        return len(ran)

    @cf.aggregate(["a"], ["b"], [JsonCacher])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return sum(a.values())

    def total(**options: Any) -> Any:
        return gather(cf.Record(manager, None), [make(cf.Record(manager, Params("one", **options)))]).output

    assert [total(), total(overwrite=True), total()] == [1, 2, 2]


def test_within_a_run_each_is_computed_once(tmp_path: Path, ran: list[str]) -> None:
    with cf.ArtifactManager("run", cache=str(tmp_path), parallel=0, live=False, overwrite=True) as manager:
        assert [cell(manager, ran, 5), cell(manager, ran, 5)] == [50, 50]
    assert ran == ["first", "second", "gather"]


def test_names_of_stages_that_nobody_calls(tmp_path: Path, ran: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = cf.ArtifactManager("live", cache=str(tmp_path), parallel=0, overwrite_stages=["first", "late"])
        cell(manager, ran)
        manager.overwrite_stages = ["second", "unlike"]
    with pytest.warns(UserWarning, match="no stage 'frist' was called so far, .* did you mean 'first'"):
        manager.overwrite_stages = ["frist", "unlike"]
    with pytest.warns(UserWarning, match="was called, which was to be overwritten") as told:
        manager.close()
    assert [str(each.message).rpartition("; ")[2] for each in told] == [
        "did you mean 'first'?",
        "called were: first, second, gather",
    ]
    assert {each.filename for each in told} == {__file__}


def test_a_name_that_run_sets_and_nobody_calls(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    in_project.write(
        "experiments/demo.py",
        """
        import os
        import curidask as cf

        @cf.stage(None, ["x"], [cf.caching.JsonCacher])
        def make(record):
            return 1

        def get_params():
            return [cf.ExperimentParameters("only")]

        def run(param_sets, manager):
            manager.overwrite_stages = [os.environ["AGAIN"]]
            make(cf.Record(manager, param_sets[0]))
        """,
    )
    monkeypatch.setenv("AGAIN", "make")
    cf.run_experiment("demo", parallel=0)
    monkeypatch.setenv("AGAIN", "mak")
    with pytest.raises(SelectionError, match=r"no stage 'mak'(?s:.*)did you mean 'make'"):
        cf.run_experiment("demo", parallel=0)
