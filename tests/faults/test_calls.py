"""The outputs of one call of a stage belong together, whatever others commit meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest
from tests.conftest import DEMO, Project
from tests.faults.test_sharing import calls_of, read_until, team
from tests.processes import wait_for


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["train", "test"], [JsonCacher, PickleCacher])
def split(record: Any) -> Any:
    drawn = random.SystemRandom().random()
    return {"of": drawn}, {"of": drawn}


@cf.stage(["train", "test"], ["both"])
def compare(record: Any, train: Any, test: Any) -> Any:
    return [train["of"], test["of"]]


@cf.stage(["train"], ["seen"])
def look(record: Any, train: Any) -> Any:
    return train["of"]


def session(cache: Path, **options: Any) -> cf.ArtifactManager:
    return cf.ArtifactManager("calls", cache=str(cache), parallel=0, **options)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], Any]]]:
    """What is done, once each, when the second output of a split is about to be committed."""
    due: list[Callable[[], Any]] = []
    commit = ArtifactStore.commit

    def and_then(self: ArtifactStore, workspace: Any, manifest: Manifest, **options: Any) -> Manifest:
        if manifest.output == "test" and due:
            due.pop()()
        return commit(self, workspace, manifest, **options)

    monkeypatch.setattr(ArtifactStore, "commit", and_then)
    yield due
    assert not due


def stored(cache: Path) -> list[Manifest]:
    return [Manifest.from_bytes(path.read_bytes()) for path in sorted(cache.glob("*_split_t*_metadata.json"))]


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_calls_that_are_committed_at_once_leave_one(
    tmp_path: Path, between: list[Callable[[], Any]], overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "curidask.toml").write_text("lease_seconds = 0")
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"

    def other() -> None:
        with session(cache, overwrite=overwrite) as manager:
            record = compare(split(cf.Record(manager, Params())))
            assert len(set(record.state["both"])) == 1

    between.append(other)
    with session(cache, overwrite=overwrite) as manager:
        record = compare(split(cf.Record(manager, Params())))
        assert len(set(record.state["both"])) == 1
        assert record.state["train"] == record.state["test"]
    with session(cache) as manager:
        assert len(set(compare(split(cf.Record(manager, Params()))).state["both"])) == 1
    train, test = stored(cache)
    assert train.call == test.call != ""


@pytest.mark.parametrize("stage", [compare, look])
def test_a_mix_of_calls_is_made_again(tmp_path: Path, stage: Any) -> None:
    """Whoever reads one of the outputs notices, also when the other is not read."""
    caches = tmp_path / "one", tmp_path / "two"
    for cache in caches:
        with session(cache) as manager:
            split(cf.Record(manager, Params()))
    for path in caches[1].glob("*_split_test.*"):
        path.rename(caches[0] / path.name)
    mixed = stored(caches[0])
    assert mixed[0].call != mixed[1].call
    with session(caches[0]) as manager:
        record = stage(split(cf.Record(manager, Params())))
        assert record.state["train"] == record.state["test"]
    whole = stored(caches[0])
    assert whole[0].call == whole[1].call
    assert whole[0].call not in {manifest.call for manifest in mixed}


def test_inputs_that_a_stage_gets_are_of_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody overwrites them while they are being loaded."""
    due: list[Callable[[], Any]] = []
    usual = JsonCacher.load

    def and_then(self: JsonCacher) -> Any:
        value = usual(self)
        if due:
            due.pop()()
        return value

    def other() -> None:
        with session(tmp_path, overwrite=True) as manager:
            split(cf.Record(manager, Params()))

    monkeypatch.setattr(JsonCacher, "load", and_then)
    with session(tmp_path) as manager:
        record = split(cf.Record(manager, Params()))
        due.append(other)
        assert len(set(compare(record).state["both"])) == 1
        assert not due


def test_what_was_stored_without_the_id_of_a_call_is_used(tmp_path: Path) -> None:
    with session(tmp_path) as manager:
        split(cf.Record(manager, Params()))
    for manifest in stored(tmp_path):
        path = tmp_path / f"{manifest.stem}_metadata.json"
        old = {**{name: getattr(manifest, name) for name in manifest.__dataclass_fields__}, "call": ""}
        path.write_bytes(Manifest(**old).to_bytes())
    with session(tmp_path) as manager:
        compare(split(cf.Record(manager, Params())))
    assert [manifest.call for manifest in stored(tmp_path)] == ["", ""]


OVERWRITTEN = DEMO.replace(
    '    note(record, "load")',
    """    note(record, "load")
    import time
    (CALLS / "begun").touch()
    while not (CALLS / "open").exists():
        time.sleep(0.01)""",
).replace('CALLS = Path(__file__).parent.parent / "calls"', 'CALLS = Path("CALLS_FOLDER")')


def test_whoever_overwrites_claims(tmp_path: Path) -> None:
    first, second = team(tmp_path, str(tmp_path / "team"), OVERWRITTEN, 2)
    overwriting = overwrite(first)
    wait_for(lambda: (tmp_path / "calls" / "begun").exists())
    waiting = overwrite(second)
    read_until(waiting, "waiting for")
    (tmp_path / "calls" / "open").touch()
    for run in (overwriting, waiting):
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    assert calls_of(tmp_path)["load_set0"] == 2


def overwrite(machine: Project) -> Any:
    return machine.start("demo", "--overwrite", "--parallel", "0")
