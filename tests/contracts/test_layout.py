"""Folders come back as they were: with what can be run in them, and what is empty, from every kind of store."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import curidask as cf
from curidask.core.artifact_names import payload_name
from curidask.errors import UnsafeNameError
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.remote import Layout, lay_out, layout_of
from curidask.store.copy import copy_artifact
from curidask.store.manifest import Manifest
from curidask.store.tiers import Tier, TieredStore
from tests.contracts.conftest import make_manifest, marker_of

SCRIPT = "#!/bin/sh\necho hello\n"


def fill(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text(SCRIPT)
    (folder / "bin" / "run").chmod(0o755)
    (folder / "notes.txt").write_text("text")
    (folder / "checkpoints" / "old").mkdir(parents=True)


def check(folder: Path) -> None:
    told = subprocess.run([folder / "bin" / "run"], capture_output=True, text=True, check=True).stdout
    assert told == "hello\n"
    assert not os.stat(folder / "notes.txt").st_mode & 0o111
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "bin",
        "bin/run",
        "checkpoints",
        "checkpoints/old",
        "notes.txt",
    ]


def put(store: ArtifactStore | TieredStore, manifest: Manifest) -> Manifest:
    with store.workspace(manifest.stem, run="r") as own, store.workspace(marker_of(manifest), run="r") as beside:
        for space in (own, beside):
            fill(Path(space.folder, space.basename + "_tool"))
        Path(beside.folder, beside.basename + "_nothing").mkdir()
        return store.commit(own, manifest, tracked=beside)


def check_stored(store: ArtifactStore | TieredStore, manifest: Manifest) -> None:
    with store.using():
        checkout = store.checkout(manifest.stem, manifest.key)
        assert checkout.again is not None
        for _ in range(2):
            check(Path(checkout.folder, checkout.basename + "_tool"))
            for name in ("_tool", "_tool/checkpoints/old", "_nothing"):
                path = checkout.tracked_path(marker_of(manifest) + name)
                assert path is not None
                assert path.is_dir()
                assert name != "_tool" or check(path) is None
            checkout.again()
        assert not any("layout" in name for name in checkout.tracked)


def test_folders_come_back_as_they_were(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = put(store, make_manifest(subdir="models"))
    check_stored(store, manifest)
    again = ArtifactStore.open(store.url, near=tmp_path / "another machine")
    check_stored(again, manifest)
    assert again.whole(manifest.stem) == manifest


def test_content_that_others_read_is_not_made_executable(store: ArtifactStore, tmp_path: Path) -> None:
    with_bit = put(store, make_manifest())
    other = make_manifest("b")
    with store.workspace(other.stem, run="r") as space:
        space.path(space.basename + ".txt").write_text(SCRIPT)
        store.commit(space, other)
    fresh = ArtifactStore.open(store.url, near=tmp_path / "another machine")
    with fresh.using():
        before = fresh.checkout(other.stem, other.key)
        check_stored(fresh, with_bit)
        after = fresh.checkout(other.stem, other.key)
        for checkout in (before, after):
            assert not os.stat(Path(checkout.folder, checkout.basename + ".txt")).st_mode & 0o111


def test_they_are_copied_and_removed_with_it(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = put(store, make_manifest(subdir="models"))
    target, back = (ArtifactStore.open(tmp_path / name / "artifacts") for name in ("copy", "back"))
    for source, place in ((store, target), (target, store), (target, back)):
        place.discard(manifest.stem)
        assert copy_artifact(source, place, manifest.stem) == manifest
        check_stored(place, manifest)
    for place in (target, back):
        place.discard(manifest.stem)
        names = [name for name in place.objects.list() if name.startswith("models/")]
        place.objects.remove(names + place.objects.list())
        place.tidy()
        assert place.local_root is not None
        assert not list(place.local_root.iterdir())


def test_both_tiers_keep_them(folder_store: ArtifactStore, tmp_path: Path) -> None:
    second = ArtifactStore.open(tmp_path / "second")
    store = TieredStore([Tier(folder_store), Tier(second)])
    manifest = put(store, make_manifest())
    check_stored(folder_store, manifest)
    check_stored(second, manifest)


def test_what_was_not_run_and_not_empty_costs_no_file(store: ArtifactStore) -> None:
    manifest = make_manifest()
    with store.workspace(manifest.stem, run="r") as space:
        space.path(space.basename + "_dir").mkdir()
        space.path(space.basename + "_dir/x").write_text("x")
        store.commit(space, manifest)
    assert len(store.objects.list()) == 2


def test_another_bit_is_another_content(store: ArtifactStore) -> None:
    digests = set()
    for mode in (0o644, 0o755):
        with store.workspace(make_manifest().stem, run="r") as space:
            space.path(space.basename + ".sh").write_text(SCRIPT)
            os.chmod(space.path(space.basename + ".sh"), mode)
            digests.add(store.commit(space, make_manifest(), replace_whole=True).digest)
    assert len(digests) == 2


@pytest.mark.parametrize(("suffix", "extension"), [(".layout.json", ".txt"), (None, ".layout.json")])
def test_a_cacher_cannot_write_there(suffix: str | None, extension: str) -> None:
    with pytest.raises(UnsafeNameError, match="own metadata"):
        payload_name("base", suffix, extension)


# --- what a stranger may have put there ------------------------------------------------------------------------------
@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "foreign" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / "foreign" / "out.txt").write_text("outside")
    (folder / "a_x.txt").write_text("not among the files")
    (folder / "link").symlink_to(tmp_path)
    yield folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign"]
    assert sorted(path.name for path in (tmp_path / "foreign").iterdir()) == ["inner", "out.txt"]
    assert not any(path.stat().st_mode & 0o111 for path in (folder / "a_x.txt", tmp_path / "foreign" / "out.txt"))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"executable": 1, "folders": []}',
        '{"executable": [1], "folders": []}',
        json.dumps({"executable": ["/../../out.txt", "_x.txt"], "folders": ["/../../made", "/../link/made"]}),
        json.dumps({"executable": [], "folders": ["/../../made", "\0"]}),
        "[" * 5000,
    ],
)
def test_a_layout_of_another_form_changes_nothing(foreign: Path, said: str) -> None:
    (foreign / "a.layout.json").write_text(said)
    assert list(lay_out(str(foreign), ["a.layout.json"])) == []


def test_a_folder_is_not_made_through_a_link(foreign: Path) -> None:
    (foreign / "a_l").symlink_to(foreign.parent)
    (foreign / "a.layout.json").write_text(json.dumps({"executable": [], "folders": ["_l/made"]}))
    assert list(lay_out(str(foreign), ["a.layout.json"])) == []
    (foreign / "a_l").unlink()


# --- through a run ---------------------------------------------------------------------------------------------------
def test_a_later_stage_finds_them(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @cf.stage(outputs=["tool"], cachers=[cf.caching.PickleCacher])
    def build(record: cf.Record) -> str:
        folder = record.get_dir("tool")
        fill(Path(folder))
        return folder

    @cf.stage(inputs=["tool"], outputs=["told"])
    def use(record: cf.Record, tool: str) -> str:
        check(Path(tool))
        check(Path(record.get_dir("tool", stage_name="build")))
        return subprocess.run([f"{tool}/bin/run"], capture_output=True, text=True, check=True).stdout

    monkeypatch.setenv("CURIDASK_NEAR_CACHE", str(tmp_path / "near"))
    for _ in range(2):
        with cf.ArtifactManager("e", cache_path=url) as manager:
            record = use(build(cf.Record(manager, cf.ExperimentParameters(name="p"))))
            assert record.state["told"] == "hello\n"


def test_a_file_system_on_which_all_is_executable_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.layout.json"
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((0o100777, *[0] * 9)))
    assert not Layout(("a_x", "a_y")).write(str(path), "a")
    assert not path.exists()
    assert Layout(("a_x",), ("a_d",)).write(str(path), "a")
    assert layout_of(str(tmp_path), "a.layout.json") == Layout((), ("a_d",))
