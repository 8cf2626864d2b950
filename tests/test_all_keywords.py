"""A misspelt keyword of anything public is an error with the near name: each function, class and method is called."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.core.planner import Plan
from curidask.errors import UnknownKeywordError, WrongTypeError
from curidask.execution.base import ManagerFacts
from curidask.execution.lazy_dicts import GatheredInputs, StageState
from curidask.execution.stage_context import StageContext
from curidask.experiment import ExperimentResult
from curidask.reporting import FigureReporter
from curidask.reporting.notebook import Display
from curidask.reporting.report import KeptReportable
from curidask.session.resolver import ArtifactResolver
from tests.test_reference import ALL, NOT_HERE, Accepted

ROOT = Path(__file__).parents[1]

GIVEN = (
    *(
        StageContext,
        ManagerFacts,
        StageState,
        GatheredInputs,
        KeptReportable,
        ExperimentResult,
        Display,
        Plan,
        ArtifactResolver,
    ),
)
"""Classes of what curidask gives to a project."""

LEFT_OUT = {"set_hash_functions", "CacheAwareDict", "main"}
"""What takes every keyword: fields of a set, names of a state; and what has to begin before anything is loaded."""


def named() -> Iterator[Any]:
    """What a project can name: what is documented, what pages import, and what the modules say to be theirs."""
    for row in ALL:
        if row.status != NOT_HERE and "." not in row.name:
            yield getattr(importlib.import_module(f"curidask.{row.module}".strip(".")), row.name)
    for module in (cf, *(getattr(cf, name) for name in cf._SUBMODULES)):
        yield from (getattr(module, name) for name in getattr(module, "__all__", ()))
    for page in (*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("examples/**/*.py")):
        for module_name, names in re.findall(r"^ *from (curidask[\w.]*) import ([\w, ]+)$", page.read_text(), re.M):
            module = importlib.import_module(module_name)
            yield from (getattr(module, name) for name in names.split(", "))


def is_ours(held: object) -> bool:
    return (inspect.isfunction(held) or inspect.isclass(held)) and held.__module__.partition(".")[0] == "curidask"


def takes_any(held: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(held).parameters.values())


def of_class(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A class, and its methods on an object that was not set up, by name."""
    if is_ours(kind.__init__):
        yield kind.__name__, kind
    for name, method in inspect.getmembers_static(kind, inspect.isfunction):
        if is_ours(method) and not name.startswith("_") and not takes_any(method):
            yield f"{kind.__name__}.{name}", method.__get__(kind.__new__(kind))


def calls() -> dict[str, Callable[..., Any]]:
    """All that can be called, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for held in (*GIVEN, *filter(is_ours, named())):
        if not inspect.isclass(held):
            found[held.__name__] = held
        elif not issubclass(held, BaseException):
            found |= of_class(held)
    return {name: held for name, held in found.items() if name not in LEFT_OUT}


CALLS = calls()


def required(held: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(held).parameters.values()
    return {p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_misspelt_keyword(name: str) -> None:
    called = CALLS[name]
    there = Accepted(called).by_keyword
    needed = required(called)
    for keyword, parameter in (there or {"anything": ""}).items():
        wrong = f"{keyword[:-2]}{keyword[-1:]}x"
        others = dict.fromkeys(needed - {keyword}) if takes_any(called) else {}
        with pytest.raises((UnknownKeywordError, WrongTypeError)) as raised:
            called(**{wrong: 1, **others})
        error = raised.value
        assert isinstance(error, UnknownKeywordError) or keyword in needed
        assert error.fix
        assert not there or len(keyword) < 5 or any(f"'{near}'" in error.fix for near in (keyword, parameter))


def test_nearly_all_is_called() -> None:
    assert len(CALLS) > 300
    wanted = (
        "CacheAwareDict.get JsonCacher.save ArtifactManager.display_info Lazy.load StageContext.report Procedure.run"
    )
    assert set(wanted.split()) <= CALLS.keys()


# --- by hand ---------------------------------------------------------------------------------------------------------
@cf.stage(None, ["y"])
def make(record: Any, scale: int = 1) -> Any:
    return scale


@cf.stage(None, ["y"])
def take(record: Any, **others: Any) -> Any:
    return others


@cf.aggregate(["y"], ["total"])
def total(record: Any, records: Any, y: Any, scale: int = 1) -> Any:
    return scale * sum(y.values())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("words", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


def test_of_stages_and_aggregates(manager: cf.ArtifactManager) -> None:
    record, other = cf.Record(manager, None), cf.Record(manager, None)
    for call, what, fix in [
        (lambda: make(rec=record), r"stage 'make' \(.*\) has no keyword 'rec'", "did you mean 'record'?"),
        (lambda: make(record, record=other), "was given 'record' by position and by keyword", "give it once"),
        (lambda: make(record, scal=2), "has no keyword 'scal'", "did you mean 'scale'?"),
        (lambda: make(record, zzz=2), "has no keyword 'zzz'", "it has: record, scale"),
        (lambda: total(other, record=[record]), "was given 'record' by position and", "did you mean 'records'?"),
        (lambda: total(other, [record], records=[record]), "was given 'records' by position and", "give it once"),
        (lambda: total(other, recs=[record]), "has no keyword 'recs'", "did you mean 'records'?"),
        (lambda: total(other, zzz=[record]), "has no keyword 'zzz'", "it has: record, records, scale, y"),
        (lambda: total(recrds=[record]), "has no keyword 'recrds'", "did you mean 'records'?"),
    ]:
        with pytest.raises(UnknownKeywordError, match=what) as raised:
            call()
        assert raised.value.fix == fix
    for call in (make, lambda: make(scale=2), lambda: take(rec=record), lambda: total(records=[record])):
        with pytest.raises(WrongTypeError, match="was called without 'record'") as missing:
            call()
        assert "record = Record(manager, param_set)" in missing.value.fix


def test_the_record_and_the_records_may_be_named(manager: cf.ArtifactManager) -> None:
    records = [make(record=cf.Record(manager, None), scale=scale) for scale in (1, 2)]
    assert total(record=cf.Record(manager, None), records=records[:1]).output == 1
    assert total(cf.Record(manager, None), records=records, scale=2).output == 6
    assert take(record=cf.Record(manager, None), rec=3).output == {"rec": 3}


def test_in_a_stage(manager: cf.ArtifactManager) -> None:
    record = make(cf.Record(manager, None))

    @cf.aggregate(["y"], ["said"])
    def ask(record: Any, records: Any, y: Any) -> Any:
        said = []
        for call in (
            lambda: record.state.get("x", defalt=1),
            lambda: y.get(None, defalt=1),
            lambda: record.report(reportble=1),
            lambda: record.manager.get_str_timestamp(utc=True),
        ):
            with pytest.raises(UnknownKeywordError) as raised:
                call()
            said.append(str(raised.value))
        return said

    state, gathered, report, timestamp = ask(cf.Record(manager, None), [record]).output
    assert "did you mean 'default'?" in state
    assert "did you mean 'default'?" in gathered
    assert "did you mean 'reportable'?" in report
    assert timestamp.startswith("ManagerFacts.get_str_timestamp() has no keyword 'utc'")


def test_messages_name_what_the_project_knows(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    class Own(JsonCacher):
        def load(self) -> Any:
            return 1

    record = cf.Record(manager, None)
    for call, what in [
        (lambda: record.state.get("q", defalt=3), "CacheAwareDict.get() has no keyword 'defalt'"),
        (lambda: manager.display_info(x=3), "ArtifactManager.display_info() has no keyword 'x'"),
        (lambda: JsonCacher(tmp_path / "q.json").save(object=3), "JsonCacher.save() has no keyword 'object'"),
        (lambda: Own(tmp_path / "q.json").check(silnt=True), "Own.check() has no keyword 'silnt'"),
        (lambda: cf.Lazy("x").load(3), "Lazy.load() was given 1 more arguments by position than it takes"),
        (lambda: cf.Record(manager, None, params=3), "Record() was given 'params' by position and by keyword"),
        (lambda: FigureReporter(figg=3), "FigureReporter() was called without 'fig', but with 'figg'"),
    ]:
        with pytest.raises((UnknownKeywordError, WrongTypeError)) as raised:
            call()
        assert str(raised.value).startswith(what)


def test_classes_of_users_stay_as_they_are(tmp_path: Path) -> None:
    class Own(JsonCacher):
        def load(self, fast: bool = False, **others: Any) -> Any:
            return fast, others

    assert vars(Own)["load"].__qualname__.endswith("Own.load")
    assert not hasattr(vars(Own)["load"], "__wrapped__")
    assert Own(tmp_path / "a").load(fast=True, slow=1) == (True, {"slow": 1})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("no_reports", "report"),
        ("no_report", "report"),
        ("no_log", "log"),
        ("no_colour", "no_color"),
        ("no_dags", "no_dag"),
    ],
)
def test_what_is_switched_off(wrong: str, near: str) -> None:
    with pytest.raises(UnknownKeywordError) as raised:
        cf.run_experiment("any", **{wrong: True})
    assert raised.value.fix == f"did you mean {near!r}?"
