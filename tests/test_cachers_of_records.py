"""Cachers with a record: their paths and templates, and what is said of the values they store."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

import curidask as cf
from curidask.caching import Cacheable, FileReferenceCacher, JsonCacher, Lazy, PathRef
from curidask.errors import ArtifactMissingError, CacheError
from curidask.session.config import Config
from tests.conftest import Project


@dataclass
class Model:
    depth: int = 3


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    model: Model = field(default_factory=Model)


class Told(JsonCacher):
    """Keeps what it sees of the metadata while it saves and loads."""

    seen: ClassVar[list[Any]] = []

    def save(self, obj: Any) -> str:
        self.extra_metadata["size"] = len(obj)
        Told.seen.append(("save", dict(self.metadata or {})))
        return super().save(obj)

    def load(self) -> Any:
        Told.seen.append(("load", dict(self.load_metadata() or {}), dict(self.extra_metadata)))
        return super().load()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("exp", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
        yield manager


# --- metadata --------------------------------------------------------------------------------------------------------
def test_the_metadata_of_a_stored_value_is_what_it_was_when_it_was_saved(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["value"], [Told(name="other")])
    def make(record: Any) -> Any:
        return [1, 2]

    Told.seen = []
    record = make(cf.Record(manager, Params("p", x=5)))
    assert record.state["value"] == [1, 2]
    (_, saved), (_, loaded, facts) = Told.seen
    assert saved["params_hash"] == record.get_hash()
    assert (saved["params_name"], saved["record_name"], saved["stage"]) == ("p", "Record 0 (p)", "make")
    assert (saved["artifact_name"], saved["extra"]) == ("value", {"size": 2})
    assert "Told" in saved["cacher_type"]
    assert saved["params"]["x"] == 5
    assert saved["manager_run_info"]["reference"] == manager.reference
    assert saved["manager_run_info"]["experiment_name"] == "exp"
    assert saved["manager_run_info"]["run_number"] == 1
    assert facts == {"size": 2}
    assert loaded.pop("preview") == "list of length 2"
    for when in (saved, loaded):
        assert re.match(r"\d{4}-\d\d-\d\dT", when.pop("artifact_generated"))
    assert loaded == {name: saved[name] for name in loaded}
    assert set(saved) - set(loaded) <= {"record_prior_stages", "prior_records"}


def test_a_lazy_value_has_its_metadata(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, [Lazy("value", resolve=False)], [Told])
    def make(record: Any) -> Any:
        return [1]

    record = make(cf.Record(manager, None))
    record.state.resolve = False
    lazy = record.state["value"]
    assert str(type(lazy)) == "<class 'curidask.caching.Lazy'>"
    assert lazy.cacher.load_metadata()["extra"] == {"size": 1}
    assert lazy.cacher.metadata["params_name"] is None
    assert lazy.cacher.metadata["params"] is None
    assert lazy.cacher.check() is True
    assert lazy.cacher.save_metadata() is None
    assert [p.name for p in Path(manager.config.root).glob("*_metadata.json")] == []


def test_metadata_of_a_value_that_is_stored_by_hand_for_a_record(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["a"], None)
    def make(record: Any) -> Any:
        return 1

    record = make(make(cf.Record(manager, Params("p"))))
    cacher = JsonCacher(name="foo", record=record)
    cacher.extra_metadata["k"] = 1
    cacher.save([1])
    cacher.save_metadata()
    other = JsonCacher(name="foo")
    other.set_record(record)
    found = other.load_metadata()
    assert found is not None
    assert (found["stage"], found["record_prior_stages"], found["extra"]) == ("make", [], {"k": 1})
    assert found["prior_records"] == []
    assert json.loads(Path(cacher.get_path("_metadata.json")).read_text()) == found


# --- paths -----------------------------------------------------------------------------------------------------------
def test_a_record_and_a_name_are_enough_for_a_path(manager: cf.ArtifactManager) -> None:
    record = cf.Record(manager, Params("p"))
    cacher = JsonCacher(name="foo", subdir="sub", prefix="pre", record=record)
    assert cacher.check() is False
    cacher.save([1])
    assert cacher.check() is True
    assert cacher.get_path() == record.get_path("foo.json", "sub", "pre")
    assert cacher.get_path("_part.txt") == record.get_path("foo_part.txt", "sub", "pre")
    assert JsonCacher(name="foo.json", record=record).get_path() == record.get_path("foo.json")
    assert PathRef(name="foo", record=record).get_path() == record.get_path("foo")
    assert Path(cacher.get_dir()) == Path(record.get_dir("foo", "sub", "pre"))
    assert Path(cacher.get_dir("_d")) == Path(record.get_dir("foo_d", "sub", "pre"))
    assert JsonCacher(name="foo", subdir="sub", prefix="pre", record=record).load() == [1]
    for wrong in (JsonCacher(record=record), JsonCacher(name="foo")):
        with pytest.raises(CacheError, match="without a path"):
            wrong.get_path()


def test_a_cacher_for_a_file_of_the_stage(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["path"], [PathRef])
    def make(record: Any) -> Any:
        cacher = JsonCacher(name="extra", record=record)
        cacher.save({"x": record.params.x})
        return cacher.get_path()

    path = make(cf.Record(manager, Params("p"))).state["path"]
    assert json.loads(Path(path).read_text()) == {"x": 1}
    assert path.endswith("extra.json")


FIELDS = "{experiment}|{params.x}|{x}|{params.model.depth}|{model.depth}|{hash}|{params_hash}|{stage}|{name}"


def test_what_a_template_names(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    record = cf.Record(manager, Params("p", x=2))
    cacher = JsonCacher(f"{{cache}}/{FIELDS}|{{artifact_filename}}", name="out", record=record)
    cacher.stage = "make"
    hash_ = record.get_hash()
    folder, _, file = cacher.get_path().rpartition("/")
    assert Path(folder) == tmp_path / "cache"
    assert file == f"exp|2|2|3|3|{hash_}|{hash_}|make|out|exp_{hash_}_make_out.json"
    cacher.save([1])
    assert cacher.load() == [1]
    cacher.stage = None
    cacher.path_override = "{artifact_filename}"
    assert cacher.get_path() == os.path.basename(record.get_path("out.json"))
    assert JsonCacher("{params.x}.json").get_path() == "{params.x}.json"  # there is nothing to fill in


def test_the_cache_has_no_folder_in_the_network(tmp_path: Path) -> None:
    url = f"memory://{os.urandom(8).hex()}/cache"
    with cf.ArtifactManager("exp", cache=url, config=Config(tmp_path)) as manager:
        record = cf.Record(manager, None)
        with pytest.raises(CacheError, match="'cache'") as caught:
            JsonCacher("{cache}/x.json", record=record).get_path()
    assert "where the cache is a folder" in caught.value.fix


TEMPLATES = """
from dataclasses import dataclass
from pathlib import Path

import curidask as cf
from curidask.caching import JsonCacher, PathRef


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


class Seen(JsonCacher):
    def save(self, obj):
        run = self.metadata["manager_run_info"]
        return super().save([self.override_path(), self.metadata["params_name"], run["experiment_name"]])


SEEN = Seen("{cache}/{experiment}_{params.x}_{stage}_{name}.json")


@cf.stage(None, ["seen", "raw"], [SEEN, PathRef("./raw/{params.x}.txt")])
def make(record):
    path = Path(f"./raw/{record.params.x}.txt")
    path.parent.mkdir(exist_ok=True)
    path.write_text(record.name)
    return None, "./raw/" + path.name


@cf.stage(["seen", "raw"], ["both"], [JsonCacher("out/{experiment}/{params.x}.json")])
def use(record, seen, raw):
    return [*seen, Path(raw).read_text()]


def get_params():
    return [Params("one"), Params("two", x=2)]


def run(param_sets, manager):
    return [use(make(cf.Record(manager, params))) for params in param_sets]
"""


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_templates_in_an_experiment(project: Project, parallel: str) -> None:
    project.write("experiments/temp.py", TEMPLATES)
    done = project.experiment("temp", "--parallel", parallel)
    assert done.returncode == 0, done.stderr
    for x, name in ((1, "one"), (2, "two")):
        path = project.cache / f"temp_{x}_make_seen.json"
        both = JsonCacher(project.root / "out" / "temp" / f"{x}.json").load()
        assert both == [str(path), name, "temp", name]
        assert JsonCacher(path).load() == both[:3]


# --- files -----------------------------------------------------------------------------------------------------------
def test_the_path_that_a_path_ref_asks_for(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Asked(PathRef):
        def save(self, obj: Any) -> str:
            asked.append(self.get_path())
            asked.append(self.check())
            return super().save(obj)

    @cf.stage(None, ["raw", "own"], [Asked(str(tmp_path / "{params.x}.csv")), Asked(extension=".txt")])
    def make(record: Any) -> Any:
        paths = [str(tmp_path / f"{record.params.x}.csv"), record.get_path("own.txt")]
        for path in paths:
            Path(path).write_text("a")
        return paths

    record = make(cf.Record(manager, Params("p")))
    assert asked[0] == str(tmp_path / "1.csv") == record.state["raw"]
    assert asked[2].endswith("own.txt")
    assert asked[1::2] == [True, True]
    record.state.resolve = False
    for name in ("raw", "own"):
        cacher = record.state[name].cacher
        assert cacher.get_path() == cacher.load()
        assert cacher.check() is True
        assert Path(cacher.get_path()).read_text() == "a"
    raw = record.state["raw"].cacher
    (tmp_path / "1.csv").write_text("b")
    assert raw.check() is False
    with pytest.raises(ArtifactMissingError, match="was changed"):
        raw.load()


def test_check_by_itself(tmp_path: Path) -> None:
    file, references = tmp_path / "a.txt", FileReferenceCacher(tmp_path / "refs.json")
    assert PathRef(file).check() is references.check() is False
    file.write_text("text")
    references.save([file])
    assert PathRef(file).check() is references.check() is True
    file.write_text("tex")
    assert PathRef(file).check() is True
    assert references.check() is False


def test_references_that_curifactory_wrote_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for paths in (str(tmp_path / "a.txt"), [str(tmp_path / "a.txt"), str(tmp_path)]):
        (tmp_path / "refs.json").write_text(json.dumps(paths))
        assert FileReferenceCacher(tmp_path / "refs.json").load() == paths
        assert FileReferenceCacher(tmp_path / "refs.json").check() is True
    (tmp_path / "a.txt").unlink()
    assert FileReferenceCacher(tmp_path / "refs.json").check() is False


def test_a_folder_without_a_name_is_stored(manager: cf.ArtifactManager) -> None:
    class FolderCacher(Cacheable):
        def save(self, obj: dict[str, str]) -> None:
            for name, text in obj.items():
                Path(self.get_dir(), name).write_text(text)

        def load(self) -> dict[str, str]:
            return {path.name: path.read_text() for path in Path(self.get_dir()).iterdir()}

    @cf.stage(None, ["files"], [FolderCacher])
    def make(record: Any) -> Any:
        return {"a": "1", "b": "2"}

    assert make(cf.Record(manager, None)).state["files"] == {"a": "1", "b": "2"}
    assert manager.store.verify_artifact(manager.graph[0].stems[0] or "").size_bytes == 2
