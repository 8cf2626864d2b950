"""Published copies: where ``path_override`` says, equal to the artifact, written whole, and never the cache itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curidask as cf
from curidask.caching import Cacheable, JsonCacher, NumpyCacher, PathRef, PickleCacher
from curidask.errors import CacheError
from curidask.execution.listener import Listener
from curidask.session.config import Config
from tests.conftest import Project

Session = Callable[..., cf.ArtifactManager]


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


class Heard(Listener):
    """A listener that keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warned(self, text: str) -> None:
        self.texts.append(text)


class PartsCacher(Cacheable):
    """Writes a file, another beside it, and a folder."""

    extension = ".txt"

    def save(self, obj: dict[str, str]) -> None:
        Path(self.get_path()).write_text(",".join(obj))
        Path(self.get_path("count")).write_text(str(len(obj)))
        Path(self.get_path("more.csv")).write_text("a")
        for name, text in obj.items():
            path = Path(self.get_dir("parts"), name, "text")
            path.parent.mkdir()
            path.write_text(text)

    def load(self) -> dict[str, str]:
        folder = Path(self.get_dir("parts"))
        assert int(Path(self.get_path("count")).read_text()) == len(os.listdir(folder))
        return {name: (folder / name / "text").read_text() for name in Path(self.get_path()).read_text().split(",")}


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(params=["folder", "memory"])
def session(request: pytest.FixtureRequest, tmp_path: Path, heard: Heard) -> Iterator[Session]:
    """Starts a session on one cache, in a project in ``tmp_path/project``."""
    url = str(tmp_path / "cache") if request.param == "folder" else f"memory://{os.urandom(8).hex()}/cache"
    opened = []

    def start(**options: Any) -> cf.ArtifactManager:
        manager = cf.ArtifactManager("p", cache=url, config=Config(tmp_path / "project"), listeners=[heard], **options)
        opened.append(manager)
        return manager

    yield start
    for manager in opened:
        manager.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the tests publish."""
    return tmp_path / "project" / "out"


def stage_of(cacher: Any, value: Any = None) -> Callable[..., Any]:
    @cf.stage(None, ["a"], [cacher])
    def make(record: Any) -> Any:
        return {"x": record.params.x} if value is None else value

    return make


def tree(folder: Path) -> dict[str, str]:
    """The files for people: what begins with a dot says whose they are."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_text() for p in found}


def test_an_artifact_is_published_where_the_template_says(session: Session, out: Path, heard: Heard) -> None:
    make = stage_of(JsonCacher("out/{name}_{stage}_{x}.json"))
    for x in (1, 2):
        record = make(cf.Record(session(), Params("p", x=x)))
        assert JsonCacher(out / f"a_make_{x}.json").load() == {"x": x}
        assert record.state["a"] == {"x": x}
    hashed = stage_of(JsonCacher("out/{params_hash}.json"))(cf.Record(session(), Params("p")))
    assert JsonCacher(out / f"{hashed.get_hash()}.json").load() == {"x": 1}
    assert heard.texts == []
    assert len(tree(out)) == 3  # and nothing temporary


@pytest.mark.parametrize("change", ["missing", "of another set", "nothing"])
def test_what_is_reused_is_published_when_it_is_not_there_as_it_should(
    session: Session, out: Path, change: str
) -> None:
    make, path = stage_of(JsonCacher("out/a.json")), out / "a.json"
    make(cf.Record(session(), Params("p")))
    right = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "of another set":
        make(cf.Record(session(), Params("q", x=2)))
        assert path.read_bytes() != right
    before = path.stat().st_ino if path.exists() else 0
    make(cf.Record(session(), Params("p")))
    assert path.read_bytes() == right
    assert (path.stat().st_ino == before) == (change == "nothing")


@pytest.mark.parametrize("text", ['{"x": 2}', ""])
def test_what_somebody_changed_is_neither_overwritten_nor_believed(
    session: Session, out: Path, heard: Heard, text: str
) -> None:
    make, path = stage_of(JsonCacher("out/a.json")), out / "a.json"
    make(cf.Record(session(), Params("p")))
    path.write_text(text)
    assert make(cf.Record(session(), Params("p"))).state["a"] == {"x": 1}
    assert path.read_text() == text
    assert "changed since it was written" in heard.texts[-1]
    path.unlink()
    make(cf.Record(session(), Params("p")))
    assert JsonCacher(path).load() == {"x": 1}


# --- files of the user's own ---------------------------------------------------------------------------------------
def counted(cacher: Any, ran: Path, outputs: tuple[str, ...] = ("a",)) -> Callable[..., Any]:
    @cf.stage(None, list(outputs), [cacher] if len(outputs) == 1 else list(cacher))
    def make(record: Any) -> Any:
        with ran.open("a") as file:
            file.write("x")
        return {"x": record.params.x} if len(outputs) == 1 else [{"x": record.params.x}] * len(outputs)

    return make


def test_a_file_of_the_users_own_is_the_artifact_of_every_set(session: Session, out: Path, tmp_path: Path) -> None:
    out.mkdir(parents=True)
    (out / "a.json").write_text('{"mine": 1}')
    make = counted(JsonCacher("out/a.json"), tmp_path / "ran")
    for x in (1, 2):
        for _ in range(2):
            assert make(cf.Record(session(), Params(str(x), x=x))).state["a"] == {"mine": 1}
    assert tree(out) == {"a.json": '{"mine": 1}'}
    assert not (tmp_path / "ran").exists()


def test_another_file_of_the_users_is_another_artifact(session: Session, out: Path, tmp_path: Path) -> None:
    out.mkdir(parents=True)
    make = counted(JsonCacher("out/a.json"), tmp_path / "ran")

    @cf.stage(["a"], ["b"], [JsonCacher])
    def use(record: Any, a: Any) -> Any:
        return ["used", a]

    for text in ("1", "2", "1"):
        (out / "a.json").write_text(text)
        assert use(make(cf.Record(session(), Params("p")))).state["b"] == ["used", int(text)]
        assert (out / "a.json").read_text() == text
    (out / "a.json").unlink()
    assert use(make(cf.Record(session(), Params("p")))).state["b"] == ["used", {"x": 1}]
    assert (tmp_path / "ran").read_text() == "x"
    assert JsonCacher(out / "a.json").load() == {"x": 1}  # now it is a published copy


@pytest.mark.parametrize("how", [{"overwrite": True}, {"overwrite_stages": ["make"]}])
def test_overwriting_leaves_the_users_file_alone(
    session: Session, out: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    out.mkdir(parents=True)
    (out / "a.json").write_text("7")
    make = counted(JsonCacher("out/a.json"), tmp_path / "ran")
    assert make(cf.Record(session(**how), Params("p"))).state["a"] == 7
    assert (out / "a.json").read_text() == "7"
    assert not (tmp_path / "ran").exists()


def test_where_one_of_several_outputs_is_missing_the_stage_runs(
    session: Session, out: Path, tmp_path: Path, heard: Heard
) -> None:
    out.mkdir(parents=True)
    (out / "a.json").write_text("7")
    make = counted((JsonCacher("out/a.json"), JsonCacher("out/b.json")), tmp_path / "ran", ("a", "b"))
    assert make(cf.Record(session(), Params("p"))).output == ({"x": 1}, {"x": 1})
    assert tree(out).keys() == {"a.json", "b.json"}
    assert (out / "a.json").read_text() == "7"
    assert "not written by curidask" in heard.texts[-1]


def test_a_file_that_the_cacher_cannot_load_is_named(session: Session, out: Path, tmp_path: Path) -> None:
    out.mkdir(parents=True)
    (out / "a.json").write_text("no JSON")
    with pytest.raises(CacheError, match="could not load the file") as caught:
        _ = counted(JsonCacher("out/a.json"), tmp_path / "ran")(cf.Record(session(), Params("p"))).state
    assert str(out / "a.json") in caught.value.what
    assert (out / "a.json").read_text() == "no JSON"


def test_a_path_that_the_stage_was_to_write_itself_is_the_artifact_too(
    session: Session, out: Path, tmp_path: Path
) -> None:
    out.mkdir(parents=True)
    path = out / "raw_1.csv"
    path.write_text("1,2")

    @cf.stage(None, ["raw"], [PathRef(str(out / "raw_{x}.csv"))])
    def fetch(record: Any) -> str:
        written = out / f"raw_{record.params.x}.csv"
        written.write_text("fetched")
        return str(written)

    assert fetch(cf.Record(session(), Params("p"))).state["raw"] == str(path)
    assert path.read_text() == "1,2"
    assert fetch(cf.Record(session(), Params("q", x=2))).state["raw"] == str(out / "raw_2.csv")
    with session(overwrite=True) as again:  # what the stage wrote is its own, so it is written again
        assert fetch(cf.Record(again, Params("q", x=2))).output == str(out / "raw_2.csv")


def test_workers_load_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"mine": 1}')
    make = counted(JsonCacher("a.json"), tmp_path / "ran")
    with cf.ArtifactManager("p", cache=str(tmp_path / "cache"), config=Config(tmp_path), parallel=1) as manager:
        assert make(cf.Record(manager, Params("p"))).state["a"] == {"mine": 1}
    assert not (tmp_path / "ran").exists()


def test_what_is_not_needed_is_published_too(session: Session, out: Path) -> None:
    def trace(manager: cf.ArtifactManager) -> None:
        @cf.stage(["a"], ["b"], [JsonCacher("out/b.json")])
        def use(record: Any, a: Any) -> Any:
            return a

        use(stage_of(JsonCacher("out/a.json"))(cf.Record(manager, Params("p"))))
        manager.finish()

    trace(session(live=False))
    assert list(tree(out)) == ["a.json", "b.json"]
    for path in out.iterdir():
        path.unlink()
    trace(session(live=False))
    assert list(tree(out)) == ["a.json", "b.json"]


def test_several_files_and_folders_load_inline(session: Session, out: Path, tmp_path: Path) -> None:
    value = {"one": "1", "two": "22"}
    stage_of(PartsCacher("out/deep/result.text"), value)(cf.Record(session(), None))
    expected = {
        "deep/result.text": "one,two",
        "deep/result.text_count": "2",
        "deep/result.text_more.csv": "a",
        "deep/result.text_parts/one/text": "1",
        "deep/result.text_parts/two/text": "22",
    }
    assert tree(out) == expected
    assert PartsCacher(out / "deep" / "result.text").load() == value
    (out / "deep/result.text_parts/three").mkdir()
    (out / "deep/result.text_parts/three/text").write_text("left from another time")
    (out / "deep/result.text_more.csv").unlink()
    stage_of(PartsCacher("out/deep/result.text"), value)(cf.Record(session(), None))
    assert tree(out) == expected | {"deep/result.text_parts/three/text": "left from another time"}
    arrays = {"w": np.arange(3.0)}
    stage_of(NumpyCacher("out/arrays.npz", mmap_mode="r"), arrays)(cf.Record(session(), Params("other")))
    assert (NumpyCacher(out / "arrays.npz").load()["w"] == arrays["w"]).all()


def test_a_file_without_extension(session: Session, out: Path) -> None:
    stage_of(PickleCacher("out/model"), [1])(cf.Record(session(), None))
    assert list(tree_of_bytes(out)) == ["model"]
    assert PickleCacher(out / "model").load() == [1]


def tree_of_bytes(folder: Path) -> dict[str, bytes]:
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.mark.parametrize("options", [{"dry": True}, {"dry_cache": True}, {"map_only": True}])
def test_a_dry_run_publishes_nothing(session: Session, out: Path, options: dict[str, Any]) -> None:
    make = stage_of(JsonCacher("out/a.json"))
    make(cf.Record(session(**options), Params("p")))
    assert not out.exists()
    make(cf.Record(session(), Params("p")))
    (out / "a.json").unlink()
    make(cf.Record(session(**options), Params("p")))
    assert not (out / "a.json").exists()


def test_two_sets_at_one_path_are_named(session: Session, out: Path, heard: Heard) -> None:
    manager = session(live=False)
    make = stage_of(JsonCacher("out/a.json"))
    for number, name in enumerate(["first", "second", "third"]):
        make(cf.Record(manager, Params(name, x=number)))
    make(cf.Record(manager, Params("equal to the third", x=2)))
    manager.finish()
    assert len(heard.texts) == 1
    assert "(first)" in heard.texts[0]
    assert "(second)" in heard.texts[0]
    assert "{params_hash}" in heard.texts[0]
    assert JsonCacher(out / "a.json").load() == {"x": 2}


def test_a_new_value_takes_the_place_of_the_old_one(session: Session, out: Path, heard: Heard) -> None:
    path = out / "a.json"
    for x in (1, 2):
        stage_of(JsonCacher("out/a.json"))(cf.Record(session(), Params("p", x=x)))
        assert JsonCacher(path).load() == {"x": x}
    assert heard.texts == []  # not in one run


def test_absolute_paths_and_the_home_folder(session: Session, tmp_path: Path) -> None:
    stage_of(JsonCacher(tmp_path / "elsewhere" / "{x}.json"))(cf.Record(session(), Params("p")))
    stage_of(JsonCacher("~/home.json"))(cf.Record(session(), Params("p", x=2)))  # the tests' home is tmp_path
    assert JsonCacher(tmp_path / "elsewhere" / "1.json").load() == {"x": 1}
    assert JsonCacher(tmp_path / "home.json").load() == {"x": 2}


def test_paths_that_cannot_be_meant_are_refused_before_anything_runs(session: Session, out: Path) -> None:
    out.mkdir(parents=True)
    ran: list[int] = []
    for template, text in (("out/{y}.json", "'y'"), ("out", "names a folder"), ("new/", "names a folder")):

        @cf.stage(None, ["a"], [JsonCacher(template)])
        def make(record: Any) -> Any:
            ran.append(1)

        with pytest.raises(CacheError, match=text) as caught:
            make(cf.Record(session(), Params("p")))
        assert "make" in caught.value.where
    assert ran == []


def test_nothing_is_published_under_a_name_that_artifacts_have(tmp_path: Path) -> None:
    make = stage_of(JsonCacher("cache/a.0123456789ab.json"))
    with (
        cf.ArtifactManager("p", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager,
        pytest.raises(CacheError, match="that artifacts have"),
    ):
        make(cf.Record(manager, Params("p")))
    assert list((tmp_path / "cache").glob("[!.]*")) == []


def test_a_copy_beside_the_artifacts(tmp_path: Path) -> None:
    make = stage_of(JsonCacher("{cache}/best/{experiment}_{x}_{artifact_filename}"))
    for _ in range(2):
        with cf.ArtifactManager("p", cache=str(tmp_path / "cache"), config=Config(tmp_path)) as manager:
            record = make(cf.Record(manager, Params("p")))
            (copy,) = (tmp_path / "cache" / "best").glob("[!.]*")
            assert copy.name == f"p_1_p_{record.get_hash()}_make_a.json"
            assert JsonCacher(copy).load() == record.state["a"] == {"x": 1}
            assert len([name for name in manager.store.objects.list() if not name.startswith("best/")]) == 2
            copy.unlink()


class FolderCacher(Cacheable):
    """Writes a folder and nothing else."""

    def save(self, obj: str) -> None:
        Path(self.get_dir(), "part").write_text(obj)

    def load(self) -> str:
        return Path(self.get_dir(), "part").read_text()


def test_a_folder_takes_the_whole_path(session: Session, out: Path, heard: Heard) -> None:
    for _ in range(2):
        assert stage_of(FolderCacher("out/model"), "a")(cf.Record(session(), None)).state["a"] == "a"
        assert tree(out) == {"model/part": "a"}
        assert FolderCacher(out / "model").load() == "a"
    stage_of(FolderCacher("out/model"), "b")(cf.Record(session(), Params("other")))
    assert tree(out) == {"model/part": "b"}
    assert heard.texts == []
    (out / "model" / "own").write_text("somebody's")
    stage_of(FolderCacher("out/model"), "c")(cf.Record(session(), Params("third", x=3)))
    assert tree(out) == {"model/part": "b", "model/own": "somebody's"}
    assert "was changed since it was written" in heard.texts[0]


def test_what_cannot_be_written_is_a_warning_and_the_artifact_is_kept(
    session: Session, out: Path, heard: Heard
) -> None:
    out.parent.mkdir(parents=True)
    out.write_text("a file, where a folder is needed")
    record = stage_of(JsonCacher("out/a.json"))(cf.Record(session(), Params("p")))
    assert record.state["a"] == {"x": 1}
    assert len(heard.texts) == 1
    assert str(out / "a.json") in heard.texts[0]
    assert out.read_text().startswith("a file")


def test_a_damaged_artifact_is_not_published(session: Session, out: Path) -> None:
    make = stage_of(JsonCacher("out/a.json"))
    manager = session()
    make(cf.Record(manager, Params("p")))
    (name,) = [n for n in manager.store.objects.list() if not n.endswith("_metadata.json")]
    (out / "a.json").unlink()
    manager.store.objects.write(name, b'{"x": 9}')
    assert make(cf.Record(session(), Params("p"))).state["a"] == {"x": 1}
    assert JsonCacher(out / "a.json").load() == {"x": 1}


# --- an experiment ---------------------------------------------------------------------------------------------------
EXPERIMENT = """
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [PickleCacher])
def load(record):
    return list(range(record.params.x))


@cf.stage(["data"], ["score"], [JsonCacher("results/{x}/score.json")])
def score(record, data):
    return sum(data)


@cf.aggregate(["score"], ["table"], [JsonCacher("results/table.json")])
def gather(record, records, score):
    return list(score.values())


def get_params():
    return [Params(f"p{x}", x=x) for x in (3, 4, 5)]


def run(param_sets, manager):
    for params in param_sets:
        score(load(cf.Record(manager, params)))
    gather(cf.Record(manager, None))
"""


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_an_experiment_publishes_below_the_project(project: Project, parallel: str) -> None:
    project.write("experiments/publish.py", EXPERIMENT)
    results = project.root / "results"
    expected = {
        "3/score.json": "3",
        "4/score.json": "6",
        "5/score.json": "10",
        "table.json": "[\n    3,\n    6,\n    10\n]",
    }
    for flag in ("--map", "--dry", "--dry-cache"):
        assert project.experiment("publish", "--parallel", parallel, flag).returncode == 0
        assert not results.exists()
    assert project.experiment("publish", "--parallel", parallel).returncode == 0
    assert tree(results) == expected
    (results / "4" / "score.json").unlink()
    (results / "table.json").unlink()
    done = project.command("experiment", "publish", "--parallel", parallel)
    assert "everything was in the cache" in done.stderr
    assert tree(results) == expected
