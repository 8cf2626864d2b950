"""Arguments of a wrong type are errors of ours at once, wherever they are given, and leave nothing behind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curidask as cf
from curidask import hashing
from curidask.caching import JsonCacher, Lazy
from curidask.errors import BoundToSessionError, CuridaskError, ParameterError, StageDefinitionError, WrongTypeError
from curidask.reporting import DFReporter, HTMLReporter

NO_SUCH: Any = "no such thing"


@cf.stage(None, ["v"], [JsonCacher])
def make(record: Any) -> int:
    return 1


@cf.aggregate(["v"], ["all"])
def gather(record: Any, records: Any, v: Any) -> int:
    return len(records)


def with_cacher(manager: cf.ArtifactManager, cacher: Any) -> Any:
    @cf.stage(None, ["q"], [cacher])
    def kept(record: Any) -> int:
        return 1

    return kept(cf.Record(manager, None))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("types", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


Mistake = Callable[[cf.ArtifactManager, cf.Record], Any]
MISTAKES: list[tuple[str, Mistake]] = [
    ("`params` of Record", lambda m, r: cf.Record(m, NO_SUCH)),
    ("`manager` of Record", lambda m, r: cf.Record(NO_SUCH, None)),
    ("`hide` of Record", lambda m, r: cf.Record(m, None, hide=NO_SUCH)),
    ("`params` of Record.make_copy", lambda m, r: r.make_copy(NO_SUCH)),
    ("`param_set` of Procedure.run", lambda m, r: cf.Procedure([make], m).run(NO_SUCH)),
    ("`manager` of Procedure", lambda m, r: cf.Procedure([make], NO_SUCH)),
    ("`stages` of Procedure", lambda m, r: cf.Procedure(3, m)),  # type: ignore[arg-type]
    ("`stages` of Procedure", lambda m, r: cf.Procedure(make, m)),  # type: ignore[arg-type]
    ("`records` of Procedure", lambda m, r: cf.Procedure([gather], m, records=[3])),  # type: ignore[list-item]
    ("`previous_proc` of Procedure", lambda m, r: cf.Procedure([gather], m, previous_proc=NO_SUCH)),
    ("`aggregate_records`", lambda m, r: gather(cf.Record(m, None), ["a"])),
    ("`aggregate_records`", lambda m, r: gather(cf.Record(m, None), r)),
    ("`aggregate_records`", lambda m, r: gather(cf.Record(m, None), 3)),
    ("`aggregate_records`", lambda m, r: r.set_aggregate(NO_SUCH)),
    ("`record` of ArtifactManager.get_artifact_path", lambda m, r: m.get_artifact_path("x", NO_SUCH)),
    ("`record` of ArtifactManager.get_artifact_filename", lambda m, r: m.get_artifact_filename("x", NO_SUCH)),
    ("`subdir` of Record.get_path", lambda m, r: r.get_path("x", subdir=3)),  # type: ignore[arg-type]
    ("`stage_name` of Record.get_dir", lambda m, r: r.get_dir("x", stage_name=3)),  # type: ignore[arg-type]
    ("`experiment_name` of run_experiment", lambda m, r: cf.run_experiment(None)),  # type: ignore[arg-type]
    ("`overwrite_stages` of ArtifactManager", lambda m, r: setattr(m, "overwrite_stages", "make")),
    ("`notes` of ArtifactManager", lambda m, r: setattr(m, "notes", 3)),
    ("A cacher of the stage is 'JsonCacher'", lambda m, r: with_cacher(m, "JsonCacher")),
    ("A cacher of the stage is 3", lambda m, r: with_cacher(m, 3)),
    ("A cacher of the stage is the class dict", lambda m, r: with_cacher(m, dict)),
    ("A cacher of the stage is a value of type object", lambda m, r: with_cacher(m, object())),
    ("`subdir` of JsonCacher", lambda m, r: JsonCacher(subdir=3)),  # type: ignore[arg-type]
    ("`path_override` of JsonCacher", lambda m, r: JsonCacher(3)),  # type: ignore[arg-type]
    ("The record of JsonCacher", lambda m, r: JsonCacher(record="r")),
    ("`suffix` of JsonCacher.get_path", lambda m, r: JsonCacher("x.json").get_path(3)),  # type: ignore[arg-type]
    ("`cache` of ArtifactManager", lambda m, r: cf.ArtifactManager("x", cache=3)),  # type: ignore[arg-type]
    ("`dry` of ArtifactManager", lambda m, r: cf.ArtifactManager("x", dry="yes")),  # type: ignore[arg-type]
    ("`overwrite_stages` of ArtifactManager", lambda m, r: cf.ArtifactManager("x", overwrite_stages="make")),
    ("`name` of Lazy", lambda m, r: Lazy(3)),  # type: ignore[arg-type]
    ("`param_set` of hash_param_set", lambda m, r: hashing.hash_param_set(NO_SUCH)),
    ("`param_set` of get_param_set_hash_values", lambda m, r: hashing.get_param_set_hash_values(3)),
    ("`param_set` of get_param_set_hash_values", lambda m, r: hashing.get_parameter_hash_value(NO_SUCH, "y")),
    ("`float_prec` of DFReporter", lambda m, r: DFReporter({}, float_prec="two")),  # type: ignore[arg-type]
    ("`height` of HTMLReporter", lambda m, r: HTMLReporter("x", height="tall")),  # type: ignore[arg-type]
    ("`module_name` of regex_lister", lambda m, r: cf.experiment.regex_lister(3, "x")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("said", "mistake"), MISTAKES)
def test_an_argument_of_a_wrong_type(manager: cf.ArtifactManager, said: str, mistake: Mistake) -> None:
    record = make(cf.Record(manager, cf.ExperimentParameters("one")))
    with pytest.raises(CuridaskError) as caught:
        mistake(manager, record)
    assert said in caught.value.what
    assert caught.value.fix
    assert gather(cf.Record(manager, None), [record]).output == 1
    manager.save_run()


def test_each_has_the_class_that_one_would_catch(manager: cf.ArtifactManager) -> None:
    with pytest.raises(WrongTypeError) as caught:
        cf.Record("manager", None)  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError)
    with pytest.raises(ParameterError):
        cf.Record(manager, NO_SUCH)
    with pytest.raises(StageDefinitionError):
        cf.Procedure([gather], manager, previous_proc=NO_SUCH)


def test_what_is_as_good_is_taken(tmp_path: Path) -> None:
    with cf.ArtifactManager(
        "types", cache=tmp_path / "cache", dry=0, parallel=np.int64(0), overwrite=np.True_, overwrite_stages=("make",)
    ) as manager:
        records = (make(cf.Record(manager, None, hide=0)) for _ in range(2))  # type: ignore[arg-type]
        assert gather(cf.Record(manager, None), records).output == 2
        assert JsonCacher(tmp_path / "a.json").get_path() == str(tmp_path / "a.json")


def test_a_package_that_is_not_there(in_project: Any) -> None:
    with pytest.warns(UserWarning, match="there is no package 'nomod'"):
        assert cf.experiment.regex_lister("nomod", "x") == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_belongs_to_a_session_says_how_to_copy_it(
    manager: cf.ArtifactManager, copied: Callable[[Any], Any]
) -> None:
    record = make(cf.Record(manager, None))
    for held, fix in (
        (record, "record.make_copy()"),
        (record.state, "dict(record.state)"),
        (manager, "make another one"),
    ):
        with pytest.raises(BoundToSessionError) as caught:
            copied(held)
        assert fix in caught.value.fix
    assert dict(record.state) == dict(record.make_copy().state) == {"v": 1}
