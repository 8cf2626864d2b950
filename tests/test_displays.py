"""What a manager gives to look at: objects that a notebook shows and that print as text, and what was reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.errors import SelectionError, UnknownKeywordError
from curidask.reporting import JsonReporter, LinePlotReporter, Reportable


@dataclass
class Params(cf.ExperimentParameters):
    number: int = 0


@cf.stage(None, ["a"], [JsonCacher])
def load(record: Any) -> int:
    record.report(JsonReporter({"from": record.name}, name="loaded"))
    record.report(JsonReporter([1], name="<b>", group="Numbers"))
    return 1


@cf.stage(["a"], ["b"])
def silent(record: Any, a: int) -> int:
    return a


@cf.aggregate(["a"], ["c"])
def gather(record: Any, records: Any, a: Any) -> int:
    record.report(LinePlotReporter([1, 2], group="Numbers"))
    return 1


def session(folder: Path) -> cf.ArtifactManager:
    manager = cf.ArtifactManager("looked_at", cache=str(folder / "cache"), parallel=0)
    records = [silent(load(cf.Record(manager, Params(name, number=i)))) for i, name in enumerate(("one", "two"))]
    gather(cf.Record(manager, None), records)
    return manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with session(tmp_path) as made:
        yield made


def test_displays_are_given_back_and_printed_by_nobody(
    manager: cf.ArtifactManager, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {
        "looked_at_1": manager.display_info(),
        "loaded": manager.display_all_reportables(),
        "one": manager.display_record_reportables(manager.records[0]),
        "gather": manager.display_stage_graph(),
        "<b>": manager.display_group_reportables("Numbers"),
        "two": manager.display_stage_reportables(stage_name="load"),
    }
    for part, display in shown.items():
        assert part in str(display) == repr(display)
        assert "<" in display._repr_html_() == display.data
        assert "<b>" not in display.data
    assert capsys.readouterr().out == ""


def names(display: Any) -> list[str]:
    return [line.partition(" [")[0].partition(",")[0] for line in str(display).splitlines()]


def test_a_group_and_a_stage_are_shown_alone(manager: cf.ArtifactManager) -> None:
    assert names(manager.display_group_reportables("Numbers")) == ["gather_0", "<b>", "<b>"]
    assert names(manager.display_group_reportables(None)) == ["loaded", "loaded"]
    assert names(manager.display_stage_reportables("load")) == ["<b>", "<b>", "loaded", "loaded"]
    assert "Nothing was reported by the stage silent" in str(manager.display_stage_reportables("silent"))


@pytest.mark.parametrize(
    ("method", "name", "near"),
    [
        ("display_group_reportables", "Number", "did you mean 'Numbers'?"),
        ("display_group_reportables", "zzz", "there is: Numbers"),
        ("display_stage_reportables", "laod", "did you mean 'load'?"),
        ("display_stage_reportables", "zzz", "there is: gather, load, silent"),
    ],
)
def test_what_is_not_there_is_named_with_what_is_near(
    manager: cf.ArtifactManager, method: str, name: Any, near: str
) -> None:
    with pytest.raises(SelectionError) as caught:
        getattr(manager, method)(name)
    assert repr(name) in caught.value.what
    assert caught.value.where == f"{method}()"
    assert caught.value.fix == near


def test_typos_in_keywords(manager: cf.ArtifactManager) -> None:
    with pytest.raises(UnknownKeywordError, match="group"):
        manager.display_group_reportables(gruop_name="Numbers")  # type: ignore[call-arg]
    with pytest.raises(UnknownKeywordError, match=r"ArtifactManager\.generate_report\(\) has no keyword 'path'"):
        manager.generate_report(path="x")  # type: ignore[call-arg]


def test_what_was_reported_can_be_looked_through(manager: cf.ArtifactManager) -> None:
    found = manager.reportables
    assert [(each.name, each.group, each.stage) for each in found] == [
        ("loaded", None, "load"),
        ("<b>", "Numbers", "load"),
        ("loaded", None, "load"),
        ("<b>", "Numbers", "load"),
        ("gather_0", "Numbers", "gather"),
    ]
    assert [each.qualified_name for each in found[::2]] == [
        "one_load_loaded",
        "two_load_loaded",
        "(Aggregate)_gather_0",
    ]
    assert [each.record for each in found[1::2]] == manager.records[:2]
    assert all(isinstance(each, Reportable) and each.rendered for each in found)
    assert manager.get_reportable_groups() == [None, "Numbers"]
    assert [each.name for each in manager.get_grouped_reportables()["Numbers"]] == ["<b>", "<b>", "gather_0"]
    assert [each.name for each in manager.get_ungrouped_reportables()] == ["loaded", "loaded"]
    assert f'src="{found[-1].path}figure.svg"' in found[-1].html()
    assert Path(found[-1].path, "figure.svg").exists()


def test_one_reportable_is_shown_alone(manager: cf.ArtifactManager) -> None:
    plot = manager.display_reportable(manager.reportables[-1])
    assert names(plot) == ["gather_0"]
    assert "data:image/svg+xml" in plot.data
    fresh = manager.display_reportable(JsonReporter({"x": "<i>"}, name="new"))
    assert str(fresh) == "new (JsonReporter)"
    assert "&lt;i&gt;" in fresh.data
    assert len(manager.reportables) == 5  # it is shown, not reported
    with pytest.raises(TypeError, match="takes a Reportable"):
        manager.display_reportable("new")  # type: ignore[arg-type]


def test_what_was_reported_can_be_reported_again(manager: cf.ArtifactManager) -> None:
    plot = manager.reportables[-1]
    manager.records[0].report(plot)
    again = manager.reportables[-1]
    assert (again.name, again.group, again.record) == ("gather_0", "Numbers", manager.records[0])
    assert Path(again.path, "figure.svg").read_bytes() == Path(plot.path, "figure.svg").read_bytes()
    assert "data:image/svg+xml" in manager.display_reportable(again).data


def test_stages_that_are_reused_reported_too(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    manager.close()
    with session(tmp_path) as other:
        assert [each.name for each in other.reportables].count("loaded") == 2
        assert names(other.display_stage_reportables("load")).count("loaded") == 2
        assert {row["status"] for row in other.describe_run()["tasks"] if row["stage"] == "load"} == {"reused"}


def test_they_come_in_the_order_of_the_calls_however_the_stages_end(tmp_path: Path) -> None:
    def names_after(last: int) -> list[str]:
        with cf.ArtifactManager("looked_at", cache=str(tmp_path / "cache"), parallel=0, live=False) as manager:
            records = [load(cf.Record(manager, Params(f"p{i}", number=i))) for i in range(3)]
            if last:
                assert records[last].state["a"] == 1
            cf.Record(manager, None).report(JsonReporter([], name="by hand"))
            gather(cf.Record(manager, None), records)
            manager.finish()
            return [each.qualified_name for each in manager.reportables if each.group is None]

    expected = ["p0_load_loaded", "p1_load_loaded", "p2_load_loaded", "by hand"]
    assert names_after(2) == expected  # the last one is read, so it ends first
    assert names_after(0) == expected  # the first ones are reused


def test_a_representation_has_the_documented_attributes(manager: cf.ArtifactManager) -> None:
    from curidask.core.preview import ArtifactRepresentation

    record = manager.records[0]
    shown = ArtifactRepresentation(record, "a", [1, 2], metadata={"preview": "of old"}, cacher=JsonCacher)
    assert (shown.name, shown.string, shown.cacher) == ("a", "list of length 2", JsonCacher)
    assert (shown.metadata, shown.file, shown.init_record) == ({"preview": "of old"}, "", record)
    assert ArtifactRepresentation(record, "a", None, {"preview": "<of> old"}).string == "<of> old"
    assert "&lt;of&gt; old" in ArtifactRepresentation(record, "a", None, {"preview": "<of> old"}).html_safe()
    kept = record.state_artifact_reps["a"]
    assert (kept.string, kept.cacher) == ("1", "JsonCacher")
    assert kept.file.startswith("looked_at_")
    with pytest.raises(UnknownKeywordError, match="metadta"):
        ArtifactRepresentation(record, "a", 1, metadta={})  # type: ignore[call-arg]
