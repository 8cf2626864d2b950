"""What a stage's record can do: its cachers, the stages before it and their files, what is known of the session."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import Cacheable, FileReferenceCacher, JsonCacher, Lazy, PathRef, PickleCacher
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.errors import (
    ArtifactMissingError,
    CacheError,
    CuridaskError,
    StageAccessError,
    UndeclaredInputError,
    UnknownKeywordError,
)
from curidask.reporting import JsonReporter
from curidask.runs.record import RunRecord
from curidask.session.config import Config

Session = Callable[..., cf.ArtifactManager]


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    """Two workers that all sessions of this file share."""
    with local(2) as connection:
        yield connection


@pytest.fixture(params=["folder", "memory", "workers"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """Starts a live session on one cache; each is as good as a process of its own."""
    url = f"memory://{os.urandom(8).hex()}/cache" if request.param == "memory" else str(tmp_path / "cache")
    opened = []

    def start(**options: Any) -> cf.ArtifactManager:
        if request.param == "workers":
            options["cluster"] = request.getfixturevalue("workers").client
        manager = cf.ArtifactManager("paths", cache=url, config=Config(tmp_path), **options)
        manager.store.near = tmp_path / f"near_{len(opened)}"  # type: ignore[attr-defined]  # of a store of one tier
        opened.append(manager)
        return manager

    yield start
    for manager in opened:
        manager.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Session]:
    """The same in this process with a folder, where the place makes no difference."""
    opened = []

    def start(**options: Any) -> cf.ArtifactManager:
        opened.append(cf.ArtifactManager("paths", cache=str(tmp_path / "cache"), config=Config(tmp_path), **options))
        return opened[-1]

    yield start
    for manager in opened:
        manager.close()


def note(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def count(path: Path) -> int:
    return path.stat().st_size


def written(record: Any, name: str, text: str, **options: Any) -> str:
    path = record.get_path(name, **options)
    Path(path).write_text(text)
    return str(path)


# --- cachers ---------------------------------------------------------------------------------------------------------
def test_the_cachers_of_the_outputs_are_bound_before_the_call(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["one", "two", "three"], [JsonCacher, PickleCacher(extension=".bin"), None])
    def make(record: Any) -> Any:
        one, two, three = record.stage_cachers
        Path(one.get_path()).write_text("by the stage")
        Path(two.get_path()).write_text("by the stage")
        two.extra_metadata["by"] = "stage"
        names = [os.path.basename(path) for path in (one.get_path(), two.get_path(), one.get_path("_more"))]
        return names, (one.name, one.stage, one.params.x, two.record is record), three

    for _ in ("cold", "warm"):
        manager = session()
        state = make(cf.Record(manager, Params())).state
        stems = manager.graph[0].stems
        assert state["one"] == [f"{stems[0]}.json", f"{stems[1]}.bin", f"{stems[0]}_more"]
        assert state["two"] == ("one", "make", 1, True)
        manifest = manager.store.manifest(stems[1] or "")
        assert manifest is not None
        assert manifest.extra_metadata == {"by": "stage"}


def test_without_cachers_there_are_none(session: Session) -> None:
    @cf.stage(None, ["one"])
    def make(record: Any) -> Any:
        return record.stage_cachers

    @cf.stage()
    def end(record: Any) -> None:
        assert record.stage_cachers is None

    assert end(make(cf.Record(session(), None))).state["one"] is None


def test_an_aggregate_and_a_dry_run_have_cachers_too(session: Session) -> None:
    @cf.aggregate(None, ["all"], [JsonCacher])
    def gather(record: Any, records: Any) -> Any:
        Path(record.stage_cachers[0].get_path()).write_text("by the stage")
        return 1

    for options in ({}, {"dry": True}):
        assert gather(cf.Record(session(**options), None), []).state["all"] == 1


def test_a_path_ref_says_which_path_it_expects(session: Session, tmp_path: Path) -> None:
    template = str(tmp_path / "out" / "{x}_{stage}.txt")

    @cf.stage(None, ["own", "named", "fixed"], [PathRef, PathRef(extension=".txt"), PathRef(template)])
    def make(record: Any) -> Any:
        note(tmp_path / "calls")
        own, named, fixed = (Path(cacher.get_path()) for cacher in record.stage_cachers)
        assert str(own) == record.get_path("own")
        assert str(named) == record.get_path("named.txt")
        assert fixed == tmp_path / "out" / "3_make.txt"
        fixed.parent.mkdir(exist_ok=True)
        own.mkdir()
        (own / "part").write_text("own")
        named.write_text("named")
        fixed.write_text("fixed")
        return own, str(named), str(fixed)

    @cf.stage(["own", "named", "fixed"], ["read"])
    def read(record: Any, own: Any, named: Any, fixed: Any) -> Any:
        return [(own / "part").read_text(), Path(named).read_text(), Path(fixed).read_text()]

    for _ in ("cold", "warm"):
        with session() as manager:
            record = read(make(cf.Record(manager, Params(x=3))))
            assert record.state["read"] == ["own", "named", "fixed"]
            record.state.resolve = False
            for name in ("own", "named", "fixed"):
                lazy = record.state[name]
                assert lazy.cacher.get_path() == str(lazy.load())
                assert os.path.exists(lazy.cacher.get_path())
    assert count(tmp_path / "calls") == 1


def test_a_path_ref_to_whose_path_nothing_was_written(here: Session) -> None:
    @cf.stage(None, ["path"], [PathRef])
    def make(record: Any) -> Any:
        return record.stage_cachers[0].get_path()

    with pytest.raises(CacheError, match="nothing at the path"):
        make(cf.Record(here(), None))


# --- the record of a cacher -------------------------------------------------------------------------------------------
class Beside(Cacheable):
    """Keeps a file and a folder beside its own, and notes what its record says."""

    extension = ".txt"

    def facts(self) -> list[Any]:
        record = self.record
        return [
            (record.params.x, record.args.x, record.name, record.get_hash(), record.get_reference_name()),
            (record.stages, record.is_aggregate, record.combo_hash, record.manager.experiment_name),
            (record.manager.get_reference_name() != "", record.manager.cache_path, self.stage, self.name),
            [other.get_reference_name() for other in record.input_records] if not record.is_aggregate else None,
        ]

    def save(self, obj: Any) -> None:
        Path(self.record.get_path(f"{self.name}.side", subdir="below")).write_text(f"{obj} beside")
        Path(self.record.get_path("big_" + f"{self.name}.side")).write_text("another")
        Path(self.record.get_dir(f"{self.name}.d"), "inside").write_text("in a folder")
        Path(self.get_path()).write_text(json.dumps([obj, self.facts()]))

    def load(self) -> Any:
        text, facts = json.loads(Path(self.get_path()).read_text())
        beside = Path(self.record.get_path(f"{self.name}.side", subdir="below")).read_text()
        named = Path(self.record.get_path(f"{self.name}.side", subdir="below", stage_name=self.stage)).read_text()
        inside = Path(self.record.get_dir(f"{self.name}.d"), "inside").read_text()
        same = json.loads(json.dumps(self.facts())) == facts
        with pytest.raises(CacheError, match="wrote no file 'new'"):
            self.record.get_path("new")
        with pytest.raises(StageAccessError, match="cannot use 'report' of its record"):
            self.record.report(None)
        return [text, beside, named, inside, same, len(pickle.loads(pickle.dumps(self.record)).stages)]


class ReadsEarlier(JsonCacher):
    def load(self) -> Any:
        return [super().load(), Path(self.record.get_path("a.side", subdir="below", stage_name="make")).read_text()]


def test_a_cacher_that_loads_has_a_record(session: Session) -> None:
    @cf.stage(None, ["a", Lazy("b")], [Beside, Beside])
    def make(record: Any) -> Any:
        return "A", "B"

    @cf.stage(["a", "b"], ["c"], [ReadsEarlier])
    def use(record: Any, a: Any, b: Any) -> Any:
        return [a, b]

    @cf.aggregate(["c"], ["d"], [Beside])
    def gather(record: Any, records: Any, c: Any) -> Any:
        return "D"

    def loaded(name: str, stages: int) -> list[Any]:
        return [name, f"{name} beside", f"{name} beside", "in a folder", True, stages]

    for _ in range(2):
        manager = session()
        record = use(make(cf.Record(manager, Params("p"))))
        assert record.state["a"] == loaded("A", 1)
        assert record.state["b"] == loaded("B", 1)
        assert record.state["c"] == [[loaded("A", 1), loaded("B", 1)], "A beside"]
        assert gather(cf.Record(manager, Params("all")), [record]).output == loaded("D", 1)


# --- the record ------------------------------------------------------------------------------------------------------
def test_the_stages_a_record_went_through(session: Session) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        return record.stages

    @cf.stage(["a"], ["b"])
    def second(record: Any, a: Any) -> Any:
        return record.stages

    @cf.aggregate(["b"], ["c"])
    def gather(record: Any, records: Any, b: Any) -> Any:
        return [record.stages, *(r.stages for r in records)]

    @cf.stage(["c"], ["d"])
    def after(record: Any, c: Any) -> Any:
        return record.stages

    manager = session()
    records = [second(first(cf.Record(manager, Params(x=x)))) for x in (1, 2)]
    assert records[0].state == {"a": ["first"], "b": ["first", "second"]}
    final = after(gather(cf.Record(manager, None), records))
    assert final.state["c"] == [["gather"], ["first", "second"], ["first", "second"]]
    assert final.state["d"] == ["gather", "after"] == final.stages


def test_the_records_that_went_into_one(session: Session) -> None:
    def facts(records: Any) -> Any:
        return [(r.params.x, r.name, r.get_hash(), r.get_reference_name(), r.stages) for r in records]

    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        return len(record.input_records)

    @cf.aggregate(["a"], ["b"])
    def gather(record: Any, records: Any, a: Any) -> Any:
        assert [one is other for one, other in zip(records, record.input_records, strict=True)] == [True, True]
        with pytest.raises(CuridaskError, match="not those before them"):
            _ = records[0].input_records
        return facts(record.input_records), [r.state["a"] for r in record.input_records]

    @cf.stage(["b"], ["c"])
    def after(record: Any, b: Any) -> Any:
        with pytest.raises(UndeclaredInputError):
            _ = record.input_records[0].state["a"]
        return facts(record.input_records)

    @cf.stage(None, ["d"])
    def copied(record: Any) -> Any:
        return facts(record.input_records)

    manager = session()
    records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2)]
    expected = [(x, f"p{x}", r.get_hash(), f"Record {x - 1} (p{x})", ["make"]) for x, r in enumerate(records, 1)]
    final = after(gather(cf.Record(manager, None), records))
    assert final.state["b"] == (expected, [0, 0])
    assert final.state["c"] == expected
    assert copied(records[1].make_copy(Params("other", x=7))).state["d"] == expected[1:]


def test_what_is_reported_on_a_record_that_went_in(session: Session) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return 1

    @cf.aggregate(["a"], ["b"], [JsonCacher])
    def gather(record: Any, records: Any, a: Any) -> Any:
        for each in records:
            each.report(JsonReporter([each.name], name=f"on {each.name}"))
        record.report(JsonReporter([1]))
        return len(records)

    @cf.stage(None, ["c"], [JsonCacher])
    def copied(record: Any) -> Any:
        record.input_records[0].report(JsonReporter([2], name="of the copied"))
        return 1

    def reported(manager: cf.ArtifactManager) -> Any:
        records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2)]
        gathered = gather(cf.Record(manager, None), records)
        copied(records[1].make_copy(Params("other", x=7)))
        manager.finish()
        shown = [str(manager.display_record_reportables(each)).count("on p") for each in (*records, gathered)]
        return shown, {(each.qualified_name, each.record.name, each.stage) for each in manager.reportables}

    expected = (
        [1, 1, 0],
        {
            ("p1_make_on p1", "p1", "make"),
            ("p2_make_on p2", "p2", "make"),
            ("(Aggregate)_gather_2", "None", "gather"),
            ("p2_make_of the copied", "p2", "make"),
        },
    )
    assert reported(session()) == expected
    assert reported(session()) == expected  # of stages that are reused


def test_what_displays_show_of_the_inputs(session: Session) -> None:
    @cf.stage(None, ["held", "stored"], [None, JsonCacher])
    def make(record: Any) -> Any:
        return [1, 2, 3], {"a": 1}

    def texts(record: Any) -> Any:
        return {name: (str(rep), rep.cacher, bool(rep.file)) for name, rep in record.state_artifact_reps.items()}

    @cf.stage(["held", "stored", "by_hand"], ["seen"])
    def use(record: Any, held: Any, stored: Any, by_hand: Any) -> Any:
        return texts(record)

    @cf.aggregate(["stored"], ["all"])
    def gather(record: Any, records: Any, stored: Any) -> Any:
        return texts(record), [texts(r) for r in records]

    manager = session()
    record = make(cf.Record(manager, None))
    record.state["by_hand"] = 5
    stored = ("stored: dict of length 1", "JsonCacher", True)
    expected = {"held": ("held: list of length 3", "", False), "stored": stored, "by_hand": ("by_hand: 5", "", False)}
    assert use(record).state["seen"] == expected
    assert gather(cf.Record(manager, None), [record]).state["all"] == ({}, [{"stored": stored}])


def test_what_a_stage_knows_of_the_session(session: Session, tmp_path: Path) -> None:
    names = ("experiment_name", "prefix", "reference", "cache_path", "runs_path", "dry", "dry_cache", "store_full")

    @cf.stage(None, ["facts"])
    def make(record: Any) -> Any:
        manager = record.manager
        assert manager.get_reference_name() == manager.reference
        return [getattr(manager, name) for name in names], manager.run_timestamp

    for options in ({}, {"prefix": "other", "dry": True}, {"dry_cache": True}):
        manager = session(**options)
        facts, started = make(cf.Record(manager, None)).state["facts"]
        assert dict(zip(names, facts, strict=True)) == {
            "experiment_name": "paths",
            "prefix": manager.prefix,
            "reference": manager.reference,
            "cache_path": manager.store.url,
            "runs_path": str(tmp_path / "data" / "runs"),
            "dry": "dry" in options,
            "dry_cache": bool(options),
            "store_full": False,
        }
        assert started.timestamp() == pytest.approx(manager.run_record.started)
    assert isinstance(manager.run_record, RunRecord)


def test_a_stage_knows_of_the_session_what_run_knows(session: Session) -> None:
    options = ["lazy", "ignore_lazy", "overwrite", "map_mode"]
    places = ["logs_path", "reports_path", "notebooks_path"]
    names = [*options, *places, "experiment_run_number", "run_line", "notes", "hostname", "git_commit_hash"]

    def known(manager: Any, record: Any) -> Any:
        facts = {name: getattr(manager, name) for name in names}
        facts["overwrite_stages"] = list(manager.overwrite_stages)
        facts["timestamp"] = manager.get_str_timestamp()
        facts["folder"] = [manager.get_run_output_path(), manager.get_run_output_path("below/it.txt")]
        facts["file"] = manager.get_artifact_filename("f.txt", record, stage_name="make")
        facts["files"] = [manager.get_artifact_filename("f.txt", record, "own")]
        return facts, record.get_record_index(), record.get_reference_name(map=True)

    @cf.stage(None, ["facts"])
    def make(record: Any) -> Any:
        path = record.manager.get_artifact_path("f.txt", record, subdir="below")
        assert path == record.get_path("f.txt", subdir="below")
        Path(path).write_text("written")
        Path(record.manager.get_run_output_path("below/it.txt")).write_text("there")
        return known(record.manager, record)

    manager = session(overwrite_stages=["make", "other"], notes="some notes", ignore_lazy=True)
    manager.overwrite = True
    record = make(cf.Record(manager, Params()))
    assert record.state["facts"] == known(manager, record)
    assert Path(manager.get_artifact_path("f.txt", record, subdir="below")).read_text() == "written"
    manager.overwrite_stages = None


def test_what_does_not_travel_is_an_error_that_says_so(here: Session) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        for ask in (lambda: record.manager.records, lambda: record.manager.store, lambda: record.output):
            with pytest.raises(StageAccessError, match="has no") as caught:
                ask()
            assert "another machine" in caught.value.fix
            assert pickle.loads(pickle.dumps(caught.value)).fix == caught.value.fix
        assert not hasattr(record, "make_copy")
        assert not hasattr(record.manager, "graph")
        with pytest.raises(AttributeError):
            record.manager.dry = True
        assert copy.copy(record).params is record.params
        with pytest.raises(UnknownKeywordError, match="subdir"):
            record.get_path("a", subdr="x")
        return 1

    assert make(cf.Record(here(), None)).state["a"] == 1


# --- files of earlier stages -----------------------------------------------------------------------------------------
def test_a_file_of_an_earlier_stage_of_the_record(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        note(tmp_path / "first")
        written(record, "m.ckpt", f"first {record.params.x}")
        written(record, "deep.txt", "deep", subdir="some/where", prefix="p", stage_name="first", track=False)
        (Path(record.get_dir("parts")) / "one").write_text("1")
        return 1

    @cf.stage(["a"], ["b"])
    def second(record: Any, a: Any) -> Any:
        written(record, "m.ckpt", "second")
        return 2

    @cf.stage(["b"], ["c"], [JsonCacher])
    def third(record: Any, b: Any) -> Any:
        assert record.get_path("m.ckpt", stage_name="third") == record.get_path("m.ckpt")
        own = record.get_path("new.txt", stage_name="first")
        assert os.path.dirname(own) == os.path.dirname(record.get_path("x"))
        return [
            Path(record.get_path("m.ckpt", stage_name="first")).read_text(),
            Path(record.get_path("m.ckpt", stage_name="second")).read_text(),
            Path(record.get_path("deep.txt", subdir="some/where", prefix="p", stage_name="first")).read_text(),
            os.listdir(record.get_dir("parts", stage_name="first")),
        ]

    for overwrite in ([], ["third"]):
        manager = session(overwrite_stages=overwrite)
        for x in (1, 2):
            record = third(second(first(cf.Record(manager, Params(x=x)))))
            assert record.state["c"] == [f"first {x}", "second", "deep", ["one"]]
    assert count(tmp_path / "first") == 2


@pytest.mark.parametrize("options", [{"dry": True}, {"dry_cache": True}])
def test_the_same_in_a_dry_run(session: Session, options: dict[str, Any]) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        written(record, "m.ckpt", record.params.name)
        return 1

    @cf.stage(["a"], ["b"])
    def second(record: Any, a: Any) -> Any:
        return Path(record.get_path("m.ckpt", stage_name="first")).read_text()

    assert second(first(cf.Record(session(), Params("stored", x=1)))).state["b"] == "stored"
    dry = session(**options)
    assert second(first(cf.Record(dry, Params("reused", x=1)))).state["b"] == "stored"
    assert second(first(cf.Record(dry, Params("made now", x=2)))).state["b"] == "made now"
    assert second(first(cf.Record(dry, Params("again", x=1, overwrite=True)))).state["b"] == "again"


def test_a_stage_that_need_not_have_run_is_refused(session: Session) -> None:
    @cf.stage(None, ["a"])
    def first(record: Any) -> Any:
        written(record, "m.ckpt", "first")
        return 1

    @cf.stage(None, ["b"])
    def second(record: Any) -> Any:
        return record.get_path("m.ckpt", stage_name="first")

    with pytest.raises(UndeclaredInputError, match="'first' was asked for") as caught:
        second(first(cf.Record(session(), None))).state["b"]
    assert "declare one of the outputs of 'first'" in caught.value.fix


def test_an_earlier_file_that_is_gone_is_made_again(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        note(tmp_path / "first")
        written(record, "m.ckpt", "first")
        return 1

    @cf.stage(["a"], ["b"], [JsonCacher])
    def second(record: Any, a: Any) -> Any:
        note(tmp_path / "second")
        return a

    @cf.stage(["b"], ["c"])
    def third(record: Any, b: Any) -> Any:
        return Path(record.get_path("m.ckpt", stage_name="first")).read_text()

    with session() as manager:
        assert third(second(first(cf.Record(manager, None)))).state["c"] == "first"
        objects = manager.store.objects
    for damage in ("write", "remove"):
        (name,) = [n for n in objects.list() if n.endswith("m.ckpt")]
        if damage == "write":
            objects.write(name, b"other")
        else:
            objects.remove([n for n in objects.list() if "_first_a." in n])
        with session(live=False) as manager:
            record = third(second(first(cf.Record(manager, None))))
            manager.finish()
            assert record.state["c"] == "first"
    assert count(tmp_path / "first") == 3
    assert count(tmp_path / "second") == 1


def test_files_of_the_records_of_an_aggregate(session: Session) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        written(record, "m.ckpt", f"first {record.params.x}")
        return 1

    @cf.stage(["a"], ["b"])
    def second(record: Any, a: Any) -> Any:
        return a

    @cf.stage(None, ["c"])
    def aside(record: Any) -> Any:
        written(record, "m.ckpt", "aside")
        return 3

    @cf.aggregate(["b"], ["all"], [JsonCacher])
    def gather(record: Any, records: Any, b: Any) -> Any:
        with pytest.raises(CuridaskError, match="New paths can only be made with the stage's own record"):
            records[0].get_path("m.ckpt")
        with pytest.raises(CuridaskError, match=r"no file 'x' of a stage 'first'"):
            records[0].get_path("x", stage_name="first")
        with pytest.raises(CuridaskError, match=r"no file 'x' of a stage 'unknown'") as caught:
            records[0].get_path("x", stage_name="unknown")
        assert "first, second, aside" in caught.value.fix
        with pytest.raises(UndeclaredInputError, match="'aside' was asked for"):
            records[0].get_path("m.ckpt", stage_name="aside")
        written(record, "own.txt", "own")
        return [Path(r.get_path("m.ckpt", stage_name="first")).read_text() for r in records]

    @cf.stage(["all"], ["read"])
    def after(record: Any, all: Any) -> Any:
        return Path(record.get_path("own.txt", stage_name="gather")).read_text()

    manager = session()
    records = [aside(second(first(cf.Record(manager, Params(f"p{x}", x=x))))) for x in (1, 2)]
    final = after(gather(cf.Record(manager, None), records))
    assert final.state["all"] == ["first 1", "first 2"]
    assert final.state["read"] == "own"


def test_a_stage_of_the_record_that_was_copied(here: Session) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def first(record: Any) -> Any:
        written(record, "m.ckpt", "first")
        return 1

    @cf.stage(["a"], ["b"])
    def second(record: Any, a: Any) -> Any:
        (copied,) = record.input_records
        return Path(copied.get_path("m.ckpt", stage_name="first")).read_text()

    base = first(cf.Record(here(), Params(x=1)))
    assert second(base.make_copy(Params(x=2))).state["b"] == "first"


def test_an_aggregate_over_fewer_records_and_the_stages_after_it(here: Session) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        if record.params.x == 2:
            raise ValueError("2")
        return record.params.x

    @cf.aggregate(["a"], ["all"], [JsonCacher])
    def gather(record: Any, records: Any, a: Any) -> Any:
        written(record, "own.txt", "own")
        return sorted(a.values())

    @cf.stage(["all"], ["read"], [JsonCacher])
    def after(record: Any, all: Any) -> Any:
        names = [r.name for r in record.input_records]
        return [names, Path(record.get_path("own.txt", stage_name="gather")).read_text()]

    manager = here(live=False, parallel=0, keep_going_aggregates=True)
    records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2, 3)]
    final = after(gather(cf.Record(manager, None), records))
    with pytest.raises(CuridaskError):
        manager.finish()
    assert final.state["all"] == [1, 3]
    assert final.state["read"] == [["p1", "p3"], "own"]


# --- a cacher's own check --------------------------------------------------------------------------------------------
class Checked(JsonCacher):
    """Good as long as a file says so."""

    def __init__(self, verdict: Path, **options: Any) -> None:
        super().__init__(**options)
        self.verdict = verdict

    def check(self) -> bool:
        verdict = self.verdict.read_text()
        assert json.loads(Path(self.get_path()).read_text()) == self.load()
        match verdict:
            case "raise":
                raise ZeroDivisionError("oh")
            case "missing":
                raise ArtifactMissingError("The sensor was replaced.", where="the lab")
        return super().check() and verdict == "good"


@pytest.mark.parametrize("reader", [True, False])
@pytest.mark.parametrize("verdict", ["good", "bad", "missing"])
def test_a_cachers_own_check_decides_on_reuse(
    session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture, verdict: str, reader: bool
) -> None:
    judge = tmp_path / "verdict"
    judge.write_text("good")

    @cf.stage(None, ["before"], [JsonCacher])
    def before(record: Any) -> Any:
        note(tmp_path / "before")
        return 1

    @cf.stage(["before"], ["a"], [Checked(judge)])
    def make(record: Any, before: Any) -> Any:
        note(tmp_path / "make")
        return 1

    @cf.stage(["a"], ["b"])
    def read(record: Any, a: Any) -> Any:
        return a + 1

    def run() -> None:
        with session() as manager:
            record = make(before(cf.Record(manager, None)))
            if reader:
                assert read(record).state["b"] == 2
            assert record.state["a"] == 1
            record = make(before(cf.Record(manager, None)))  # what this run made is good

    run()
    made = count(tmp_path / "make")
    judge.write_text(verdict)
    caplog.clear()
    run()
    assert (made, count(tmp_path / "before")) == (1, 1)
    assert count(tmp_path / "make") == (1 if verdict == "good" else 2)
    told = "check() of Checked says no" if verdict == "bad" else "The sensor was replaced"
    assert caplog.text.count(told) == (0 if verdict == "good" else 1)


def test_a_check_that_raises_is_the_stages_own_error(session: Session, tmp_path: Path) -> None:
    judge = tmp_path / "verdict"
    judge.write_text("raise")

    @cf.stage(None, ["a"], [Checked(judge)])
    def make(record: Any) -> Any:
        return 1

    @cf.stage(None, ["b"], [JsonCacher])
    def other(record: Any) -> Any:
        return 2

    assert make(cf.Record(session(), None)).state["a"] == 1
    manager = session()
    record = other(cf.Record(manager, Params()))
    with pytest.raises(CacheError, match=r"check\(\) of Checked raised ZeroDivisionError: oh") as caught:
        make(cf.Record(manager, None)).state["a"]
    assert "stage 'make'" in caught.value.where
    assert "return False" in caught.value.fix
    assert record.state["b"] == 2


def test_a_check_is_asked_on_the_worker_too(here: Session, tmp_path: Path) -> None:
    """Somebody else made it since the plan: what is found then is asked like what was there before."""
    judge = tmp_path / "verdict"
    judge.write_text("bad")
    template = Checked(judge)

    @cf.stage(None, ["a"], [template])
    def make(record: Any) -> Any:
        note(tmp_path / "make")
        return 1

    one, two = here(live=False, parallel=0), here(live=False, parallel=0)
    record = make(cf.Record(one, None))
    make(cf.Record(two, None))
    two.plan()
    plans = two.runner.plan
    two.runner.plan = lambda *args, **options: (one.finish(), plans(*args, **options))[1]  # type: ignore[method-assign]
    two.finish()
    assert record.state["a"] == 1
    assert count(tmp_path / "make") == 2


def test_a_stage_that_runs_again_may_need_what_was_not_needed(here: Session, tmp_path: Path) -> None:
    judge = tmp_path / "verdict"
    judge.write_text("good")

    @cf.stage(None, ["a"], [Checked(judge)])
    def first(record: Any) -> Any:
        note(tmp_path / "first")
        return 1

    @cf.stage(["a"], ["b"], [Checked(judge)])
    def second(record: Any, a: Any) -> Any:
        note(tmp_path / "second")
        return a

    for verdict in ("good", "bad"):
        judge.write_text(verdict)
        manager = here(live=False, parallel=0)
        second(first(cf.Record(manager, None)))
        manager.finish()
    assert count(tmp_path / "first") == count(tmp_path / "second") == 2


def test_cachers_without_a_check_of_their_own_are_not_asked(here: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: Cacheable) -> bool:
        raise AssertionError("asked")

    check.__module__ = Cacheable.check.__module__
    monkeypatch.setattr(Cacheable, "check", check)

    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return 1

    for _ in range(2):
        assert make(cf.Record(here(), None)).state["a"] == 1


def test_checks_of_cachers_by_themselves(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    for cacher in (JsonCacher(tmp_path / "a.json"), PathRef(file), FileReferenceCacher(tmp_path / "refs.json")):
        assert not cacher.check()
    file.write_text("text")
    JsonCacher(tmp_path / "a.json").save(1)
    FileReferenceCacher(tmp_path / "refs.json").save([file])
    for cacher in (JsonCacher(tmp_path / "a.json"), PathRef(file), FileReferenceCacher(tmp_path / "refs.json")):
        assert cacher.check()
    file.write_text("other")
    assert not FileReferenceCacher(tmp_path / "refs.json").check()


def test_a_lazy_reference_is_looked_at(here: Session, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"

    @cf.stage(None, [Lazy("path", resolve=False)], [FileReferenceCacher])
    def make(record: Any) -> Any:
        note(tmp_path / "make")
        outside.write_text("text")
        return outside

    @cf.stage(["path"], ["read"])
    def read(record: Any, path: Any) -> Any:
        return path.load().read_text()

    for _ in range(2):
        assert read(make(cf.Record(here(), None))).state["read"] == "text"
        outside.write_text("changed")
    assert count(tmp_path / "make") == 2
