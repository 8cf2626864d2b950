"""A misspelt attribute is told with the near name; attributes of a user's own stay possible."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.errors import ConfigurationError, StageAccessError


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
