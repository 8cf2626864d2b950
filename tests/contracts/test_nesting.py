"""A cache inside another: it is told, and nothing that cleans up the outer one touches it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from curidask.cli.cache.commands import cache_group
from curidask.errors import ConfigurationError
from curidask.store.artifacts import ArtifactStore
from curidask.store.copy import copy_artifact
from curidask.store.factory import open_tiers
from curidask.store.maintenance.gc import Policy, collect, plan_gc
from curidask.store.maintenance.inventory import take_inventory
from curidask.store.maintenance.orphans import find_leftovers
from curidask.store.maintenance.usage import RunReferences, Uses, inner_caches, outer_cache
from curidask.store.maintenance.verify import check_place
from curidask.store.manifest import Manifest
from curidask.store.signing import Keyring
from tests.contracts.conftest import make_manifest

OLD = "2020-01-01T00:00:00+00:00"


def say_used(store: ArtifactStore, stem: str) -> None:
    """Say what a run says that is over."""
    use = RunReferences([store.objects], reference="demo_1")
    use.register([stem])
    use.end([stem])


@pytest.fixture
def inner(url: str, store: ArtifactStore, commit: Callable[..., Manifest], tmp_path: Path) -> ArtifactStore:
    """A cache with an artifact that a run used, in a folder of the store, which has an old artifact of its own."""
    inner = ArtifactStore.open(f"{url}/projects/new", near=tmp_path / "near_inner")
    for place, seed in ((store, "mine"), (inner, "theirs")):
        commit(place, make_manifest(seed, created=OLD, subdir="deep"), {".json": b"1", "_b/.runs/x": b"no cache"})
        say_used(place, make_manifest(seed, subdir="deep").stem)
    return inner


def test_gc_of_the_outer_spares_the_inner(store: ArtifactStore, inner: ArtifactStore) -> None:
    inventory = take_inventory(store)
    assert inventory.inner == ("projects/new",)
    assert [entry.stem for entry in inventory.artifacts] == [make_manifest("mine", subdir="deep").stem]
    assert not [name for name in inventory.strays if name.startswith("projects/")]
    uses = Uses(store.objects)
    before = {name: inner.objects.read(name) for name in [*inner.objects.list(), *inner.objects.list(".runs/")]}
    later = time.time() + 30 * 86400
    plan = plan_gc(inventory, uses.refresh(), Policy(unused_seconds=0, grace_seconds=0), later)
    done = collect(store, inventory, plan, uses, who="the test", grace_seconds=0)
    assert done.stems == [make_manifest("mine", subdir="deep").stem]
    assert {name: inner.objects.read(name) for name in [*inner.objects.list(), *inner.objects.list(".runs/")]} == before
    assert take_inventory(inner).inner == ()


@pytest.mark.parametrize("keys", [None, Keyring(["a key of a team that is long enough"])], ids=["plain", "signed"])
def test_an_inner_one_that_only_copies_were_put_into_is_spared(
    url: str, commit: Callable[..., Manifest], tmp_path: Path, keys: Keyring | None
) -> None:
    source = ArtifactStore.open(tmp_path / "source", keys=keys)
    outer = ArtifactStore.open(url, near=tmp_path / "near", keys=keys)
    inner = ArtifactStore.open(f"{url}/projects/new", near=tmp_path / "near_inner", keys=keys)
    mine, theirs = make_manifest("mine", created=OLD, subdir="deep"), make_manifest("theirs", created=OLD, subdir="x")
    commit(outer, mine, {".json": b"1"})
    commit(source, theirs, {".json": b"1"})
    copy_artifact(source, inner, theirs.stem)
    inner.objects.write(make_manifest("half").stem + ".json", b"half")
    inventory = take_inventory(outer)
    assert inventory.inner == ("projects/new",)
    assert [entry.stem for entry in inventory.artifacts] == [mine.stem]
    assert not inventory.halves
    assert [entry.stem for entry in take_inventory(inner).artifacts] == [theirs.stem]


def test_the_inner_is_told_where_it_lies(store: ArtifactStore, inner: ArtifactStore) -> None:
    inner.objects.probe_exclusive()
    store.objects.probe_exclusive()
    steps = {step.name: step for step in check_place(store.objects, read_only=True)}
    assert "projects/new" in steps["list"].says
    assert "a place of its own" not in steps
    if store.objects.shared:  # what only this process sees keeps no note that it creates exclusively
        assert outer_cache(inner.objects) == store.url
        step = {step.name: step for step in check_place(inner.objects, read_only=True)}["a place of its own"]
        assert store.url in step.says
        assert not step.ok
        assert not step.needed


def test_an_artifact_s_own_folder_is_no_cache() -> None:
    stem = make_manifest("a", subdir="sub").stem
    assert inner_caches([f"{stem}_files/.runs/x", f"{stem}.json", "a/b/.runs/x/1.json", "a/b/c/.exclusive.json"]) == (
        "a/b",
    )


def test_temporary_files_of_a_cache_inside_are_its_own(tmp_path: Path) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    inner = ArtifactStore.open(tmp_path / "cache" / "sub")
    say_used(inner, "x")
    for place in (store, inner):
        with place.workspace("stem", run="run_1") as space:
            (space.folder / "x").write_text("1")
            place.objects.write("a", b"1")
            os.makedirs(f"{place.local_root}/.tmp-1-2-3", exist_ok=True)
            found = find_leftovers(store, Uses(store.objects), time.time() + 90 * 86400, 0)
            assert not [path for path in found.paths if "sub" in path.parts]


@pytest.mark.parametrize("tiers", [["data/cache", "data/cache/sub"], ["s3://b/team/x", "s3://b/team"]])
def test_a_tier_inside_another_is_refused(tiers: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="lies inside another"):
        open_tiers(tiers)


def test_commands_tell_what_they_leave_out(
    tmp_path: Path, commit: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curidask.toml").write_text('cache = "cache"\n')
    for place in ("cache", "cache/sub"):
        store = ArtifactStore.open(tmp_path / place)
        commit(store, make_manifest(place, created=OLD), {".json": b"1"})
        say_used(store, "x")
    for command in (["ls"], ["du"], ["gc", "--unused", "1d"], ["verify"]):
        cache_group.main(command, standalone_mode=False)
        said = capsys.readouterr()
        assert "left out: sub" in said.err, command
        assert "2 artifacts" not in said.out
    assert take_inventory(ArtifactStore.open(tmp_path / "cache" / "sub")).artifacts
