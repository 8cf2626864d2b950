"""Copying artifacts between stores of every kind: whole, verified, under the same names."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curidask.core.artifact_names import manifest_name
from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CacheError
from curidask.store.artifacts import ArtifactStore
from curidask.store.copy import Result, copy_artifact, copy_artifacts
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.tiers import Tier, TieredStore
from tests.contracts.conftest import make_manifest, marker_of, read_checkout

FILES = {".txt": b"one", "_two.txt": b"two", "_folder/deep/three": b"3" * 3000}


@pytest.fixture
def target(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open(tmp_path / "copy" / "artifacts")


def objects(store: ArtifactStore) -> dict[str, bytes]:
    return {name: store.objects.read(name) for name in store.objects.list()}


def with_tracked(store: ArtifactStore, manifest: Manifest, names: dict[str, bytes]) -> Manifest:
    """Commit an artifact with files its stage wrote beside it, given by what follows the marker."""
    marker = marker_of(manifest)
    with store.workspace(manifest.stem, run="r") as workspace, store.workspace(marker, run="r") as beside:
        workspace.path(workspace.basename + ".txt").write_bytes(b"payload")
        for name, data in names.items():
            path = Path(f"{beside.folder}/{beside.basename}{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return store.commit(workspace, manifest, tracked=beside)


@pytest.mark.parametrize("back", [False, True], ids=["into a folder", "out of a folder"])
def test_a_copy_has_the_same_bytes_under_the_same_names(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest], back: bool
) -> None:
    source, target = (target, store) if back else (store, target)
    manifest = commit(source, make_manifest(subdir="models/big"), FILES)
    assert copy_artifact(source, target, manifest.stem) == manifest
    assert objects(target) == objects(source)
    assert read_checkout(target, manifest) == FILES
    target.clean("copy")
    if target.objects.local_root is not None:
        assert not list(target.objects.local_root.glob(".*"))


def test_tracked_files_go_along_but_for_those_that_are_not_to(store: ArtifactStore, target: ArtifactStore) -> None:
    manifest = with_tracked(store, make_manifest(), {"_log": b"a", "_plots/p.png": b"b", "-big": b"c", "-t/x": b"d"})
    copied = copy_artifact(store, target, manifest.stem, exact=True)
    names = [entry.name for entry in copied.tracked]
    assert sorted(name.rpartition("_")[2] for name in names) == ["log", "plots/p.png"]
    assert not [name for name in target.objects.list() if "-big" in name or "-t" in name]
    checkout = target.checkout(manifest.stem, manifest.key)
    assert sorted(path.read_bytes() for path in checkout.tracked.values()) == [b"a", b"b"]


def test_what_is_not_there_is_left_out_of_many(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest]
) -> None:
    manifests = [commit(store, make_manifest(str(i)), {".txt": bytes([i])}) for i in range(20)]
    absent = make_manifest("absent").stem
    done = copy_artifacts(store, target, [absent, *[m.stem for m in manifests], manifests[0].stem])
    assert [(one.stem, one.result) for one in done] == [
        (absent, Result.MISSING),
        *[(manifest.stem, Result.COPIED) for manifest in manifests],
    ]
    assert target.manifests(m.stem for m in manifests) == {m.stem: m for m in manifests}
    again = copy_artifacts(store, target, [m.stem for m in manifests])
    assert {one.result for one in again} == {Result.THERE}
    with pytest.raises(ArtifactMissingError):
        copy_artifact(store, target, absent)
    assert target.manifest(absent) is None


def test_damage_is_noticed_and_nothing_of_it_is_served(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest]
) -> None:
    good, bad = (commit(store, make_manifest(seed), FILES) for seed in "ab")
    torn = commit(store, make_manifest("c"), FILES)
    store.objects.write(bad.stem + "_two.txt", b"TWO")
    done = copy_artifacts(store, target, [good.stem, bad.stem])
    assert [one.result for one in done] == [Result.COPIED, Result.FAILED]
    assert bad.stem in done[1].problem
    assert target.manifest(bad.stem) is None
    store.objects.remove([torn.stem + ".txt"])
    with pytest.raises(ArtifactDamagedError):
        copy_artifact(store, target, torn.stem)
    assert target.manifest(torn.stem) is None


def test_a_whole_copy_stays_and_a_torn_one_is_replaced(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest]
) -> None:
    manifest = commit(store, make_manifest(), FILES)
    copy_artifact(store, target, manifest.stem, exact=True)
    path = target.objects.local_root / (manifest.stem + ".txt")  # type: ignore[operator]
    before = path.stat().st_ino
    copy_artifact(store, target, manifest.stem, exact=True)
    assert path.stat().st_ino == before
    path.write_bytes(b"torn")
    target.objects.write(manifest.stem + "_left_over.txt", b"of an older form")
    copy_artifact(store, target, manifest.stem, exact=True)
    assert objects(target) == objects(store)


def test_another_result_under_the_key_replaces_what_was_copied(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest]
) -> None:
    first = commit(store, make_manifest(), FILES)
    copy_artifact(store, target, first.stem, exact=True)
    second = commit(store, make_manifest(), {".txt": b"other"}, replace_whole=True)
    assert copy_artifact(store, target, second.stem, exact=True) == second
    assert objects(target) == objects(store)


def test_a_manifest_that_names_a_file_outside_is_no_manifest(
    store: ArtifactStore, target: ArtifactStore, commit: Callable[..., Manifest]
) -> None:
    manifest = commit(store, make_manifest(), FILES)
    forged = replace(manifest, tracked=(FileEntry("../../escaped", 3, "0" * 64),))
    store.objects.write(manifest_name(manifest.stem), forged.to_bytes())
    with pytest.raises(ArtifactMissingError):
        copy_artifact(store, target, manifest.stem, exact=True)
    assert not target.objects.list()


def test_a_target_that_is_only_read_refuses(
    store: ArtifactStore, tmp_path: Path, commit: Callable[..., Manifest]
) -> None:
    manifest = commit(store, make_manifest(), FILES)
    with pytest.raises(CacheError, match="reading only"):
        copy_artifact(store, ArtifactStore.open(tmp_path / "t", writable=False), manifest.stem)


def test_a_worker_that_stores_in_two_tiers_leaves_nothing_once_it_has_ended(tmp_path: Path) -> None:
    """Its empty working folders are those of the run, or are known to be a dead process's."""
    tiers = [Tier(ArtifactStore.open(tmp_path / name)) for name in ("own", "team")]
    pid = os.fork()
    if not pid:
        try:
            with_tracked(TieredStore(tiers), make_manifest(run="exp_1"), {"_a.txt": b"1"})  # type: ignore[arg-type]
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    store = TieredStore(tiers)
    assert store.manifest(make_manifest().stem) is not None
    store.clean("r")
    assert [path.name for tier in ("own", "team") for path in (tmp_path / tier).glob(".*")] == []
