"""The documented names and keywords of sessions, records and procedures, in both generations."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask import cli
from curidask.caching import JsonCacher
from curidask.errors import ConfigurationError, ParameterError, StageDefinitionError, UnknownKeywordError


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a"], [JsonCacher])
def make(record: Any, by: int = 1) -> Any:
    return record.params.x * by


@cf.stage(["a"], ["b"])
def double(record: Any, a: Any) -> Any:
    return 2 * a


@cf.aggregate(["b"], ["sum"])
def total(record: Any, records: Any, b: Any) -> Any:
    return sum(b.values())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cf.ArtifactManager]:
    monkeypatch.chdir(tmp_path)
    with cf.ArtifactManager("names") as made:
        yield made


# --- the package -----------------------------------------------------------------------------------------------------
def test_submodules_are_attributes_that_load_when_touched() -> None:
    code = """
import sys, json
import curidask as cf
before = [name for name in sys.modules if name.startswith("curidask.")]
names = "args caching experiment hashing manager params procedure record reporting staging utils".split()
print(json.dumps([before, [getattr(cf, name).__name__ for name in names], cf.caching.JsonCacher.__name__]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, names, cacher = json.loads(done.stdout)
    assert before == []
    assert names[:3] == ["curidask.args", "curidask.caching", "curidask.experiment"]
    assert cacher == "JsonCacher"


def test_errors_of_stages_and_set_hash_functions_stand_at_the_top() -> None:
    for name in ("CachersMismatch", "EmptyCachers", "ExecutingWithSkippedInput", "InputSignature", "OutputSignature"):
        assert getattr(cf, f"{name}Error") is getattr(cf.staging, f"{name}Error")
    assert cf.set_hash_functions is cf.hashing.set_hash_functions is cf.params.set_hash_functions
    with pytest.raises(AttributeError, match="no attribute 'recrod'"):
        _ = cf.recrod  # type: ignore[attr-defined]


# --- records ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["params", "param_set", "args"])
def test_a_record_takes_its_set_under_each_name(manager: cf.ArtifactManager, name: str) -> None:
    params = Params("a", x=3)
    record = cf.Record(manager=manager, **{name: params})
    assert record.params is record.args is params
    other = Params("b", x=4)
    assert make(record).make_copy(**{name: other}).params is other


@pytest.mark.parametrize(
    "call",
    [
        lambda manager, record: cf.Record(manager, parms=None),
        lambda manager, record: record.make_copy(parm_set=None),
        lambda manager, record: record.get_path("a", subdirr="b"),
        lambda manager, record: record.get_dir("a", trak=False),
        lambda manager, record: cf.Procedure([make], manger=manager),
        lambda manager, record: cf.Procedure([make], manager).run(None, recrod=record),
        lambda manager, record: cf.ArtifactManager("a", cache_pth="x"),
        lambda manager, record: cf.stage(outputs=["a"], casher=[JsonCacher]),
        lambda manager, record: cf.aggregate(output=["a"]),
        lambda manager, record: make(record, bye=2),
        lambda manager, record: manager.get_run_output_path(obj_nam="x"),
        lambda manager, record: record.params.params_hash(dri=True),
    ],
)
def test_typos_are_errors_with_the_near_name(manager: cf.ArtifactManager, call: Any) -> None:
    record = cf.Record(manager, Params())
    with pytest.raises(TypeError, match="has no keyword") as caught:
        call(manager, record)
    assert isinstance(caught.value, UnknownKeywordError)
    assert caught.value.fix.startswith("did you mean")
    assert record.stages == []


def test_what_a_record_tells_of_its_place_and_its_stages(manager: cf.ArtifactManager) -> None:
    record = double(make(cf.Record(manager, Params("a", x=2)), by=3))
    hidden = cf.Record(manager, Params("h"), hide=True)
    gathered = total(cf.Record(manager, None), [record])
    assert [each.get_record_index() for each in (record, hidden, gathered)] == [0, -1, 1]
    assert record.get_record_index(map=True) == 0
    assert record.get_reference_name(map=True) == record.get_reference_name() == "Record 0 (a)"
    assert record.stage_kwargs_keys == [["by"], []]
    assert record.stage_inputs_names == [[], ["a"]]
    assert gathered.stage_inputs_names == [["b"]]
    assert record.stage_suppress_missing == [False, False]
    optional = cf.stage(["nothing"], ["c"], suppress_missing_inputs=True)(lambda record, nothing: nothing)
    assert optional(record).stage_suppress_missing == [False, False, True]
    assert record.stage_cachers is None


# --- procedures ------------------------------------------------------------------------------------------------------
def test_a_procedure_made_before_the_manager_uses_the_one_of_each_run(tmp_path: Path) -> None:
    procedure = cf.Procedure([make, double])
    for name in ("one", "two"):
        with cf.ArtifactManager(name, cache=str(tmp_path / "cache")) as manager:
            record = procedure.run(Params("a", x=3), manager=manager)
            assert record.manager is manager
            assert record.output == 6
            assert manager.records == [record]


def test_a_procedure_gathers_the_records_it_is_given(manager: cf.ArtifactManager) -> None:
    first = cf.Procedure([make, double], manager=manager)
    records = [first.run(args=Params(str(x), x=x)) for x in (1, 2, 3)]
    gathering = cf.Procedure([total], manager)
    assert gathering.run(None, records=records[:2], hide=True).output == 6
    assert gathering.run(None).output == 12
    assert cf.Procedure([total], manager, previous_proc=first).run(None, records=records[:1]).output == 2
    with pytest.raises(StageDefinitionError, match="no aggregate"):
        first.run(Params(), records=records)


def test_a_procedure_knows_its_last_record_and_lists_those_it_made(manager: cf.ArtifactManager) -> None:
    first, second = cf.Procedure([make], manager), cf.Procedure([double], manager)
    assert first.record is None
    made = first.run(Params("a", x=4))
    assert (first.record, first.records) == (made, [made])
    assert second.run(None, record=made).output == 8
    assert (second.record, second.records) == (made, [])
    other = first.run(Params("b", x=5), hide=True)
    assert (first.record, first.records) == (other, [made, other])
    assert cf.Procedure([total], manager, records=[made]).use_records == [made]


def test_a_procedure_goes_on_with_a_record_only_under_its_manager(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    record = cf.Record(manager, Params(x=5))
    assert cf.Procedure([make, double]).run(None, record=record).output == 10
    with (
        cf.ArtifactManager("other", cache=str(tmp_path / "other")) as other,
        pytest.raises(StageDefinitionError, match="another manager"),
    ):
        cf.Procedure([make]).run(None, record=record, manager=other)


def test_a_procedure_without_manager_makes_one_live_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    procedure = cf.Procedure([make], name="alone")
    record = procedure.run(Params("a", x=7))
    assert (record.output, record.manager.experiment_name, record.manager.live) == (7, "alone", True)
    assert procedure.run(Params("b", x=8)).manager is record.manager
    record.manager.close()


EXPERIMENT = """
import curidask as cf
from curidask.caching import JsonCacher

@cf.stage(None, ["a"], [JsonCacher])
def make(record):
    with open("ran", "a") as file:
        file.write("x")
    return 1

procedure = cf.Procedure([make])

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    return [procedure.run(params).manager is manager for params in param_sets]
"""


@pytest.mark.parametrize(("how", "runs"), [({"map_only": True}, 0), ({"dry": True}, 1), ({}, 1)])
def test_inside_an_experiment_a_procedure_without_manager_uses_its_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], runs: int
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "proc.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    result = cf.run_experiment("proc", parallel=0, mngr=True, report=False, log=False, **how)
    assert result.value == [True]
    assert cf.ArtifactManager.running() is None
    assert (len((tmp_path / "ran").read_text()) if runs else (tmp_path / "ran").exists()) == runs


# --- managers --------------------------------------------------------------------------------------------------------
def test_a_manager_takes_its_places_as_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / "own" / name for name in ("cache", "runs", "logs", "reports", "notebooks")}
    manager = cf.ArtifactManager(
        "places", report_css_path="own.css", **{f"{name}_path": path for name, path in places.items()}
    )
    with manager:
        assert make(cf.Record(manager, Params())).output == 1
        for name, path in places.items():
            assert getattr(manager, f"{name}_path") == str(path)
        assert manager.report_css_path == str(tmp_path / "own.css")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["own"]
    assert (tmp_path / "own" / "runs" / manager.reference / "run.json").is_file()
    assert any(name.endswith(".json") for name in map(str, (tmp_path / "own" / "cache").iterdir()))


def test_what_a_manager_tells_of_its_run(manager: cf.ArtifactManager) -> None:
    assert manager.get_reference_name() == manager.reference
    assert manager.reference == f"names_{manager.experiment_run_number}_{manager.get_str_timestamp()}"
    assert manager.get_run_output_path() == f"{manager.runs_path}/{manager.reference}"
    assert Path(manager.get_run_output_path("deep/file.txt")).parent.is_dir()
    params = Params("a", x=2)
    record = cf.Record(manager, params)
    assert manager.get_artifact_filename("f.csv", record, stage_name="s") == f"names_{record.get_hash()}_s_f.csv"
    cf.Record(manager, Params("b", x=2))
    cf.Record(manager, None)
    assert manager.get_all_param_sets() == [params]
    assert (manager.git_commit_hash, manager.git_workdir_dirty, manager.status) == ("", False, "LIVE")
    with cf.ArtifactManager() as unnamed:
        assert unnamed.experiment_name == "session"


def test_what_a_manager_tells_of_machine_command_and_status(
    manager: cf.ArtifactManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manager.os == platform.platform()
    assert any(line.startswith("click==") for line in manager.pip_freeze.splitlines())
    assert (manager.error_thrown, manager.reproduction_line) == (False, "")
    unused = {"parallel_lock": threading.Lock(), "manager_cache_path": "data/", "status_override": None}
    with cf.ArtifactManager("names", run_line="experiment names -n 'a b'", **unused) as other:
        assert other.run_line == "experiment names -n 'a b'"
        make(cf.Record(other, Params()))
    assert json.loads((other.run_folder / "run.json").read_text())["command"] == ["experiment", "names", "-n", "a b"]

    @cf.stage(None, ["z"])
    def fail(record: Any) -> Any:
        raise KeyError("z")

    with pytest.raises(KeyError):
        fail(cf.Record(manager, Params()))
    assert (manager.error_thrown, manager.status) == (True, "LIVE")


@pytest.mark.parametrize("name", ["dry", "dry_cache", "prefix", "experiment_name"])
def test_what_is_decided_with_the_manager_cannot_be_set_later(manager: cf.ArtifactManager, name: str) -> None:
    before = getattr(manager, name)
    with pytest.raises(ConfigurationError, match=name) as caught:
        setattr(manager, name, "x")
    assert f"{name}='x'" in caught.value.fix
    assert getattr(manager, name) == before


def test_the_status_of_an_experiment_in_documented_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    for error in (None, ValueError, KeyboardInterrupt):
        with contextlib.suppress(ValueError, KeyboardInterrupt), cf.ArtifactManager("e", live=False) as manager:
            double(make(cf.Record(manager, Params())))
            manager.finish()
            seen.append(manager.status)
            if error is not None:
                raise error
        seen.append(manager.status)
    assert seen == ["incomplete", "complete", "incomplete", "error", "incomplete", "incomplete"]


def test_an_experiment_can_leave_out_what_it_does_with_values_where_only_the_plan_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    reading = "    return None if manager.map_mode else procedure.run(param_sets[0]).output\n"
    (tmp_path / "experiments" / "reads.py").write_text(EXPERIMENT.rpartition("    return")[0] + reading)
    monkeypatch.chdir(tmp_path)
    how: dict[str, Any] = {"parallel": 0, "report": False, "log": False, "quiet": True}
    assert cf.run_experiment("reads", map_only=True, **how).stopped_at == ""
    assert cf.run_experiment("reads", **how) == 1


def test_outputs_can_be_made_lazy_in_a_live_session(manager: cf.ArtifactManager) -> None:
    assert (manager.lazy, manager.ignore_lazy) == (False, False)

    def kinds(record: cf.Record) -> list[bool]:
        return [manager.graph[task].outputs[0].lazy for task in record.tasks]

    large = cf.stage(None, [cf.Lazy("large")], [JsonCacher])(lambda record: 1)
    assert kinds(make(large(cf.Record(manager, Params(x=1))))) == [True, False]
    manager.lazy = True
    assert (manager.lazy, manager.ignore_lazy) == (True, False)
    assert kinds(make(large(cf.Record(manager, Params(x=2))))) == [True, True]
    manager.ignore_lazy = True
    assert (manager.lazy, manager.ignore_lazy) == (False, True)
    assert kinds(make(large(cf.Record(manager, Params(x=3))))) == [False, False]
    manager.ignore_lazy = False
    assert kinds(make(large(cf.Record(manager, Params(x=4))))) == [True, False]


def test_notes_and_a_full_store_of_a_live_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cf.ArtifactManager("full", store_full=True, notes=" title\n\nmore \n") as manager:
        assert manager.store_full
        assert manager.notes == "title\n\nmore"
        make(cf.Record(manager, Params(x=9)))
    folder = Path(manager.get_run_output_path())
    assert json.loads((folder / "run.json").read_text())["notes"] == "title\n\nmore"
    assert (folder / "requirements.txt").is_file()
    with cf.ArtifactManager("full", cache=str(folder), dry_cache=True) as again:
        record = make(cf.Record(again, Params(x=9)))
        assert record.output == 9
        assert not again.graph.tasks[0].force
        assert [d.action.value for d in again.plan().decisions.values()] == ["reuse"]


def test_overwrite_can_be_set_on_a_live_session(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    @cf.stage(None, ["n"], [JsonCacher])
    def count(record: Any) -> int:
        with calls.open("a") as file:
            file.write("x")
        return len(calls.read_text())

    assert count(cf.Record(manager, Params())).output == 1
    assert count(cf.Record(manager, Params())).output == 1
    with cf.ArtifactManager("names") as second:
        second.overwrite = True
        assert count(cf.Record(second, Params())).output == 2
        second.overwrite = False
    with cf.ArtifactManager("names") as third:
        third.overwrite_stages = ["count"]
        assert third.overwrite_stages == ["count"]
        assert count(cf.Record(third, Params())).output == 3


@pytest.mark.parametrize(
    ("how", "logged"),
    [
        ({}, ["told"]),
        ({"suppress_live_log": True}, []),
        ({"live_log_debug": True}, ["told", "detail"]),
        ({"disable_non_cf_loggers": False}, ["told", "other"]),
    ],
)
def test_the_log_of_a_live_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], logged: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    @cf.stage(None, ["a"])
    def talk(record: Any) -> int:
        import logging

        record.logger.info("told")
        record.logger.debug("detail")
        logging.getLogger("somebody.else").info("other")
        return 1

    with cf.ArtifactManager("log", parallel=0, **how) as manager:
        assert talk(cf.Record(manager, None)).output == 1
    files = list((tmp_path / "logs").glob("*.log")) if (tmp_path / "logs").exists() else []
    text = "".join(file.read_text() for file in files)
    assert [word for word in ("told", "detail", "other") if word in text] == logged


# --- the command line, hashing ---------------------------------------------------------------------------------------
def test_a_script_may_run_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "proc.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["debug.py", "proc", "--parallel", "0", "--no-report", "--no-log"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    assert (tmp_path / "ran").read_text() == "x"


def test_the_hash_of_a_set_by_its_function(tmp_path: Path) -> None:
    params = Params("a", x=2)
    hash_param_set = cf.hashing.hash_param_set
    assert hash_param_set(params, True) == hash_param_set(params, registry_path="data") == params.params_hash()
    assert hash_param_set(params, False, None, True) == cf.hashing.get_param_set_hash_values(param_set=params)
    with pytest.raises(ParameterError, match="by hand") as caught:
        hash_param_set(params, store_in_registry=True, registry_path=str(tmp_path))
    assert "--print-params" in caught.value.fix
    assert list(tmp_path.iterdir()) == []
