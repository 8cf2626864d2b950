"""A misspelt attribute is told with the near name; attributes of a user's own stay possible."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import curidask as cf
from curidask.errors import (
    ConfigurationError,
    ModuleNotThereError,
    ReportableError,
    StageAccessError,
    UnknownKeywordError,
    WrongTypeError,
)
from tests.conftest import Project


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("near", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda manager: manager.cach_path, "'ArtifactManager' object has no attribute 'cach_path'; .* 'cache_path'?"),
        (lambda manager: cf.Record(manager, None).stat, "'Record' object has .* 'stat'; did you mean 'state'?"),
        (lambda manager: cf.Procedur, "module 'curidask' has no attribute 'Procedur'; did you mean 'Procedure'?"),
        (lambda manager: cf.cacheing, "module 'curidask' has .* did you mean 'caching'?"),
        (lambda manager: cf.caching.JSONCacher, "module 'curidask.caching' has .* did you mean 'JsonCacher'?"),
        (lambda manager: cf.caching.PandasCSvCacher, "did you mean 'PandasC[Ss][Vv]Cacher'?"),
        (lambda manager: cf.reporting.LinePlotReport, "module 'curidask.reporting' has .* 'LinePlotReporter'?"),
    ],
)  # fmt: skip
def test_a_misspelt_one_that_is_read(manager: cf.ArtifactManager, read: Any, said: str) -> None:
    with pytest.raises(AttributeError, match=said.replace("?", r"\?")):
        read(manager)


def test_one_that_is_like_none(manager: cf.ArtifactManager) -> None:
    for owner in (manager, cf.Record(manager, None), cf, cf.caching, cf.reporting):
        assert not hasattr(owner, "zzzzzz")
        with pytest.raises(AttributeError, match=r"no attribute '_repr_png_'$"):
            owner._repr_png_  # noqa: B018


def test_a_misspelt_one_that_is_set_is_told_of(manager: cf.ArtifactManager) -> None:
    record = cf.Record(manager, None)
    for owner, name, near in [
        (manager, "overwrit", "overwrite"),
        (manager, "overwrite_stage", "overwrite_stages"),
        (manager, "note", "notes"),
        (record, "paramss", "params"),
    ]:
        with pytest.warns(UserWarning, match=f"has no attribute '{name}', .* did you mean '{near}'") as told:
            setattr(owner, name, 1)
        assert told[0].filename == __file__
        assert getattr(owner, name) == 1


def test_those_of_a_users_own(manager: cf.ArtifactManager) -> None:
    class Own(cf.Record):
        def __init__(self, manager: cf.ArtifactManager) -> None:
            self.stat = 1
            super().__init__(manager, None)
            self.model = 2

        @property
        def broken(self) -> Any:
            return self.modle

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = Own(manager)
        own.model = own.fold = manager.figures = manager.figures = own.stat
        manager.overwrite = True
        own.params = None
    assert (own.model, own.fold, manager.figures) == (1, 1, 1)
    with pytest.raises(AttributeError, match="'modle'; did you mean 'model'"):
        own.broken  # noqa: B018
    with pytest.raises(ConfigurationError, match="'dry' cannot be changed"):
        manager.dry = True


def test_in_a_stage(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["said"])
    def ask(record: Any) -> Any:
        said = []
        for read in (lambda: record.stat, lambda: record.manager.cach_path, lambda: record.manager.records):
            with pytest.raises(StageAccessError) as raised:
                read()
            said.append(str(raised.value))
        return said

    state, path, records = ask(cf.Record(manager, None)).output
    assert "did you mean 'state'?" in state
    assert "did you mean 'cache_path'?" in path
    assert "a stage may run on another machine" in records


def test_a_word_of_a_name_counts(manager: cf.ArtifactManager) -> None:
    record = cf.Record(manager, None)
    with pytest.raises(UnknownKeywordError, match=r"'stge'(?s:.*)did you mean 'stage_name'"):
        manager.get_artifact_path("x", record, stge="x")  # type: ignore[call-arg]
    with pytest.raises(UnknownKeywordError, match=r"'subdirr'(?s:.*)did you mean 'subdir'"):
        record.get_path("x", subdirr="x")  # type: ignore[call-arg]


def test_calls_with_another_number_of_arguments(manager: cf.ArtifactManager) -> None:
    record = cf.Record(manager, None)
    with pytest.raises(WrongTypeError, match=r"^ArtifactManager.display_record_reportables\(\) .* without 'record'"):
        manager.display_record_reportables()  # type: ignore[call-arg]
    with pytest.raises(WrongTypeError, match=r"^Record\(\) was called without 'manager'"):
        cf.Record(params=None)  # type: ignore[call-arg]
    with pytest.raises(WrongTypeError, match=r"^Record.get_reference_name\(\) was given 1 more arg"):
        record.get_reference_name(True, 1)  # type: ignore[call-arg]


def test_what_an_attribute_is_set_to(manager: cf.ArtifactManager) -> None:
    with pytest.raises(WrongTypeError, match=r"^`overwrite_stages` of ArtifactManager is 'x' \(str\), not a list"):
        manager.overwrite_stages = "x"  # type: ignore[assignment]


def test_what_is_reported_is_not_in_the_message(manager: cf.ArtifactManager) -> None:
    with pytest.raises(ReportableError, match=r"was given a value of type DataFrame, which is no reportable"):
        cf.Record(manager, None).report(pd.DataFrame({"a": [1]}))


def test_a_module_that_is_named_as_it_is_imported(in_project: Project) -> None:
    in_project.write("params/f1.py", "")
    in_project.write("experiments/demo.py", "def run(param_sets, manager): ...")
    with pytest.raises(ModuleNotThereError, match=r"'params.f1'(?s:.*)did you mean f1\?"):
        cf.run_experiment("demo", ["params.f1"])
