"""Live sessions: stages run when they are called, in this process or on workers; and what records and states do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curidask as cf
from curidask.caching import JsonCacher, Lazy, PickleCacher
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.core.graph import ArtifactRef
from curidask.errors import (
    CachersMismatchError,
    CuridaskError,
    ExecutingWithSkippedInputError,
    InputSignatureError,
    MissingInputError,
    OutputSignatureError,
    ParameterError,
    ParametersChangedError,
    StageDefinitionError,
    UnstableHashError,
)
from curidask.runs import record as run_records
from curidask.staging import SkippedOutput


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Path]:
    """A file that stages append to; the number of its bytes is the number of calls."""
    path = tmp_path / "calls"
    path.touch()
    return path


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    """Two workers that all sessions of this file share."""
    with local(2) as connection:
        yield connection


@pytest.fixture(params=["in process", "2 workers"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    where: dict[str, Any] = {"parallel": 0}
    if request.param == "2 workers":
        where = {"cluster": request.getfixturevalue("workers").client}
    with cf.ArtifactManager("live", cache=str(tmp_path / "cache"), **where) as made:
        yield made


def count(path: Path) -> int:
    return path.stat().st_size


def note(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def test_values_flow_from_stage_to_stage(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        return [record.params.x]

    @cf.stage(["a"], ["b", "c"], [JsonCacher, PickleCacher])
    def use(record: Any, a: Any) -> Any:
        return {"a": a}, (a, 1)

    @cf.aggregate(["b"], ["all"])
    def gather(record: Any, records: Any, b: Any) -> Any:
        assert [r.params.x for r in records] == [1, 2]
        return {r.name: value["a"] for r, value in b.items()}

    records = [use(make(cf.Record(manager, Params(f"p{x}", x=x)))) for x in (1, 2)]
    final = gather(cf.Record(manager, None), records)
    assert final.state["all"] == {"p1": [1], "p2": [2]}
    assert records[1].state == {"a": [2], "b": {"a": [2]}, "c": ([2], 1)}
    assert records[1].output == ({"a": [2]}, ([2], 1))
    assert records[0].stages == ["make", "use"]
    assert records[0].stage_outputs == [["a"], ["b", "c"]]
    assert dict(records[0].state) == {**records[0].state}
    assert final.is_aggregate
    assert final.get_hash() == final.combo_hash


def test_what_is_cached_is_not_called_again(manager: cf.ArtifactManager, calls: Path) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        note(calls)
        return record.params.x

    for _ in range(2):
        assert make(cf.Record(manager, Params("p"))).state["a"] == 1
    assert make(cf.Record(manager, Params("same values, another name"))).state["a"] == 1
    assert count(calls) == 1
    make(cf.Record(manager, Params("p", x=2))).state["a"]
    make(cf.Record(manager, Params("p", overwrite=True))).state["a"]
    assert count(calls) == 3


def test_a_stage_that_changes_its_input_changes_it_for_nobody_else(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["held", "stored"], [None, JsonCacher])
    def make(record: Any) -> Any:
        return [1], [1]

    @cf.stage(["held", "stored"], ["sum"])
    def spoil(record: Any, held: Any, stored: Any) -> Any:
        held.append(2)
        stored.append(2)
        return len(held) + len(stored)

    record = spoil(make(cf.Record(manager, None)))
    assert record.state["sum"] == 4
    assert spoil(record).state["sum"] == 4
    assert record.state["held"] == record.state["stored"] == [1]


def test_json_gives_the_same_on_the_first_run_as_from_the_cache(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return {"t": (1, 2)}

    assert make(cf.Record(manager, None)).state["a"] == {"t": [1, 2]}


def test_lazy_outputs_load_on_each_access(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("big")])
    def make(record: Any) -> Any:
        return [record.params.x] * 3

    @cf.stage(["big"], ["total"])
    def total(record: Any, big: Any) -> Any:
        return sum(big)

    one, two = (total(make(cf.Record(manager, Params(x=x)))) for x in (1, 2))
    assert (one.state["total"], two.state["total"]) == (3, 6)
    assert one.state["big"] == [1, 1, 1]
    assert one.state["big"] is not one.state["big"]
    one.state.resolve = False
    lazy = one.state["big"]
    assert isinstance(lazy, Lazy)
    assert lazy.resolve  # for the stages after it
    assert lazy.load() == [1, 1, 1]
    assert lazy.cacher is not None
    assert Path(lazy.cacher.get_path()).exists()
    assert isinstance(one.state["total"], ArtifactRef)


def test_lazy_without_resolving_gives_the_stage_the_lazy_itself(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("big", resolve=False)], [JsonCacher])
    def make(record: Any) -> Any:
        return [1]

    @cf.stage(["big"], ["path", "value"])
    def look(record: Any, big: Any) -> Any:
        return Path(big.cacher.get_path()).exists(), big.load()

    assert look(make(cf.Record(manager, None))).output == (True, [1])


def test_keyword_arguments_and_values_set_by_hand_are_part_of_the_key(manager: cf.ArtifactManager, calls: Path) -> None:
    @cf.stage(["start"], ["a"], [JsonCacher])
    def make(record: Any, start: int, by: int = 1) -> Any:
        note(calls)
        return start + by

    def run(held: Any, **kwargs: Any) -> Any:
        record = cf.Record(manager, None)
        record.state["start"] = held
        return make(record, **kwargs).state["a"]

    assert [run(1), run(2), run(1, by=5), run(1, start=7), run(1), run(1, by=5)] == [2, 3, 6, 8, 2, 6]
    assert count(calls) == 4
    with pytest.raises(UnstableHashError, match="cannot be hashed"):
        run(object())


def test_other_wiring_is_another_artifact(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def one(record: Any) -> Any:
        return 1

    @cf.stage(None, ["a"], [JsonCacher])
    def other(record: Any) -> Any:
        return 2

    @cf.stage(["a"], ["b"], [JsonCacher])
    def use(record: Any, a: int) -> Any:
        return a * 10

    assert use(one(cf.Record(manager, None))).state["b"] == 10
    assert use(other(cf.Record(manager, None))).state["b"] == 20


def test_order_and_names_of_gathered_records_count(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return record.params.x

    @cf.aggregate(["a"], ["rows"], [JsonCacher])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return [[r.name, value] for r, value in a.items()]

    one, two = (make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2))
    renamed = make(cf.Record(manager, Params("renamed", x=2)))
    assert gather(cf.Record(manager, None), [one, two]).state["rows"] == [["p1", 1], ["p2", 2]]
    assert gather(cf.Record(manager, None), [two, one]).state["rows"] == [["p2", 2], ["p1", 1]]
    assert gather(cf.Record(manager, None), [one, renamed]).state["rows"] == [["p1", 1], ["renamed", 2]]


def test_aggregates_without_inputs_see_all_that_records_hold(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a", "b"])
    def make(record: Any) -> Any:
        return record.params.x, 10

    @cf.aggregate(outputs=["sums"])
    def gather(record: Any, records: Any) -> Any:
        return [sum(r.state.values()) for r in records]

    for x in (1, 2):
        make(cf.Record(manager, Params(x=x)))
    assert gather(cf.Record(manager, None)).state["sums"] == [11, 12]


def test_missing_inputs(manager: cf.ArtifactManager) -> None:
    @cf.stage(["nothing"], ["a"])
    def needs(record: Any, nothing: Any) -> Any:
        return nothing

    @cf.stage(["nothing", "more"], ["a"], suppress_missing_inputs=True)
    def tolerates(record: Any, nothing: Any, more: Any = 5) -> Any:
        return nothing, more

    @cf.aggregate(["a"], ["n"])
    def gather(record: Any, records: Any, a: Any) -> Any:
        return len(records), len(a)

    with pytest.raises(MissingInputError, match="needs 'nothing'"):
        needs(cf.Record(manager, None, hide=True))
    full = tolerates(cf.Record(manager, None))
    assert full.state["a"] == (None, 5)
    empty = cf.Record(manager, None)
    with pytest.warns(UserWarning, match="has no a for the aggregate 'gather'") as warned:
        final = gather(cf.Record(manager, None), [full, empty])
    assert warned[0].filename == __file__
    assert final.state["n"] == (2, 1)
    many = [full, *(cf.Record(manager, None) for _ in range(70))]
    text = r"Record 3 \(None\), .*, Record 7 \(None\) and 65 more have no a for the aggregate 'gather'"
    with pytest.warns(UserWarning, match=text) as warned:
        assert gather(cf.Record(manager, None), many).state["n"] == (71, 1)
    assert len(warned) == 1


def test_copies_share_artifacts_and_go_their_own_way(manager: cf.ArtifactManager, calls: Path) -> None:
    @cf.stage(None, ["data"])
    def load(record: Any) -> Any:
        note(calls)
        return [1, 2]

    @cf.stage(["data"], ["score"])
    def score(record: Any, data: Any) -> Any:
        return sum(data) * record.params.x

    loaded = load(cf.Record(manager, None))
    copies = [score(loaded.make_copy(Params(x=x))) for x in (1, 10)]
    assert [copy.state["score"] for copy in copies] == [3, 30]
    assert count(calls) == 1
    assert copies[0].input_records == [loaded]
    assert copies[0].stages == ["score"]
    assert "score" not in loaded.state


def test_procedures(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        return record.params.x

    @cf.stage(["a"], ["b"])
    def double(record: Any, a: int) -> Any:
        return 2 * a

    @cf.aggregate(["b"], ["total"])
    def total(record: Any, records: Any, b: Any) -> Any:
        return sum(b.values())

    first = cf.Procedure([make, double], manager)
    assert [first.run(Params(x=x)).output for x in (1, 2)] == [2, 4]
    assert cf.Procedure([total], manager, previous_proc=first).run(None).output == 6
    assert cf.Procedure([total], manager, records=first.records[:1]).run().output == 2
    hidden = first.run(Params(x=100), hide=True)
    assert hidden not in manager.records
    with pytest.warns(UserWarning, match="have no b"):  # the records of the other aggregates
        assert cf.Procedure([total], manager).run(None).output == 6
    for wrong in ([make, total], [], [print]):
        with pytest.raises(StageDefinitionError):
            cf.Procedure(wrong, manager)
    with pytest.raises(StageDefinitionError, match="no aggregate"):
        cf.Procedure([make], manager, previous_proc=first)


def test_errors_are_the_users_own_with_a_note(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"])
    def broken(record: Any) -> Any:
        raise LookupError("mine")

    @cf.stage(["a"], ["b"])
    def after(record: Any, a: Any) -> Any:
        return a

    with pytest.raises(LookupError, match="mine") as caught:
        broken(cf.Record(manager, Params("set"))).state["a"]
    assert caught.value.__notes__ == ["in stage 'broken' of Record 0 (set)"]
    with pytest.raises(LookupError, match="mine"):
        after(manager.records[0]).state["b"]
    assert caught.value.__notes__ == ["in stage 'broken' of Record 0 (set)"]


def test_after_a_failure_the_rest_of_the_state_can_be_read(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["data"])
    def make(record: Any) -> Any:
        return [1]

    @cf.stage(["data"], ["a"])
    def broken(record: Any, data: Any) -> Any:
        raise LookupError("mine")

    record = make(cf.Record(manager, Params("set")))
    with pytest.raises(LookupError):
        broken(record).state["a"]  # on workers it is raised where the value is read
    assert record.state["data"] == [1]
    with pytest.raises(LookupError) as caught:
        record.state["a"]
    assert caught.value.__notes__ == ["in stage 'broken' of Record 0 (set)"]


def test_declarations_are_checked_when_a_stage_is_used(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a", "b"], [JsonCacher])
    def uneven(record: Any) -> Any:
        return 1, 2

    with pytest.raises(CachersMismatchError):
        uneven(cf.Record(manager, None))
    with pytest.raises(StageDefinitionError, match="not a Record"):
        uneven("record")
    with pytest.raises(StageDefinitionError, match="without parentheses"):
        cf.stage(uneven)
    with pytest.raises(StageDefinitionError, match="not a list"):
        cf.stage("a")

    @cf.stage(None, ["a"])
    async def later(record: Any) -> Any:
        return 1

    with pytest.raises(StageDefinitionError, match="async"):
        later(cf.Record(manager, None))

    @cf.aggregate(["record"], ["a"])
    def first(record: Any, records: Any) -> Any:
        return 1

    @cf.aggregate(["records"], ["a"])
    def second(record: Any, records: Any) -> Any:
        return 1

    for aggregate, what in (first, "'record' is called .* gets the record"), (second, "'records' .* gets the records"):
        with pytest.raises(InputSignatureError, match=what):
            aggregate(cf.Record(manager, None))


@pytest.mark.parametrize("given", [None, "manager", Params()])
def test_a_record_without_a_manager_says_so(given: Any) -> None:
    with pytest.raises(CuridaskError, match="not an ArtifactManager"):
        cf.Record(given, Params())


@pytest.mark.parametrize(("given", "said"), [(3, r"3 \(int\)"), (Params, "the class Params"), ({"x": 1}, ".* dict")])
def test_a_record_of_something_else_says_so(manager: cf.ArtifactManager, given: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=f"is {said}, not an ExperimentParameters"):
        cf.Record(manager, given)
    assert not manager.records


def test_a_changed_parameter_set_is_refused(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        return 1

    params = Params()
    record = cf.Record(manager, params)
    params.x = 2
    with pytest.raises(ParametersChangedError, match="was changed"):
        make(record)


def test_files_of_a_stage_are_kept_with_its_artifact(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        Path(record.get_path("notes.txt")).write_text("written")
        (Path(record.get_dir("plots")) / "one.txt").write_text("1")
        return 1

    assert make(cf.Record(manager, Params())).state["a"] == 1
    kept = sorted(str(p.relative_to(tmp_path / "cache")) for p in (tmp_path / "cache").rglob("*.txt"))
    assert [name.rpartition("_make_")[2].partition(".")[2].partition("_")[2] for name in kept] == [
        "notes.txt",
        "plots/one.txt",
    ]
    for path in (tmp_path / "cache").rglob("notes.txt"):
        path.write_text("changed")


def test_a_stage_without_outputs_is_reused_when_it_wrote_files(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    drawn, spoken = tmp_path / "drawn", tmp_path / "spoken"
    drawn.touch()

    @cf.stage()
    def draw(record: Any) -> None:
        note(drawn)
        Path(record.get_path("plot.txt", subdir="plots/small", prefix="all", stage_name="other")).write_text("plot")
        Path(record.get_path("scratch.txt", track=False)).write_text("scratch")

    @cf.stage()
    def speak(record: Any) -> None:
        note(spoken)

    for _ in range(2):
        assert speak(draw(cf.Record(manager, Params()))).output is None
        manager.finish()
    assert (count(drawn), count(spoken)) == (1, 2)
    cache = tmp_path / "cache"
    (plot,) = cache.rglob("small/all_other_plot.txt")
    plot.write_text("changed")
    with cf.ArtifactManager("again", cache=str(cache), prefix=manager.prefix, parallel=0) as again:
        draw(cf.Record(again, Params()))
    assert count(drawn) == 2
    assert plot.read_text() == "plot"


def test_a_session_leaves_nothing_behind(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with cf.ArtifactManager("live", cache=str(tmp_path / "cache"), parallel=2) as manager:

            @cf.stage(None, ["a"], [JsonCacher])
            def make(record: Any) -> Any:
                return 1

            make(cf.Record(manager, None))
    assert {p.name for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")} <= {".runs", ".code", ".lineage"}
    record = cf.Record(cf.ArtifactManager("later", cache=str(tmp_path / "cache"), prefix="live"), None)
    assert make(record).state["a"] == 1


def test_paths_outside_of_stages(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        Path(record.get_path("log.txt")).write_text("of the stage")
        (Path(record.get_dir("parts", subdir="deep/er")) / "one").write_text("1")
        return 1

    record = make(cf.Record(manager, Params()))
    assert Path(record.get_path("log.txt")).read_text() == "of the stage"
    assert [p.name for p in Path(record.get_dir("parts", subdir="deep/er")).iterdir()] == ["one"]
    assert record.unstored_tracked_paths == []
    for options in ({}, {"stage_name": "make"}):
        assert Path(manager.get_artifact_path("log.txt", record, **options)).read_text() == "of the stage"
    assert os.listdir(manager.get_artifact_path("parts", record, "deep/er")) == ["one"]
    assert not os.path.exists(manager.get_artifact_path("log.txt", record, store=True))
    own = Path(record.get_path("mine.txt", subdir="some/where"))
    own.write_text("mine")
    assert manager.get_artifact_path("mine.txt", record, "some/where") == str(own)
    assert own.parent == tmp_path / "cache" / "some" / "where"
    assert own.name == f"live_{record.get_hash()}_make_mine.txt"
    assert Path(record.get_dir("loose", track=False)).is_dir()
    assert [entry["obj_name"] for entry in record.unstored_tracked_paths] == ["mine.txt"]
    record.store_tracked_paths()
    assert record.stored_paths == []
    manager.full_store = tmp_path / "full"
    record.store_tracked_paths()
    assert record.unstored_tracked_paths == []
    assert record.stored_paths == [str(own)]
    assert [p.read_text() for p in (tmp_path / "full").rglob("*mine.txt")] == ["mine"]


def test_representations_tell_what_is_there_without_computing(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    @cf.stage(None, ["stored", "other"], [PickleCacher, JsonCacher])
    def make(record: Any) -> Any:
        return np.zeros((3, 4)), {"a": "<b>"}

    @cf.stage(["stored"], ["loose"])
    def use(record: Any, stored: Any) -> Any:
        return "<i>&"

    record = use(make(cf.Record(manager, Params())))
    record.state["mine"] = [1, 2]
    manager.finish()
    shown = record.state_artifact_reps
    assert {name: rep.text for name, rep in shown.items()} == {
        "stored": "ndarray of shape (3, 4)",
        "other": "dict of length 1",
        "loose": "'<i>&'",
        "mine": "list of length 2",
    }
    assert (shown["stored"].cacher, shown["loose"].cacher) == ("PickleCacher", "")
    assert shown["loose"].html_safe() == "loose: &#x27;&lt;i&gt;&amp;&#x27;"
    assert (tmp_path / "cache" / f"{shown['stored'].file}.pkl").exists()


def test_a_skipped_output_says_so_and_cannot_be_used(tmp_path: Path) -> None:
    @cf.stage(None, ["loose"])
    def make(record: Any) -> Any:
        return 1

    @cf.stage(["loose"], ["end"], [JsonCacher])
    def use(record: Any, loose: Any) -> Any:
        return loose + 1

    def run(number: int) -> cf.Record:
        manager = cf.ArtifactManager("skip", cache=str(tmp_path / "cache"), parallel=0, live=False)
        record = use(make(cf.Record(manager, Params())))
        manager.finish()
        return record

    run(1)
    record = run(2)
    record.state.resolve = False
    skipped = record.state["loose"]
    assert isinstance(skipped, SkippedOutput)
    assert (skipped.record, skipped.stage_name, skipped.artifact_rep.text) == (record, "make", "not computed yet")
    other = cf.Record(record.manager, Params(x=2))
    other.state["loose"] = skipped
    with pytest.raises(ExecutingWithSkippedInputError, match="loose"):
        use(other)
    record.state.resolve = True
    assert record.state["loose"] == 1


def test_a_tuple_is_the_value_of_one_output_and_the_values_of_several(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["one"], [PickleCacher])
    def single(record: Any) -> Any:
        return 1, 2, 3

    @cf.stage(None, ["a", "b"])
    def pair(record: Any) -> Any:
        return [1, 2]

    @cf.stage(None, ["c", "d"])
    def wrong(record: Any) -> Any:
        return "cd"

    record = pair(single(cf.Record(manager, None)))
    assert record.state["one"] == (1, 2, 3)
    assert (record.state["a"], record.state["b"]) == (1, 2)
    with pytest.raises(OutputSignatureError, match="2 outputs"):
        wrong(record).state["c"]


def test_states_resolve_on_every_access(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("a"), "b"])
    def make(record: Any) -> Any:
        return [1], [2]

    state = make(cf.Record(manager, None)).state
    assert state["a"] == state.get("a") == [1]
    assert state.get("nothing") is None
    assert list(state.values()) == [[1], [2]]
    assert list(state.items()) == [("a", [1]), ("b", [2])]
    assert state.pop("a") == [1]
    assert state.pop("a", "gone") == "gone"
    assert list(state) == ["b"]
    with pytest.raises(KeyError, match="no artifact 'a'"):
        state.pop("a")


def test_one_lazy_stage_on_two_records_gives_each_its_own(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("big", resolve=False)], [PickleCacher])
    def make(record: Any) -> Any:
        return record.params.x

    @cf.aggregate(["big"], ["all"])
    def gather(record: Any, records: Any, big: Any) -> Any:
        return {r.name: lazy.load() for r, lazy in big.items()}

    records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2)]
    assert [record.state["big"].load() for record in records] == [1, 2]
    assert gather(cf.Record(manager, None), records).state["all"] == {"p1": 1, "p2": 2}


def test_a_session_has_a_log(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    @cf.stage(None, ["a"])
    def make(record: Any) -> Any:
        record.logger.info("made for %s", record.name)
        return 1

    assert make(cf.Record(manager, Params("p"))).state["a"] == 1
    manager.close()
    (log,) = (tmp_path / "logs").iterdir()
    assert log.name == f"{manager.reference}.log"
    assert "1 to run" in log.read_text()
    assert "made for p" in log.read_text()


def test_a_path_into_a_stages_files_leads_there_whoever_reads_it(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["text", "folder", "plain"])
    def make(record: Any) -> Any:
        path = Path(record.get_path("model.txt"))
        path.write_text(f"model {record.params.x}")
        folder = record.get_dir("parts")
        (Path(folder) / "one").write_text("1")
        return str(path), Path(folder), "model.txt"

    @cf.stage(["text", "folder", "plain"], ["read"])
    def use(record: Any, text: str, folder: Path, plain: str) -> Any:
        return Path(text).read_text(), [path.name for path in folder.iterdir()], plain

    records = [use(make(cf.Record(manager, Params(x=x)))) for x in (1, 2)]
    assert [r.state["read"] for r in records] == [(f"model {x}", ["one"], "model.txt") for x in (1, 2)]
    assert Path(records[1].state["text"]).read_text() == "model 2"
    assert records[1].state["folder"].is_dir()


def test_sessions_of_one_reference_leave_each_others_work_alone(tmp_path: Path) -> None:
    """Two projects that share a cache may start the same experiment in the same second."""

    @cf.stage(None, ["a"], [JsonCacher])
    def slow(record: Any) -> Any:
        Path(record.get_path("note.txt")).write_text("mine")
        other.close()
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_records, "new_reference", lambda *_, **__: (1, "same_1_now"))
        one, other = (cf.ArtifactManager("same", cache=str(tmp_path / "cache"), parallel=0) for _ in range(2))
    assert one.reference == other.reference
    assert slow(cf.Record(one, Params())).state["a"] == 1
    one.close()


def test_between_the_steps_of_a_session_the_cache_holds_artifacts_only(tmp_path: Path) -> None:
    @cf.stage(None, ["a"], [JsonCacher])
    def make(record: Any) -> Any:
        return record.params.x

    with cf.ArtifactManager("live", cache=str(tmp_path / "cache"), parallel=0) as manager:
        for x in (1, 2):
            make(cf.Record(manager, Params(x=x)))
            names = [path.name for path in (tmp_path / "cache").iterdir()]
            assert len(names) == 2 * x
            assert all(name.startswith("live_") for name in names)
