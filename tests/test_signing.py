"""Keys, signatures, and what each forgery looks like."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.core.artifact_names import manifest_name
from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    ArtifactNewerError,
    ArtifactUntrustedError,
    ConfigurationError,
)
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest, split_signature, with_signature
from curidask.store.signing import VARIABLE, Keyring, signature_state
from curidask.store.tiers import Tier, TieredStore
from curidask.store.workspace import is_private
from tests.conftest import clean_environment
from tests.contracts.conftest import make_manifest

OURS, THEIRS = "the key of our team", "the key of another team"


def signed(manifest: Manifest, *keys: str) -> bytes:
    return Keyring(keys).sign(manifest.to_bytes())


def test_a_signature_is_ours_or_not() -> None:
    manifest, ours = make_manifest(), Keyring([OURS])
    good = signed(manifest, OURS)
    signature, _ = split_signature(good)
    moved = with_signature(replace(manifest, run="another").to_bytes(), signature)
    renamed = with_signature(manifest.to_bytes(), f"{ours.ids[0]}:{'0' * 64}")
    assert ours.problem(good) == ""
    assert Manifest.from_bytes(good) == manifest
    assert ours.problem(manifest.to_bytes()) == "not signed"
    assert ours.problem(signed(manifest, THEIRS)) == "signed with another key"
    assert ours.problem(moved) == ours.problem(renamed) == "forged"
    assert ours.problem(with_signature(manifest.to_bytes(), "no signature at all")) == "signed with another key"


def test_the_first_key_signs_and_all_verify() -> None:
    manifest = make_manifest()
    both = Keyring([OURS, THEIRS])
    assert both.sign(manifest.to_bytes()) == signed(manifest, OURS) != signed(manifest, THEIRS)
    assert both.problem(signed(manifest, THEIRS)) == ""
    assert both.sign(signed(manifest, THEIRS)) == signed(manifest, OURS)  # signed anew, not twice


def test_what_people_are_told_of_a_signature() -> None:
    manifest, ours = make_manifest(), Keyring([OURS])
    assert signature_state(manifest.to_bytes(), None) == "not signed"
    assert ours.ids[0] in signature_state(signed(manifest, OURS), None)
    assert signature_state(signed(manifest, OURS), ours).startswith("signed")
    assert signature_state(signed(manifest, THEIRS), ours).startswith("signed with another key")
    assert signature_state(b"torn", ours) == "damaged"


def test_keys_come_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours first\n{OURS}\n\n{THEIRS}\n")
    file.chmod(0o600)
    of_file = Keyring.load(str(file), {})
    of_variable = Keyring.load(str(file), {VARIABLE: f" {THEIRS} ,"})
    assert of_file is not None
    assert of_variable is not None
    assert of_file.ids == Keyring([OURS, THEIRS]).ids
    assert of_variable.ids == Keyring([THEIRS]).ids
    assert Keyring.load("", {}) is None


@pytest.mark.parametrize("value", ["", " ", " , ", ",,"])
def test_a_variable_that_is_set_but_empty_is_an_error(tmp_path: Path, value: str) -> None:
    file = tmp_path / "keys"
    file.write_text(OURS)
    file.chmod(0o600)
    for path in ("", str(file)):
        with pytest.raises(ConfigurationError, match=rf"empty(.|\n)*unset {VARIABLE}"):
            Keyring.load(path, {VARIABLE: value})


@pytest.mark.parametrize(("text", "mode"), [(None, 0), ("", 0o600), ("short", 0o600), (OURS, 0o644), (OURS, 0o660)])
def test_a_file_that_cannot_serve(tmp_path: Path, text: str | None, mode: int) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        Keyring.load(str(file), {})
    assert str(file) in str(caught.value)
    assert OURS not in str(caught.value)


@pytest.mark.parametrize(
    "made", [repr, str, pickle.dumps, lambda keys: pickle.dumps(ArtifactStore.open("x", keys=keys))]
)
def test_a_key_is_in_nothing_that_travels_or_is_shown(made: Callable[[Keyring], str | bytes]) -> None:
    shown = made(Keyring([OURS]))
    assert OURS not in (shown if isinstance(shown, str) else shown.decode("latin-1"))


@pytest.mark.parametrize("there", [OURS, THEIRS, ""])
def test_another_process_reads_the_key_itself_or_refuses_to_work(there: str) -> None:
    code = (
        "import pickle, sys\n"
        "from curidask.errors import ConfigurationError\n"
        "keys = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "try:\n    print(keys.problem(bytes.fromhex(sys.argv[2])) or 'ours')\n"
        "except ConfigurationError as error:\n    print('refused', error.fix)\n"
    )
    data = [pickle.dumps(Keyring([OURS])).hex(), signed(make_manifest(), OURS).hex()]
    env = clean_environment() | ({VARIABLE: there} if there else {})
    done = subprocess.run([sys.executable, "-c", code, *data], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ours" if there == OURS else "refused")
    assert (VARIABLE in done.stdout) == (there != OURS)


# --- in a store ------------------------------------------------------------------------------------------------------
@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def commit(store: ArtifactStore, seed: str, data: bytes) -> Manifest:
    manifest = make_manifest(seed)
    with store.workspace(manifest.stem, run="run_1") as space:
        (space.folder / (space.basename + ".bin")).write_bytes(data)
        return store.commit(space, manifest)


def test_a_store_with_a_key_reads_what_the_key_signed(place: Path) -> None:
    ours = ArtifactStore.open(place, keys=Keyring([OURS]))
    manifest = commit(ours, "a", b"data")
    assert ours.present([manifest.stem]) == {manifest.stem}
    assert ours.checkout(manifest.stem, manifest.key).manifest == manifest
    open_to_all = ArtifactStore.open(place)
    assert open_to_all.checkout(manifest.stem, manifest.key).manifest == manifest  # without a key all is trusted
    assert ArtifactStore.open(place, keys=Keyring([THEIRS, OURS])).present([manifest.stem]) == {manifest.stem}
    assert ArtifactStore.open(place, keys=Keyring([THEIRS])).present([manifest.stem]) == set()


@pytest.mark.parametrize("keys", [(), (THEIRS,)])
def test_what_is_not_signed_by_us_is_not_there(place: Path, keys: tuple[str, ...]) -> None:
    manifest = commit(ArtifactStore.open(place, keys=Keyring(keys) if keys else None), "a", b"data")
    ours = ArtifactStore.open(place, keys=Keyring([OURS]))
    assert ours.present([manifest.stem]) == set()
    assert ours.manifest(manifest.stem) is None
    assert "1 artifact is not trusted" in ours.notices()[0]
    for read in (lambda: ours.checkout(manifest.stem, manifest.key), lambda: ours.verify_artifact(manifest.stem)):
        with pytest.raises(ArtifactUntrustedError):
            read()
    assert commit(ours, "a", b"data") == ours.manifest(manifest.stem)  # made again, it takes the place


def test_a_signed_manifest_holds_for_its_own_artifact_only(place: Path) -> None:
    ours = ArtifactStore.open(place, keys=Keyring([OURS]))
    one, other = commit(ours, "a", b"one"), commit(ours, "b", b"other")
    for suffix in (".bin",):
        os.replace(f"{place}/{other.stem}{suffix}", f"{place}/{one.stem}{suffix}")
    os.replace(place / manifest_name(other.stem), place / manifest_name(one.stem))
    for others in ([], [make_manifest(f"other {number}").stem for number in range(20)]):  # few and many are asked for
        fresh = ArtifactStore.open(place, keys=Keyring([OURS]))
        assert fresh.present([one.stem, *others]) == set()
        (notice,) = fresh.notices()
        assert notice.startswith("1 artifact is not trusted")
        assert notice.endswith(": 1 signed for another artifact")
        assert fresh.present([one.stem, *others]) == set()
        assert fresh.notices() == []  # it was told
        with pytest.raises(ArtifactMissingError):
            fresh.checkout(one.stem, one.key)


# --- what was checked is what is loaded ------------------------------------------------------------------------------
def shared(place: Path) -> Path:
    """A folder in which others can write."""
    place.mkdir()
    place.chmod(0o777)
    return place


def test_whose_a_folder_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert is_private(mine / "cache") == (os.umask(os.umask(0o22)) & 0o22 == 0o22)
    (mine / "cache").mkdir(parents=True)
    mine.chmod(0o755)
    for mode, alone in ((0o700, True), (0o755, True), (0o775, False), (0o757, False), (0o1777, False)):
        (mine / "cache").chmod(mode)
        assert is_private(mine / "cache") == alone, oct(mode)
    (mine / "cache").chmod(0o755)
    for mode, alone in ((0o775, False), (0o777, False), (0o1777, True)):  # nobody renames others' in a sticky folder
        mine.chmod(mode)
        assert is_private(mine / "cache") == alone, oct(mode)
        assert not is_private(mine / "not" / "there")
    mine.chmod(0o755)
    shared(tmp_path / "all").joinpath("link").symlink_to(mine / "cache")
    assert not is_private(tmp_path / "all" / "link")
    (tmp_path / "link").symlink_to(tmp_path / "all")
    assert not is_private(tmp_path / "link")


def test_in_a_folder_of_others_what_was_checked_is_what_is_loaded(tmp_path: Path) -> None:
    place = shared(tmp_path / "cache")
    ours = ArtifactStore.open(place, keys=Keyring([OURS]), near=tmp_path / "near")
    manifest = commit(ours, "a", b"good")
    checkout = ours.checkout(manifest.stem, manifest.key)
    (place / f"{manifest.stem}.bin").write_bytes(b"evil")  # between the check and the use
    loaded = checkout.folder / f"{checkout.basename}.bin"
    assert loaded.read_bytes() == b"good"
    assert not loaded.is_relative_to(place)
    assert loaded.stat().st_nlink == 2  # of the near cache, whose folder is private
    assert stat.S_IMODE((tmp_path / "near").stat().st_mode) == 0o700
    fresh = ArtifactStore.open(place, keys=Keyring([OURS]), near=tmp_path / "other")
    with pytest.raises(ArtifactDamagedError):
        fresh.checkout(manifest.stem, manifest.key)
    with pytest.raises(ArtifactDamagedError):
        ours.verify_artifact(manifest.stem)  # a good copy says nothing about what others find
    assert commit(ours, "a", b"good") == manifest
    assert fresh.checkout(manifest.stem, manifest.key).manifest == manifest


def test_in_a_folder_of_ones_own_files_are_used_in_place(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    ours = ArtifactStore.open(tmp_path / "cache", keys=Keyring([OURS]))
    manifest = commit(ours, "a", b"good")
    assert ours.checkout(manifest.stem, manifest.key).folder == tmp_path / "cache"


@pytest.mark.parametrize("key", [OURS, ""])
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_working_folders_are_private(tmp_path: Path, key: str, mode: int) -> None:
    place = shared(tmp_path / "cache")
    place.chmod(mode)
    store = ArtifactStore.open(place, keys=Keyring([key]) if key else None)
    manifest = make_manifest("a")
    with store.workspace(manifest.stem, run="run_1") as space:
        assert stat.S_IMODE(space.folder.stat().st_mode) == 0o700
        # Who can write to the folder around it could put another one in its place, and have it signed.
        assert space.folder.is_relative_to(place) == (not key or mode == 0o755)


def test_with_a_key_every_file_is_hashed_whatever_is_configured(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    for verify in ("off", "size"):
        ours = ArtifactStore.open(tmp_path / "cache", keys=Keyring([OURS]), verify=verify)
        manifest = commit(ours, "a", b"good")
        (tmp_path / "cache" / f"{manifest.stem}.bin").write_bytes(b"evil")
        with pytest.raises(ArtifactDamagedError):
            ours.checkout(manifest.stem, manifest.key)


def test_tiers_with_a_key_go_through_private_copies_where_they_must(tmp_path: Path) -> None:
    team, keys = shared(tmp_path / "team"), Keyring([OURS])
    (tmp_path / "own").mkdir(mode=0o755)
    stores = [ArtifactStore.open(p, keys=keys, near=tmp_path / "near") for p in (tmp_path / "own", team)]
    tiers = TieredStore([Tier(store) for store in stores])
    manifest = make_manifest("a")
    with tiers.workspace(manifest.stem, run="run_1") as space:
        (space.folder / (space.basename + ".bin")).write_bytes(b"good")
        tiers.commit(space, manifest)
    assert [store.verify_artifact(manifest.stem).key for store in stores] == [manifest.key] * 2
    stores[0].discard(manifest.stem)
    assert tiers.checkout(manifest.stem, manifest.key).folder == tmp_path / "own"
    assert sorted(path.name[0] for path in team.iterdir()) == ["e", "e"]  # nothing is left but the artifact


def test_a_near_cache_that_a_group_can_write_to_is_made_private(tmp_path: Path) -> None:
    near = tmp_path / "near"
    near.mkdir()
    near.chmod(0o770)
    store = ArtifactStore.open(shared(tmp_path / "cache"), keys=Keyring([OURS]), near=near)
    manifest = commit(store, "a", b"good")
    store.checkout(manifest.stem, manifest.key)
    assert stat.S_IMODE(near.stat().st_mode) == 0o750


def test_a_newer_form_counts_only_when_it_is_signed(place: Path) -> None:
    ours = ArtifactStore.open(place, keys=Keyring([OURS]))
    manifest = commit(ours, "a", b"data")
    newer = replace(manifest, version=9).to_bytes()
    ours.objects.write(manifest_name(manifest.stem), newer)
    with pytest.raises(ArtifactUntrustedError):
        ours.checkout(manifest.stem, manifest.key)
    ours.objects.write(manifest_name(manifest.stem), Keyring([OURS]).sign(newer))
    with pytest.raises(ArtifactNewerError):
        ours.checkout(manifest.stem, manifest.key)


# --- a value that is loaded later ------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", [OURS, ""])
@pytest.mark.parametrize("kind", ["mine", "of others", "memory"])
def test_a_lazy_value_is_checked_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, kind: str
) -> None:
    if key:
        monkeypatch.setenv(VARIABLE, key)
    monkeypatch.setenv("CURIDASK_NEAR_CACHE", str(tmp_path / "near"))
    place = tmp_path / "cache"
    place.mkdir(mode=0o755)
    place.chmod(0o777 if kind == "of others" else 0o755)
    cache = f"memory://{os.urandom(8).hex()}/cache" if kind == "memory" else str(place)

    @cf.stage(None, [cf.Lazy("value", resolve=False)], [JsonCacher])
    def make(record: cf.Record) -> list[int]:
        return [1, 2, 3]

    @cf.stage(["value"], ["total"], [JsonCacher])
    def add(record: cf.Record, value: cf.Lazy) -> int:
        return sum(value.load())

    runs = str(tmp_path / "runs")
    with cf.ArtifactManager("exp", cache_path=cache, parallel=0, runs_path=runs) as manager:
        record = add(make(cf.Record(manager, None)))
        assert record.state["total"] == 6
        lazy = record.state["value"]
        assert lazy.load() == [1, 2, 3]
        assert pickle.loads(pickle.dumps(lazy.cacher)).load() == [1, 2, 3]
        files = [path for root in (place, tmp_path / "near") for path in root.rglob("*") if path.is_file()]
        payload = [path for path in files if json.loads(path.read_bytes() or b"0") == [1, 2, 3]]
        assert payload
        for path in payload:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes().replace(b"3", b"9"))
        with pytest.raises(ArtifactDamagedError, match="was changed"):
            lazy.load()
