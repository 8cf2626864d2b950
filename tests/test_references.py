"""Values that are paths: files elsewhere, and files that the stage itself writes into the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curidask as cf
from curidask.caching import FileReferenceCacher, JsonCacher, Lazy, PathRef
from curidask.errors import ArtifactMissingError, CacheError, ConfigurationError, CuridaskError
from curidask.session.config import Config
from curidask.store.artifacts import ArtifactStore
from tests.conftest import Project

Session = Callable[..., cf.ArtifactManager]


@pytest.fixture(params=["folder", "memory"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """Starts a live session on one cache; each is as good as a process of its own."""
    url = str(tmp_path / "cache") if request.param == "folder" else f"memory://{os.urandom(8).hex()}/cache"
    opened = []

    def start(**options: Any) -> cf.ArtifactManager:
        manager = cf.ArtifactManager("paths", cache=url, config=Config(tmp_path), **options)
        manager.store.near = tmp_path / f"near_{len(opened)}"
        opened.append(manager)
        return manager

    yield start
    for manager in opened:
        manager.close()


def written(record: Any, name: str, text: str) -> str:
    path = record.get_path(name)
    Path(path).write_text(text)
    return str(path)


# --- files of the stage ----------------------------------------------------------------------------------------------
def test_a_file_of_the_stage_is_there_in_a_later_session(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["model"], [PathRef])
    def train(record: Any) -> Any:
        calls.append(1)
        return Path(written(record, "model.bin", "weights"))

    @cf.stage(["model"], ["text"], [JsonCacher])
    def read(record: Any, model: Any) -> Any:
        return model.read_text()

    calls: list[int] = []
    with session() as manager:
        assert read(train(cf.Record(manager, None))).state["text"] == "weights"
    later = session()
    path = train(cf.Record(later, None)).state["model"]
    assert isinstance(path, Path)
    assert path.read_text() == "weights"
    assert calls == [1]
    assert later.store.verify_artifact(later.graph[0].stems[0] or "").tracked[0].size_bytes == 7
    assert "weights" not in str([p.read_text() for p in tmp_path.rglob("*train_model*.json")])


def test_folders_and_several_outputs_refer_to_the_files_of_one_stage(session: Session) -> None:
    @cf.stage(None, ["note", "folder", "parts", "missing"], [JsonCacher, PathRef, FileReferenceCacher, None])
    def split(record: Any) -> Any:
        folder = Path(record.get_dir("parts"))
        (folder / "deep").mkdir()
        for name in ("a", "deep/b"):
            (folder / name).write_text(record.params.name + name)
        both = {"files": [str(folder / "a"), folder / "deep/b"], "own": (written(record, "c", "c"),)}
        return "note", str(folder), both, None

    for params in (cf.ExperimentParameters("x"), cf.ExperimentParameters("x", overwrite=True)):
        state = split(cf.Record(session(), params)).state
        folder, parts = Path(state["folder"]), state["parts"]
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["a", "deep", "deep/b"]
        assert [Path(path).read_text() for path in parts["files"]] == ["xa", "xdeep/b"]
        assert [type(path) for path in parts["files"]] == [str, type(folder)]
        assert [Path(path).read_text() for path in parts["own"]] == ["c"]


def test_new_files_of_a_stage_take_the_place_of_old_ones(session: Session) -> None:
    @cf.stage(None, ["one", "two"], [PathRef, PathRef])
    def write(record: Any) -> Any:
        folder = Path(record.get_dir("folder"))
        (folder / f"name_{texts[-1]}").write_text(texts[-1])
        return folder, written(record, "file", texts[-1])

    texts = ["old"]
    write(cf.Record(session(), None))
    texts.append("new")
    manager = session(overwrite=True)
    record = write(cf.Record(manager, None))
    for state in (record.state, write(cf.Record(session(), None)).state):
        assert [path.name for path in state["one"].iterdir()] == ["name_new"]
        assert Path(state["two"]).read_text() == "new"
    for stem in manager.graph[0].stems:
        manager.store.verify_artifact(stem or "")


def test_a_damaged_file_of_the_stage_is_made_again(session: Session) -> None:
    @cf.stage(None, ["first", "path"], [JsonCacher, PathRef])
    def write(record: Any) -> Any:
        calls.append(1)
        return 1, written(record, "file.txt", "right")

    calls: list[int] = []
    manager = session()
    write(cf.Record(manager, None))
    (name,) = [n for n in manager.store.objects.list() if n.endswith("file.txt")]
    for damage in (lambda: manager.store.objects.write(name, b"wrong"), lambda: manager.store.objects.remove([name])):
        damage()
        assert Path(write(cf.Record(session(), None)).state["path"]).read_text() == "right"
    assert len(calls) == 3


def test_a_lazy_path(session: Session) -> None:
    @cf.stage(None, [Lazy("path", resolve=False)], [PathRef])
    def write(record: Any) -> Any:
        return written(record, "file.txt", "text")

    @cf.stage(["path"], ["text"])
    def read(record: Any, path: Any) -> Any:
        return Path(path.load()).read_text()

    assert read(write(cf.Record(session(), None))).state["text"] == "text"


@pytest.mark.parametrize("options", [{"dry": True}, {"dry_cache": True}])
def test_in_a_dry_run_the_files_last_as_long_as_the_session(
    session: Session, tmp_path: Path, options: dict[str, Any]
) -> None:
    @cf.stage(None, ["path"], [PathRef])
    def write(record: Any) -> Any:
        return written(record, "file.txt", "text")

    @cf.stage(["path"], ["text"])
    def read(record: Any, path: Any) -> Any:
        return Path(path).read_text()

    with session(**options) as manager:
        record = read(write(cf.Record(manager, None)))
        assert record.state["text"] == "text"
        path = record.state["path"]
        assert tmp_path not in Path(path).parents
    assert not os.path.exists(path)


# --- what a stage may not return -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cacher", "value", "text"),
    [
        (PathRef, "nothing/here", "nothing at the path"),
        (PathRef, ["a", "b"], "is a list, not a path"),
        (FileReferenceCacher, {"a": 3}, r"3 \(of type int\) is no path"),
        (FileReferenceCacher, {1: __file__}, "type dict.* is no path"),
        (FileReferenceCacher, [__file__, "nothing"], "nothing at the path 'nothing'"),
        (PathRef(path_override="out/a.txt"), __file__, "asks for 'out/a.txt'"),
    ],
)
def test_what_is_no_path_is_refused(session: Session, cacher: Any, value: Any, text: str) -> None:
    @cf.stage(None, ["path"], [cacher])
    def write(record: Any) -> Any:
        return value

    with pytest.raises(CacheError, match=text) as caught:
        write(cf.Record(session(), None))
    assert caught.value.fix


def test_an_empty_folder_of_the_stage_is_refused(session: Session) -> None:
    @cf.stage(None, ["path"], [PathRef])
    def write(record: Any) -> Any:
        return record.get_dir("empty")

    with pytest.raises(CacheError, match="is empty"):
        write(cf.Record(session(), None))


def test_an_unknown_way_to_verify_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sometimes"):
        FileReferenceCacher(verify="sometimes")


# --- files elsewhere -------------------------------------------------------------------------------------------------
def spoil(path: Path, how: str) -> None:
    match how:
        case "gone":
            path.unlink()
        case "other bytes":
            path.write_text("TEXT")
        case "longer":
            path.write_text("texts")


@pytest.mark.parametrize(
    ("verify", "how", "noticed"),
    [
        ("digest", "gone", True),
        ("digest", "other bytes", True),
        ("size", "other bytes", False),
        ("size", "longer", True),
        ("off", "longer", False),
        ("off", "gone", True),
    ],
)
def test_a_changed_file_makes_the_stage_run_again(
    session: Session, tmp_path: Path, verify: str, how: str, noticed: bool
) -> None:
    @cf.stage(None, ["path"], [FileReferenceCacher(verify=verify)])
    def write(record: Any) -> Any:
        calls.append(1)
        target.write_text("text")
        return target

    calls: list[int] = []
    target = tmp_path / "elsewhere.txt"
    manager = session()
    record = write(cf.Record(manager, None))
    write(cf.Record(session(), None)).state["path"]
    assert len(calls) == 1
    spoil(target, how)
    # In the session that made it, where the value is not held, and in another.
    record.state._given.clear()
    assert record.state["path"] == target
    assert len(calls) == 1 + noticed
    spoil(target, how)
    assert write(cf.Record(session(), None)).state["path"] == target
    assert len(calls) == 1 + 2 * noticed
    assert noticed == (target.exists() and target.read_text() == "text")


def test_a_file_more_in_a_folder_is_a_change(session: Session, tmp_path: Path) -> None:
    @cf.stage(None, ["paths"], [FileReferenceCacher])
    def write(record: Any) -> Any:
        calls.append(1)
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "a").write_text("a")
        for path in set((tmp_path / "folder").iterdir()) - {tmp_path / "folder" / "a"}:
            path.unlink()
        return [tmp_path / "folder"]

    calls: list[int] = []
    write(cf.Record(session(), None))
    (tmp_path / "folder" / "b").touch()
    assert write(cf.Record(session(), None)).state["paths"] == [tmp_path / "folder"]
    assert len(calls) == 2
    assert os.listdir(tmp_path / "folder") == ["a"]


def test_a_file_that_is_never_the_same_is_an_error(session: Session, tmp_path: Path) -> None:
    class Spoiling(FileReferenceCacher):
        def save(self, obj: Any) -> None:
            super().save(obj)
            Path(obj).write_text("spoiled")

    @cf.stage(None, ["path"], [Spoiling])
    def write(record: Any) -> Any:
        (tmp_path / "x").write_text("x")
        return tmp_path / "x"

    with pytest.raises(CuridaskError, match="was lost each time"):
        _ = write(cf.Record(session(), None)).state["path"]


# --- by itself -------------------------------------------------------------------------------------------------------
def test_inline_use(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with pytest.raises(ArtifactMissingError, match="is gone"):
        PathRef(file).load()
    with pytest.raises(CacheError, match="nothing at"):
        PathRef(file).save(str(file))
    file.write_text("text")
    PathRef(file).save(file)
    assert PathRef(file).load() == str(file)
    assert file.read_text() == "text"
    FileReferenceCacher(tmp_path / "refs.json").save((file, str(file)))
    assert FileReferenceCacher(tmp_path / "refs.json").load() == (file, str(file))
    file.write_text("tex")
    with pytest.raises(ArtifactMissingError, match="was changed"):
        FileReferenceCacher(tmp_path / "refs.json").load()


@given(
    form=st.recursive(
        st.sampled_from(["one.txt", "päth two", Path("one.txt"), Path("folder")]),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(deadline=None)
def test_any_form_of_paths_comes_back(tmp_path_factory: pytest.TempPathFactory, form: Any) -> None:
    base = tmp_path_factory.getbasetemp() / "forms"
    (base / "folder").mkdir(parents=True, exist_ok=True)
    for name in ("one.txt", "päth two", "folder/file"):
        (base / name).touch()

    def placed(value: Any) -> Any:
        match value:
            case str():
                return str(base / value)
            case Path():
                return base / value
            case dict():
                return {key: placed(item) for key, item in value.items()}
            case _:
                return type(value)(placed(item) for item in value)

    FileReferenceCacher(base / "refs.json").save(placed(form))
    assert FileReferenceCacher(base / "refs.json").load() == placed(form)


# --- an experiment ---------------------------------------------------------------------------------------------------
EXPERIMENT = """
from dataclasses import dataclass
from pathlib import Path

import curidask as cf
from curidask.caching import FileReferenceCacher, JsonCacher, PathRef


def note(record, stage):
    Path("calls").mkdir(exist_ok=True)
    with open(f"calls/{stage}_{record.name}", "a") as file:
        file.write("x")


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["outside"], [FileReferenceCacher])
def export(record):
    note(record, "export")
    Path(f"export_{record.params.x}.txt").write_text(f"exported {record.params.x}")
    return [Path(f"export_{record.params.x}.txt")]


@cf.stage(["outside"], ["model"], [PathRef])
def train(record, outside):
    note(record, "train")
    path = Path(record.get_path("model.bin"))
    path.write_text(outside[0].read_text().upper())
    return path


@cf.stage(None, ["fixed"], [PathRef("fixed/{x}.txt")])
def fix(record):
    note(record, "fix")
    Path("fixed").mkdir(exist_ok=True)
    Path(f"fixed/{record.params.x}.txt").write_text("fixed")
    return f"fixed/{record.params.x}.txt"


@cf.aggregate(["model", "fixed"], ["all"], [JsonCacher])
def gather(record, records, model, fixed):
    return [path.read_text() for path in model.values()] + [Path(path).read_text() for path in fixed.values()]


def get_params():
    return [Params("one"), Params("two", x=2)]


def run(param_sets, manager):
    records = [fix(train(export(cf.Record(manager, params)))) for params in param_sets]
    return gather(cf.Record(manager, None), records).state["all"], [r.state["outside"][0].name for r in records]
"""


@pytest.fixture(params=["0", "2"], ids=["in process", "2 workers"])
def run(request: pytest.FixtureRequest, project: Project) -> Callable[..., dict[str, int]]:
    """Runs the experiment and gives the calls it took."""
    project.write("experiments/paths.py", EXPERIMENT)

    def run_experiment(*flags: str) -> dict[str, int]:
        done = project.experiment("paths", "--parallel", request.param, *flags)
        assert done.returncode == 0, done.stderr
        return project.calls()

    return run_experiment


def test_an_experiment_with_paths(project: Project, run: Callable[..., dict[str, int]]) -> None:
    stages = ("export", "fix", "train")
    assert run() == {f"{stage}_{name}": 1 for stage in stages for name in ("one", "two")}
    assert run() == {}
    (project.root / "export_1.txt").write_text("by hand")
    (project.root / "fixed" / "2.txt").unlink()
    # What gather needs is cached, so only what is read is looked at: the exported file, by run() itself.
    assert run() == {"export_one": 1}
    assert (project.root / "export_1.txt").read_text() == "exported 1"
    for path in project.artifacts("gather"):
        path.unlink()
    assert run() == {"fix_two": 1}
    store = ArtifactStore.open(project.cache)
    assert {entry.name[-9:] for stem in present(store) for entry in store.verify_artifact(stem).tracked} == {
        "model.bin"
    }


def present(store: ArtifactStore) -> list[str]:
    end = "_metadata.json"
    return [name.removesuffix(end) for name in store.objects.list() if name.endswith(end)]
