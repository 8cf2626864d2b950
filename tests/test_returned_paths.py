"""Paths of a stage's own files inside what it returns: they follow the artifact, or are refused at once."""

from __future__ import annotations

import collections
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curidask as cf
from curidask.caching import (
    Cacheable,
    FileReferenceCacher,
    JsonCacher,
    Lazy,
    NumpyCacher,
    PandasCsvCacher,
    PathRef,
    PickleCacher,
)
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.errors import CacheError
from curidask.execution.returned_paths import NOTE, PREFIX, Search, swapped
from curidask.session.config import Config
from curidask.store.manifest import Manifest

Session = Callable[..., cf.ArtifactManager]


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    path: Any
    note: str = "n"


@dataclass
class Checkpoint:
    path: Any
    more: list[Any] = field(default_factory=list)
    parts: int = field(default=3, init=False)


class Holder:
    """No dataclass: nobody knows where its values are."""

    def __init__(self, path: Any) -> None:
        self.path = path


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


def note(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def written(record: Any, name: str, text: str) -> str:
    path = record.get_path(name)
    Path(path).write_text(text)
    return str(path)


def texts(value: Any) -> Any:
    """The value with what the files hold in the place of their paths."""
    match value:
        case str() | Path():
            return Path(value).read_text() if os.path.isfile(value) else sorted(os.listdir(value))
        case dict():
            return {key: texts(item) for key, item in value.items()}
        case _:
            return [texts(item) for item in value]


def manifest_of(manager: cf.ArtifactManager, task: int = 0, output: int = 0) -> Manifest:
    stem = manager.graph[task].stems[output]
    assert stem is not None
    manifest = manager.store.manifest(stem)
    assert manifest is not None
    return manifest


# --- they follow the artifact ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("cacher", [JsonCacher, PickleCacher, None])
def test_paths_in_containers_lead_to_what_was_written(session: Session, tmp_path: Path, cacher: Any) -> None:
    @cf.stage(None, ["files"], None if cacher is None else [cacher])
    def train(record: Any) -> Any:
        note(tmp_path / "train")
        folder = record.get_dir("parts")
        (Path(folder) / "one").write_text("1")
        path = written(record, "m.ckpt", "weights")
        return {"ckpt": path, "all": [path, {"folder": folder, "inside": f"{folder}/one"}]}

    @cf.stage(["files"], ["read"], [JsonCacher])
    def read(record: Any, files: Any) -> Any:
        note(tmp_path / "read")
        return texts(files)

    expected = {"ckpt": "weights", "all": ["weights", {"folder": ["one"], "inside": "1"}]}
    for _ in ("cold", "warm"):
        with session() as manager:
            record = read(train(cf.Record(manager, None)))
            assert record.state["read"] == expected
            files = record.state["files"]
            assert texts(files) == expected
            assert files["all"][1]["inside"] == f"{files['all'][1]['folder']}/one"
    assert (tmp_path / "read").stat().st_size == 1
    assert (tmp_path / "train").stat().st_size == (2 if cacher is None else 1)


def test_every_kind_of_container_keeps_its_type(session: Session) -> None:
    @cf.stage(None, ["held", "stored"], [None, PickleCacher])
    def make(record: Any) -> Any:
        path = written(record, "a", "A")
        value = {
            "tuple": (path, 1),
            "named": Pair(Path(path), 2),
            "set": {path},
            "frozen set": frozenset([Path(path)]),
            "default": collections.defaultdict(list, {"x": [path]}),
            "ordered": collections.OrderedDict(b=1, a=path),
            "frozen": Frozen(path),
            "dataclass": Checkpoint(Path(path), [Frozen(Path(path), "m")]),
            "other": [1, 2.0, None, b"x", "text", np.arange(3)],
        }
        return value, value

    with session() as manager:
        record = make(cf.Record(manager, None))
        for value in (record.state["held"], record.state["stored"]):
            path = value["tuple"][0]
            assert Path(path).read_text() == "A"
            assert value["tuple"] == (path, 1)
            assert value["named"] == Pair(Path(path), 2)
            assert type(value["named"]) is Pair
            assert value["set"] == {path}
            assert value["frozen set"] == frozenset([Path(path)])
            assert value["default"]["x"] == [path]
            assert value["default"].default_factory is list
            assert list(value["ordered"]) == ["b", "a"]
            assert value["frozen"] == Frozen(path)
            assert value["dataclass"] == Checkpoint(Path(path), [Frozen(Path(path), "m")])
            assert value["other"][:5] == [1, 2.0, None, b"x", "text"]


def test_a_path_by_itself_and_one_that_went_through_links(session: Session, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")

    @cf.stage(None, ["text", "path", "real"], [JsonCacher, PickleCacher, JsonCacher])
    def make(record: Any) -> Any:
        path = written(record, "a", "A")
        return path, Path(path), {"real": os.path.realpath(path), "relative": os.path.relpath(path)}

    for _ in ("cold", "warm"):
        with session() as manager:
            state = make(cf.Record(manager, None)).state
            assert Path(state["text"]).read_text() == "A"
            assert isinstance(state["path"], Path)
            assert state["path"].read_text() == "A"
            assert texts(state["real"]) == {"real": "A", "relative": "A"}


def test_the_stored_value_names_no_place(session: Session) -> None:
    @cf.stage(None, ["files"], [JsonCacher])
    def make(record: Any) -> Any:
        return {"a": written(record, "a.txt", "A")}

    contents = set()
    for overwrite in (False, True):
        manager = session(overwrite=overwrite)
        make(cf.Record(manager, None)).state["files"]
        manifest = manifest_of(manager)
        (name,) = (entry.name for entry in manifest.tracked)
        assert manifest.extra_metadata == {NOTE: []}
        assert json.loads(manager.store.objects.read(manifest.stem + ".json")) == {"a": PREFIX + name}
        contents.add(manifest.digest)
    assert len(contents) == 1


def test_other_artifacts_of_a_stage_note_nothing(session: Session) -> None:
    @cf.stage(None, ["plain", "files", "more"], [JsonCacher, JsonCacher, PickleCacher])
    def make(record: Any) -> Any:
        return 1, [written(record, "a", "A")], (written(record, "b", "B"),)

    manager = session()
    state = make(cf.Record(manager, None)).state
    assert (texts(state["files"]), texts(state["more"])) == (["A"], ["B"])
    plain, files, more = (manifest_of(manager, output=index) for index in range(3))
    assert plain.extra_metadata == {}
    assert plain.tracked == files.tracked == more.tracked
    assert files.extra_metadata == more.extra_metadata == {NOTE: []}


def test_a_damaged_file_is_made_again(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["plain", "files"], [JsonCacher, JsonCacher])
    def make(record: Any) -> Any:
        note(tmp_path / "calls")
        return 1, [written(record, "a.txt", "A")]

    @cf.stage(["files"], ["read"])
    def read(record: Any, files: Any) -> Any:
        return texts(files)

    with session() as manager:
        make(cf.Record(manager, None)).state["files"]
        objects = manager.store.objects
    (name,) = [n for n in objects.list() if n.endswith("a.txt")]
    for damage in (lambda: objects.write(name, b"B"), lambda: objects.remove([name])):
        damage()
        with session() as manager:
            assert read(make(cf.Record(manager, None))).state["read"] == ["A"]
    assert (tmp_path / "calls").stat().st_size == 3


def test_a_lazy_output_gives_paths_too(session: Session) -> None:
    @cf.stage(None, [Lazy("files"), Lazy("unresolved", resolve=False)], [JsonCacher, JsonCacher])
    def make(record: Any) -> Any:
        path = written(record, "a", "A")
        return [path], [path]

    @cf.stage(["files", "unresolved"], ["read"])
    def read(record: Any, files: Any, unresolved: Any) -> Any:
        return texts([files, unresolved.load(), unresolved.cacher.load()])

    record = read(make(cf.Record(session(), None)))
    assert record.state["read"] == [["A"]] * 3
    assert texts(record.state["files"]) == ["A"]
    record.state.resolve = False
    assert (record.state["files"].resolve, record.state["unresolved"].resolve) == (True, False)
    assert texts(record.state["unresolved"].load()) == ["A"]


def test_aggregates_read_the_files_of_each_record(session: Session) -> None:
    @cf.stage(None, ["held", "stored"], [None, JsonCacher])
    def make(record: Any) -> Any:
        path = written(record, "a", f"A{record.params.x}")
        return [path], [path]

    @cf.aggregate(["held", "stored"], ["all"], [JsonCacher])
    def gather(record: Any, records: Any, held: Any, stored: Any) -> Any:
        return [texts([held[r], stored[r]]) for r in records]

    manager = session()
    records = [make(cf.Record(manager, Params(f"p{x}", x=x))) for x in (1, 2)]
    assert gather(cf.Record(manager, None), records).state["all"] == [[["A1"], ["A1"]], [["A2"], ["A2"]]]


@pytest.mark.parametrize("options", [{"dry": True}, {"dry_cache": True}])
def test_in_a_dry_run_the_files_last_as_long_as_the_session(
    session: Session, tmp_path: Path, options: dict[str, Any]
) -> None:
    @cf.stage(None, ["held", "stored", "own"], [None, PickleCacher, JsonCacher])
    def make(record: Any) -> Any:
        path = written(record, "a", "A")
        return {"p": path}, [Path(path)], {"own": record.stage_cachers[2].get_path()}

    @cf.stage(["held", "stored"], ["read"])
    def read(record: Any, held: Any, stored: Any) -> Any:
        return texts([held, stored])

    with session(**options) as manager:
        record = read(make(cf.Record(manager, None)))
        assert record.state["read"] == [{"p": "A"}, ["A"]]
        path = record.state["held"]["p"]
        assert Path(path).read_text() == "A"
        assert os.path.exists(record.state["own"]["own"])
        assert tmp_path not in Path(path).parents
    assert not os.path.exists(path)
    assert not (tmp_path / "cache").exists()


def test_without_claims_and_with_them_in_a_run(tmp_path: Path) -> None:
    """A run that is not live releases what it holds when the last reader is done."""

    @cf.stage(None, ["held"])
    def make(record: Any) -> Any:
        return [written(record, "a", "A")]

    @cf.stage(["held"], ["read"], [JsonCacher])
    def read(record: Any, held: Any) -> Any:
        return texts(held)

    for lease_seconds in (0.0, 60.0):
        config = Config(tmp_path, lease_seconds=lease_seconds)
        with cf.ArtifactManager(f"run{lease_seconds}", cache=str(tmp_path / "c"), config=config, live=False) as manager:
            manager._placement.parallel = 0
            record = read(make(cf.Record(manager, None)))
            manager.finish()
            assert record.state["read"] == ["A"]


# --- files of the cachers --------------------------------------------------------------------------------------------
def test_a_path_of_a_cacher_leads_to_its_file(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["one", "two", "held"], [JsonCacher, PickleCacher, None])
    def make(record: Any) -> Any:
        note(tmp_path / "calls")
        one, two, none = record.stage_cachers
        assert none is None
        return {"own": one.get_path(), "other": two.get_path()}, [1, 2], [two.get_path()]

    for _ in ("cold", "warm"):
        with session() as manager:
            state = make(cf.Record(manager, None)).state
            assert state["two"] == [1, 2]
            assert "other" in Path(state["one"]["own"]).read_text()
            for path in (state["one"]["other"], *state["held"]):
                assert pickle.loads(Path(path).read_bytes()) == [1, 2]
    assert (tmp_path / "calls").stat().st_size == 2


# --- what is refused -------------------------------------------------------------------------------------------------
class TextCacher(Cacheable):
    extension = ".txt"

    def save(self, obj: Any) -> None:
        Path(self.get_path("part")).write_text("." * (1 << 20) + obj)

    def load(self) -> Any:
        raise AssertionError("never stored")


HIDDEN = [
    pytest.param(lambda path: {path: 1}, JsonCacher, id="key"),
    pytest.param(lambda path: f"see {path}", JsonCacher, id="inside a text"),
    pytest.param(os.path.dirname, JsonCacher, id="the folder itself"),
    pytest.param(lambda path: pd.DataFrame({"p": [path]}), PandasCsvCacher, id="table"),
    pytest.param(lambda path: np.array([path]), NumpyCacher, id="array"),
    pytest.param(lambda path: str(Path(path)), TextCacher(), id="file of a cacher"),
    pytest.param(Holder, PickleCacher, id="attribute"),
    pytest.param(lambda path: Holder(Path(path)), PickleCacher, id="Path as attribute"),
    pytest.param(Holder, None, id="attribute of what is held"),
    pytest.param(lambda path: {Path(path): 1}, None, id="key of what is held"),
]


@pytest.mark.parametrize(("hide", "cacher"), HIDDEN)
def test_a_path_that_cannot_be_followed_is_refused(session: Session, hide: Any, cacher: Any) -> None:
    @cf.stage(None, ["right", "wrong"], [JsonCacher, cacher])
    def make(record: Any) -> Any:
        value = hide(written(record, "a.txt", "A"))
        if isinstance(cacher, TextCacher):  # where it would be taken for the path that it is
            value = "at " + value
        return 1, value

    with session() as manager:
        with pytest.raises(CacheError, match="output 'wrong' holds a path into the working folder") as caught:
            make(cf.Record(manager, None)).state["wrong"]
        assert "PathRef" in caught.value.fix
        assert "FileReferenceCacher" in caught.value.fix
        assert not manager.store.present([stem for stem in manager.graph[0].stems if stem])
        assert not [name for name in manager.store.objects.list() if "a.txt" in name]


@pytest.mark.parametrize("options", [{}, {"dry": True}])
@pytest.mark.parametrize("cacher", [JsonCacher, PickleCacher, None])
@pytest.mark.parametrize("form", [str, Path, lambda path: {"p": [path]}])
def test_a_path_to_which_nothing_was_written_is_an_error(
    tmp_path: Path, cacher: Any, form: Any, options: dict[str, Any]
) -> None:
    @cf.stage(None, ["path"], None if cacher is None else [cacher])
    def make(record: Any) -> Any:
        note(tmp_path / "calls")
        return form(record.get_path("m.ckpt"))

    with (
        cf.ArtifactManager("paths", cache=str(tmp_path / "cache"), config=Config(tmp_path), **options) as manager,
        pytest.raises(CacheError, match=r"wrote nothing to the path .* in the output 'path': '.*_m\.ckpt'"),
    ):
        make(cf.Record(manager, None)).state["path"]
    assert (tmp_path / "calls").stat().st_size == 1


def test_an_empty_folder_is_an_error(session: Session) -> None:
    @cf.stage(None, ["path"], [JsonCacher])
    def make(record: Any) -> Any:
        return [record.get_dir("empty")]

    with pytest.raises(CacheError, match="wrote nothing to the path"):
        make(cf.Record(session(), None)).state["path"]


def test_a_file_reference_to_another_cachers_file_is_refused(session: Session) -> None:
    @cf.stage(None, ["one", "two"], [JsonCacher, FileReferenceCacher])
    def make(record: Any) -> Any:
        Path(record.stage_cachers[0].get_path()).write_text("1")
        return 1, [record.stage_cachers[0].get_path()]

    with pytest.raises(CacheError, match="output 'two' holds a path into the working folder"):
        make(cf.Record(session(), None)).state["two"]


def test_what_cannot_be_pickled_stays_in_this_process(tmp_path: Path) -> None:
    @cf.stage(None, ["held"])
    def make(record: Any) -> Any:
        written(record, "a", "A")
        return threading.Lock()

    with cf.ArtifactManager("paths", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
        assert make(cf.Record(manager, None)).state["held"].acquire(blocking=False)


def test_an_earlier_stages_working_folder_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    """A log that names a working folder may be read and passed on: no later stage gets the same folder."""

    @cf.stage(None, ["log"], [PathRef])
    def first(record: Any) -> Any:
        return written(record, "log.txt", f"saved to {record.get_path('x')}")

    @cf.stage(["log"], ["text"])
    def second(record: Any, log: Any) -> Any:
        written(record, "own.txt", "own")
        return Path(log).read_text()

    cache = str(tmp_path / "cache")
    with cf.ArtifactManager("paths", cache=cache, config=Config(tmp_path), live=False, parallel=0) as manager:
        records = [second(first(cf.Record(manager, Params(x=x)))) for x in range(3)]
        manager.finish()
        assert all(record.state["text"].startswith("saved to") for record in records)


def test_a_manifest_that_names_other_files_is_damage(session: Session) -> None:
    @cf.stage(None, ["files"], [JsonCacher])
    def make(record: Any) -> Any:
        return [written(record, "a", "A")]

    manager = session()
    make(cf.Record(manager, None)).state["files"]
    manifest = manifest_of(manager)
    for noted in ({}, [1], [["x"]], [["../x", manifest.key]], [["other", manifest.key]]):
        manifest.extra_metadata[NOTE] = noted
        manager.store.objects.write(manifest.stem + "_metadata.json", manifest.to_bytes())
        assert texts(make(cf.Record(session(), None)).state["files"]) == ["A"]


# --- the parts -------------------------------------------------------------------------------------------------------
def test_what_holds_no_path_stays_the_same_object() -> None:
    value = {"a": [1, ("x", Frozen("y"))], "b": {"z"}, "c": Pair(1, 2), "d": Holder("x")}
    assert swapped(value, lambda text: None) is value


def test_values_that_hold_themselves_or_are_deep_come_to_an_end() -> None:
    loop: list[Any] = ["x"]
    loop.append(loop)
    assert swapped(loop, str.upper)[0] == "X"
    deep: list[Any] = ["x"]
    for _ in range(100_000):
        deep = [deep]
    assert swapped(deep, str.upper) is deep


def test_what_is_met_twice_stays_one_object() -> None:
    shared = ["x"]
    one, two = swapped([shared, shared], str.upper)
    assert one == ["X"]
    assert one is two


@given(st.data(), st.binary(max_size=60), st.binary(min_size=1, max_size=60))
def test_a_text_is_found_however_the_bytes_are_cut(data: Any, before: bytes, after: bytes) -> None:
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16-le", "utf-32-le"]))
    whole = before + "work-1a2b".encode(encoding) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    search = Search(["work-1a2b"])
    blocks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert True in [search.finds(block) for block in blocks]


@given(st.lists(st.binary(max_size=20)))
def test_nothing_is_found_where_nothing_is(blocks: list[bytes]) -> None:
    search = Search(["work-1a2b"])
    assert (b"work-1a2b" in b"".join(blocks)) == any(search.finds(block) for block in blocks)
