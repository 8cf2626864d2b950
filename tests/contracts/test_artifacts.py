"""What the artifact store promises on every place: whole or not there, never a wrong value."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curidask.core.artifact_names import ArtifactName, manifest_name, original_part, payload_name, safe_part, stem_of
from curidask.core.json_text import NotJsonError
from curidask.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    CacheError,
    ConfigurationError,
    UnsafeNameError,
)
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import FileEntry, Manifest
from tests.contracts.conftest import marker_of
from tests.processes import race

Make = Callable[..., Manifest]
Commit = Callable[..., Manifest]
Read = Callable[..., dict[str, bytes]]
Fresh = Callable[[], ArtifactStore]

FILES = {".json": b'{"a": 1}', "_weights.npz": b"\x00" * 3000, "_dir/x/a.txt": b"a", "_dir/b_metadata.json": b""}


# --- committing and reading ------------------------------------------------------------------------------------------
def test_what_is_committed_is_served(
    store: ArtifactStore, fresh: Fresh, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of(extra_metadata={"n": 1}, components={"stage": "train"}, seconds=1.5)
    committed = commit(store, manifest, FILES)
    assert read(store, manifest) == FILES
    assert read(fresh(), manifest) == FILES
    assert fresh().manifest(manifest.stem) == committed
    assert committed.extra_metadata == {"n": 1}
    assert {e.name: (e.size_bytes, e.sha256) for e in committed.files} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()
    }


def test_digests_depend_on_content_and_not_on_names_of_the_experiment(
    store: ArtifactStore, manifest_of: Make, commit: Commit
) -> None:
    one = commit(store, manifest_of(prefix="one"), {".json": b"1"})
    other = commit(store, manifest_of(prefix="other"), {".json": b"1"})
    third = commit(store, manifest_of(prefix="third"), {".json": b"2"})
    assert one.digest == other.digest != third.digest
    assert one.stem != other.stem


def test_a_cacher_that_writes_nothing_leaves_a_present_artifact(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    commit(store, manifest, {})
    assert store.present([manifest.stem]) == {manifest.stem}
    assert read(store, manifest) == {".empty": b""}


@pytest.mark.parametrize("n_asked", [3, 40])
def test_presence_needs_manifest_and_payload(
    store: ArtifactStore, manifest_of: Make, commit: Commit, n_asked: int
) -> None:
    manifests = [manifest_of(str(i), subdir="sub/dir" if i % 2 else "") for i in range(n_asked)]
    for manifest in manifests:
        commit(store, manifest, {"_dir/x_metadata.json": b"1"})
    stems = {manifest.stem for manifest in manifests}
    no_manifest, no_payload, *_ = [manifest.stem for manifest in manifests]
    store.objects.remove([manifest_name(no_manifest), no_payload + "_dir/x_metadata.json"])
    unknown = manifest_of("unknown").stem
    assert store.present(stems | {unknown}) == stems - {no_manifest, no_payload}
    assert set(store.manifests(stems | {unknown})) == stems - {no_manifest}


def test_payload_without_manifest_is_a_miss_and_can_be_committed_over(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    store.objects.write(manifest.stem + ".json", b"torn")
    store.objects.write(manifest.stem + "_dir/old", b"torn")
    with pytest.raises(ArtifactMissingError):
        store.checkout(manifest.stem, manifest.key)
    commit(store, manifest, {".json": b"whole", "_dir/new": b"whole"})
    assert read(store, manifest) == {".json": b"whole", "_dir/new": b"whole"}


def test_another_shape_of_payload_takes_the_place_of_torn_payload(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    for torn, files in [("_x/inner", {"_x": b"file"}), ("_x", {"_x/inner": b"folder"})]:
        store.objects.write(manifest.stem + torn, b"torn")
        commit(store, manifest, files)
        assert read(store, manifest) == files
        store.discard(manifest.stem)


def test_the_first_of_two_equal_artifacts_stays(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    first = commit(store, manifest, {".json": b"first"})
    second = commit(store, manifest_of(run="run_2"), {".json": b"second"})
    assert second == first
    assert read(store, manifest) == {".json": b"first"}


def test_replacing_puts_the_new_one_there(store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read) -> None:
    manifest = manifest_of()
    commit(store, manifest, {".json": b"first", "_extra.txt": b"gone"})
    commit(store, manifest_of(run="run_2"), {".json": b"second"}, replace_whole=True)
    assert read(store, manifest) == {".json": b"second"}
    assert len(store.objects.list(manifest.stem)) == 2
    commit(store, manifest_of(run="run_3"), {".json": b"second"}, replace_whole=True)
    again = store.manifest(manifest.stem)
    assert again is not None
    assert again.run == "run_3"
    assert read(store, manifest) == {".json": b"second"}


def test_another_cacher_replaces_what_it_cannot_load(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of(cacher="PickleCacher")
    commit(store, manifest_of(), {".json": b"1"})
    with pytest.raises(ArtifactMissingError, match="JsonCacher, not by PickleCacher"):
        store.checkout(manifest.stem, manifest.key, cacher="PickleCacher")
    commit(store, manifest, {".pkl": b"1"})
    assert read(store, manifest) == {".pkl": b"1"}
    assert store.checkout(manifest.stem, manifest.key, cacher="PickleCacher").basename == manifest.stem


def test_a_damaged_artifact_is_committed_anew(
    store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    commit(store, manifest, {".json": b"good"})
    store.objects.write(manifest.stem + ".json", b"evil")
    commit(store, manifest, {".json": b"good"})
    assert read(store, manifest) == {".json": b"good"}


def test_discarding_leaves_nothing(store: ArtifactStore, manifest_of: Make, commit: Commit) -> None:
    manifest, other = manifest_of("a"), manifest_of("b")
    commit(store, manifest, FILES)
    commit(store, other, FILES)
    store.discard(manifest.stem)
    assert store.present([manifest.stem, other.stem]) == {other.stem}
    assert store.objects.list(manifest.stem) == []
    store.discard(manifest.stem)
    assert store.verify_artifact(other.stem).key == other.key


def test_extra_metadata_that_is_not_json_names_cacher_and_place(
    store: ArtifactStore, manifest_of: Make, commit: Commit
) -> None:
    manifest = manifest_of(extra_metadata={"rows": [1, {"shape": {2, 3}}]})
    with pytest.raises(NotJsonError, match=r"\$\.rows\[1\]\.shape is a set") as caught:
        commit(store, manifest, {".json": b"1"})
    assert "JsonCacher" in str(caught.value)
    assert store.objects.list() == []


def test_a_store_for_reading_refuses_changes(store: ArtifactStore, manifest_of: Make, commit: Commit) -> None:
    manifest = manifest_of()
    commit(store, manifest, {".json": b"1"})
    before = sorted(store.objects.list())
    reader = ArtifactStore(store.objects, writable=False)
    with pytest.raises(CacheError, match="reading only"):
        commit(reader, manifest, {".json": b"2"}, replace_whole=True)
    with pytest.raises(CacheError, match="reading only"):
        reader.discard(manifest.stem)
    assert sorted(store.objects.list()) == before


def test_it_pickles_as_its_address(store: ArtifactStore, manifest_of: Make, commit: Commit, read: Read) -> None:
    commit(store, manifest_of(), FILES)
    data = pickle.dumps(ArtifactStore(store.objects, verify="size", writable=False, near=store.near))
    other = pickle.loads(data)
    assert len(data) < 500
    assert (other.url, other.verify, other.writable, other.near) == (store.url, "size", False, store.near)
    assert read(other, manifest_of()) == FILES


def test_tracked_files_belong_to_the_artifact(store: ArtifactStore, fresh: Fresh, manifest_of: Make) -> None:
    manifest = manifest_of("output")
    marker = marker_of(manifest)

    def commit_with(log: bytes, *, replace_whole: bool) -> Manifest:
        with store.workspace(marker, run="r") as files, store.workspace(manifest.stem, run="r") as workspace:
            workspace.path(workspace.basename + ".json").write_bytes(b"1")
            files.path(files.basename + "_log.txt").write_bytes(log)
            files.path(files.basename + "_plots").mkdir()
            files.path(files.basename + "_plots/a.png").write_bytes(b"png")
            return store.commit(workspace, manifest, tracked=files, replace_whole=replace_whole)

    def tracked() -> dict[str, bytes]:
        files = fresh().checkout(manifest.stem, manifest.key).tracked
        return {name.removeprefix(marker): path.read_bytes() for name, path in files.items()}

    first = commit_with(b"log", replace_whole=False)
    assert tracked() == {"_log.txt": b"log", "_plots/a.png": b"png"}
    assert commit_with(b"other", replace_whole=False) == first
    assert tracked()["_log.txt"] == b"log"
    again = commit_with(b"other", replace_whole=True)
    assert again.digest == first.digest
    assert tracked()["_log.txt"] == b"other"
    store.objects.write(marker + "_log.txt", b"ether")
    with pytest.raises(ArtifactDamagedError, match=r"_log\.txt"):
        fresh().checkout(manifest.stem, manifest.key)
    store.objects.remove([marker + "_log.txt"])
    with pytest.raises(ArtifactDamagedError, match=r"_log\.txt"):
        fresh().checkout(manifest.stem, manifest.key)
    commit_with(b"log", replace_whole=False)
    assert tracked()["_log.txt"] == b"log"
    store.discard(manifest.stem)
    assert store.objects.list() == []


# --- damage ----------------------------------------------------------------------------------------------------------
# Digests are taken of files in a folder, and of what is fetched on its way: the same for whatever it is fetched with.
BOTH_DIGESTS = pytest.mark.parametrize("url", ["folder", "memory"], indirect=True)


@BOTH_DIGESTS
def test_every_truncation_is_noticed(store: ArtifactStore, fresh: Fresh, manifest_of: Make, commit: Commit) -> None:
    manifest = manifest_of()
    commit(store, manifest, {".json": b'{"some": "value", "n": 12}', "_dir/b": b"xyz"})
    for name in store.objects.list(manifest.stem):
        whole = store.objects.read(name)
        for length in range(len(whole)):
            store.objects.write(name, whole[:length])
            with pytest.raises(ArtifactMissingError):
                fresh().checkout(manifest.stem, manifest.key)
        store.objects.write(name, whole)
    assert fresh().verify_artifact(manifest.stem).key == manifest.key


@BOTH_DIGESTS
def test_random_bit_flips_are_noticed(store: ArtifactStore, fresh: Fresh, manifest_of: Make, commit: Commit) -> None:
    manifest = manifest_of()
    commit(store, manifest, {".json": os.urandom(50), "_dir/b": b"xyz"})
    chance = random.Random(7)
    for name in store.objects.list(manifest.stem):
        whole = store.objects.read(name)
        for place in chance.sample(range(len(whole) * 8), k=min(100, len(whole) * 8)):
            changed = bytearray(whole)
            changed[place // 8] ^= 1 << place % 8
            store.objects.write(name, bytes(changed))
            with pytest.raises(ArtifactDamagedError):
                fresh().checkout(manifest.stem, manifest.key)
        store.objects.write(name, whole)
    assert fresh().verify_artifact(manifest.stem).key == manifest.key


def test_removed_and_added_files_are_noticed(
    store: ArtifactStore, fresh: Fresh, manifest_of: Make, commit: Commit, read: Read
) -> None:
    manifest = manifest_of()
    commit(store, manifest, FILES)
    for name in [manifest.stem + suffix for suffix in FILES]:
        whole = store.objects.read(name)
        store.objects.remove([name])
        with pytest.raises(ArtifactDamagedError, match="is gone"):
            fresh().checkout(manifest.stem, manifest.key)
        store.objects.write(name, whole)
    store.objects.write(manifest.stem + "_dir/more", b"x")
    if store.reads_are_cheap:
        with pytest.raises(ArtifactDamagedError, match="does not belong"):
            fresh().checkout(manifest.stem, manifest.key)
    else:  # only what is listed is downloaded
        folder = fresh().checkout(manifest.stem, manifest.key).folder
        assert sorted(path.name for path in (folder / (manifest.stem + "_dir")).iterdir()) == ["b_metadata.json", "x"]


def test_a_damaged_download_is_fetched_again(tmp_path: Path, manifest_of: Make, commit: Commit, read: Read) -> None:
    store = ArtifactStore.open(f"memory://{os.urandom(8).hex()}", near=tmp_path)
    manifest = manifest_of()
    commit(store, manifest, {".json": b"good"})
    checkout = store.checkout(manifest.stem, manifest.key)
    (checkout.folder / f"{checkout.basename}.json").write_bytes(b"evil")
    assert read(store, manifest) == {".json": b"good"}


def test_a_download_from_before_the_damage_does_not_hide_it_from_a_commit(
    tmp_path: Path, manifest_of: Make, commit: Commit, read: Read
) -> None:
    store = ArtifactStore.open(f"memory://{os.urandom(8).hex()}", near=tmp_path / "mine")
    manifest = manifest_of()
    commit(store, manifest, {".json": b"good"})
    assert read(store, manifest) == {".json": b"good"}
    store.objects.write(manifest.stem + ".json", b"evil")
    with pytest.raises(ArtifactDamagedError):
        store.verify_artifact(manifest.stem)
    commit(store, manifest, {".json": b"good"})
    assert read(ArtifactStore(store.objects, near=tmp_path / "other"), manifest) == {".json": b"good"}


def test_a_manifest_in_another_place_is_noticed(store: ArtifactStore, manifest_of: Make, commit: Commit) -> None:
    one, other = manifest_of("one"), manifest_of("other")
    commit(store, one, {".json": b"1"})
    commit(store, other, {".json": b"2"})
    store.objects.write(manifest_name(other.stem), store.objects.read(manifest_name(one.stem)))
    with pytest.raises(ArtifactDamagedError, match="another artifact"):
        store.checkout(other.stem, other.key)
    with pytest.raises(ArtifactMissingError, match="another key"):
        store.checkout(one.stem, one.key[:12] + "0" * 52)


@pytest.mark.parametrize("verify", ["digest", "size", "off"])
def test_verification_can_be_relaxed(
    folder_store: ArtifactStore, manifest_of: Make, commit: Commit, verify: str
) -> None:
    manifest = manifest_of()
    commit(folder_store, manifest, {".json": b"good"})
    relaxed = ArtifactStore(folder_store.objects, verify=verify)
    noticed = []
    for data in (b"evil", b"longer"):
        folder_store.objects.write(manifest.stem + ".json", data)
        try:
            relaxed.checkout(manifest.stem, manifest.key)
        except ArtifactDamagedError:
            noticed.append(data)
    assert noticed == {"digest": [b"evil", b"longer"], "size": [b"longer"], "off": []}[verify]
    with pytest.raises(ArtifactDamagedError):
        relaxed.verify_artifact(manifest.stem)


def test_an_unknown_verification_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sometimes"):
        ArtifactStore.open(tmp_path, verify="sometimes")


def test_a_forged_manifest_cannot_name_files_outside(store: ArtifactStore, manifest_of: Make, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for name in ("/../../../secret", "/" + str(secret), "\\..\\x"):
        entry = FileEntry(name, 6, hashlib.sha256(b"secret").hexdigest())
        for fields in ({"files": (entry,)}, {"tracked": (FileEntry("x" + name, 6, entry.sha256),)}):
            forged = manifest_of(**fields)
            store.objects.write(manifest_name(forged.stem), forged.to_bytes())
            with pytest.raises(ArtifactDamagedError):
                store.checkout(forged.stem, forged.key)


def test_manifests_of_the_wrong_form_are_refused(manifest_of: Make) -> None:
    fields = json.loads(manifest_of().to_bytes())
    del fields["checksum"]

    def sealed(values: object) -> bytes:
        body = json.dumps(values)[1:].encode()
        return b'{"checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'",\n' + body

    assert Manifest.from_bytes(sealed(fields)).key == fields["key"]
    wrong: list[object] = [
        [1],
        {**fields, "version": 0},
        {**fields, "version": True},
        {**fields, "more": 1},
        {**fields, "files": [["a", 1]]},
    ]
    wrong += [
        {**fields, "files": files} for files in ([["a", "1", "0" * 64]], [1], [["a", 1, "0"]], [[1, 1, "0" * 64]])
    ]
    wrong += [{**fields, "tracked": [["../a", 1, "0" * 64]]}]
    wrong += [{key: value for key, value in fields.items() if key != name} for name in fields if name != "call"]
    wrong += [{**fields, name: None} for name in fields]
    for values in wrong:
        with pytest.raises(ArtifactDamagedError):
            Manifest.from_bytes(sealed(values))
    for data in (b"", b"{}", b"null", json.dumps(fields).encode()):
        with pytest.raises(ArtifactDamagedError):
            Manifest.from_bytes(data)


def test_a_manifest_is_json_that_people_can_read(manifest_of: Make) -> None:
    manifest = manifest_of(preview="größe", params={"lr": float("inf"), "name": "x\ny"}, inputs=({"name": "data"},))
    data = manifest.to_bytes()
    fields = json.loads(data)
    assert fields["preview"] == "größe"
    assert len(data.splitlines()) == len(fields)
    assert Manifest.from_bytes(data) == manifest


def test_file_names_that_are_not_text_survive(manifest_of: Make) -> None:
    name = os.fsdecode(b"_\xff.bin")
    manifest = manifest_of(files=(FileEntry(name, 0, "0" * 64),))
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest


# --- several at once -------------------------------------------------------------------------------------------------
RACING = """
import sys
from pathlib import Path
from curidask.errors import ArtifactMissingError
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest
root, seal, me = sys.argv[1:]
store = ArtifactStore.open(root)
print("ready", flush=True)
sys.stdin.readline()
for round in range(60):
    manifest = Manifest.from_bytes(Path(seal).read_bytes())
    for n in range(3):
        with store.workspace(manifest.stem, run=me) as workspace:
            workspace.path(workspace.basename + "_a.bin").write_bytes(f"{me} {round} {n}".encode() * 50)
            workspace.path(workspace.basename + "_b.bin").write_bytes(f"{me} {round} {n}".encode() * 50)
            store.commit(workspace, manifest, replace_whole=round % 2 == 0)
    try:
        checkout = store.checkout(manifest.stem, manifest.key)
    except ArtifactMissingError as error:
        assert type(error) is ArtifactMissingError, error  # removed meanwhile, but never damaged
    if round % 5 == 0:
        store.discard(manifest.stem)
with store.workspace(manifest.stem, run=me) as workspace:
    workspace.path(workspace.basename + "_a.bin").write_bytes(me.encode())
    workspace.path(workspace.basename + "_b.bin").write_bytes(me.encode())
    print(store.commit(workspace, manifest).digest)
"""


def test_processes_that_commit_one_artifact_leave_one_whole_artifact(
    folder_store: ArtifactStore, tmp_path: Path, manifest_of: Make, read: Read
) -> None:
    manifest = manifest_of()
    (tmp_path / "seal").write_bytes(manifest.to_bytes())
    last = race(RACING, *((folder_store.url, str(tmp_path / "seal"), f"process-{i}") for i in range(2)))
    files = read(folder_store, manifest)
    assert len(set(files.values())) == 1
    assert folder_store.verify_artifact(manifest.stem).digest in {text.strip() for text in last}
    assert sorted(os.listdir(folder_store.url)) == sorted(
        [manifest.stem + name for name in ("_a.bin", "_b.bin", "_metadata.json")]
    )


# --- workspaces ------------------------------------------------------------------------------------------------------
def test_a_workspace_is_made_when_used_and_removed_whatever_happens(store: ArtifactStore, manifest_of: Make) -> None:
    with store.workspace(manifest_of().stem, run="run_1") as workspace:
        assert not os.path.exists(workspace.location)
        path = workspace.path(workspace.basename + "_part.txt")
        assert path.name == manifest_of().stem + "_part.txt"
        path.write_text("x")
        assert store.objects.list() == []
    assert not os.path.exists(workspace.location)
    workspace = store.workspace(manifest_of().stem, run="run_1")

    def fail() -> None:
        with workspace:
            workspace.path(workspace.basename + ".txt").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert workspace.made
    assert not os.path.exists(workspace.location)


def test_cleaning_removes_what_killed_workers_of_that_run_left(store: ArtifactStore, manifest_of: Make) -> None:
    mine = [store.workspace(manifest_of().stem, run="run") for _ in range(2)]
    other = store.workspace(manifest_of().stem, run="run-b")
    for workspace in (*mine, other):
        workspace.path(workspace.basename + "_x.txt").write_text("x")
    store.clean("run")
    assert [os.path.exists(workspace.location) for workspace in (*mine, other)] == [False, False, True]
    other.__exit__()
    store.clean("never")


def test_a_workspace_of_a_store_for_reading_lies_elsewhere(tmp_path: Path, manifest_of: Make) -> None:
    store = ArtifactStore.open(tmp_path / "cache", writable=False)
    with store.workspace(manifest_of().stem, run="r") as workspace:
        workspace.path(workspace.basename + ".json").write_text("1")
    assert list(tmp_path.iterdir()) == []


def test_links_become_files_and_what_is_no_file_is_refused(
    store: ArtifactStore, manifest_of: Make, tmp_path: Path, read: Read
) -> None:
    (tmp_path / "target").write_bytes(b"linked")
    manifest = manifest_of()
    with store.workspace(manifest.stem, run="r") as workspace:
        workspace.path(workspace.basename + "_a.txt").symlink_to(tmp_path / "target")
        workspace.path(workspace.basename + "_d").mkdir()
        workspace.path(workspace.basename + "_d/b.txt").symlink_to(tmp_path / "target")
        store.commit(workspace, manifest)
    (tmp_path / "target").write_bytes(b"changed")
    assert read(store, manifest) == {"_a.txt": b"linked", "_d/b.txt": b"linked"}
    with store.workspace(manifest.stem, run="r") as workspace:
        workspace.path(workspace.basename + "_a.txt").symlink_to(tmp_path / "nowhere")
        with pytest.raises(CacheError, match="plain files"):
            store.commit(workspace, manifest, replace_whole=True)
    with store.workspace(manifest.stem, run="r") as workspace:
        workspace.path(workspace.basename + "_a").symlink_to(tmp_path)
        with pytest.raises(CacheError, match="linking"):
            store.commit(workspace, manifest, replace_whole=True)
    assert read(store, manifest) == {"_a.txt": b"linked", "_d/b.txt": b"linked"}


@pytest.mark.parametrize("name", ["other.txt", "{}_metadata.json", "{}_a\\b"])
def test_files_outside_the_artifacts_own_names_are_refused(store: ArtifactStore, manifest_of: Make, name: str) -> None:
    manifest = manifest_of()
    with store.workspace(manifest.stem, run="r") as workspace:
        (workspace.folder / name.format(workspace.basename)).write_bytes(b"x")
        with pytest.raises((CacheError, UnsafeNameError)):
            store.commit(workspace, manifest)
    assert store.objects.list() == []


def test_a_cache_below_a_file_says_so(tmp_path: Path, manifest_of: Make, commit: Commit) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = ArtifactStore.open(tmp_path / "file" / "cache")
    assert store.present([manifest_of().stem]) == set()
    assert store.present([manifest_of(str(i)).stem for i in range(40)]) == set()
    with pytest.raises(ArtifactMissingError):
        store.checkout(manifest_of().stem, manifest_of().key)
    with pytest.raises(CacheError):
        store.check_writable()
    with pytest.raises(CacheError):
        commit(store, manifest_of(), {".json": b"1"})


# --- names -----------------------------------------------------------------------------------------------------------
ODD = "ab_.-/\\ \0\n%~é\U0001f600:*?0123456789abcdef\ud800"
WEIRD = st.text(st.sampled_from(ODD), max_size=20) | st.text(max_size=90)


@given(parts=st.tuples(WEIRD, WEIRD, WEIRD, WEIRD), subdir=WEIRD, seed=st.integers(0, 9))
def test_names_are_safe_short_and_found_again(parts: tuple[str, str, str, str], subdir: str, seed: int) -> None:
    prefix, params_hash, stage, output = parts
    key = hashlib.sha256(b"%d" % seed).hexdigest()
    stem = ArtifactName(prefix, params_hash, stage, output, key, subdir).stem
    components = stem.split("/")
    assert all(0 < len(component.encode()) <= 200 for component in components)
    assert not any(component.startswith(".") for component in components)
    assert stem.isascii()
    assert not set(stem) & set("\\ \0\n~:*?")
    for suffix in ("", ".json", "_part.0123456789ab.x", "_dir/x.0123456789ab/y", "_metadata.json"):
        assert stem_of(stem + suffix) == stem


@given(text=WEIRD)
def test_short_names_can_be_read_back(text: str) -> None:
    part = safe_part(text)
    if "%-" not in part:
        assert original_part(part) == text
        assert unquote(part, errors="surrogatepass") == text


@given(one=st.text(max_size=80), other=st.text(max_size=80))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (safe_part(one) == safe_part(other)) == (one == other)


def test_objects_that_are_no_artifacts_have_no_stem() -> None:
    for name in ("README.md", ".work-run-01234567/a_b_c_d.0123456789ab.json", "x/notes.txt", "", "a_b.0123456789a"):
        assert stem_of(name) is None


def test_weird_names_stay_in_the_root(
    store: ArtifactStore, tmp_path: Path, manifest_of: Make, commit: Commit, read: Read
) -> None:
    for name in ("../../x", "..", "/etc/x", "a/b", "ü \n*", "x" * 500):
        manifest = manifest_of(name, prefix=name, stage=name, output=name, subdir=f"{name}/sub")
        commit(store, manifest, {".json": name.encode()})
        assert read(store, manifest) == {".json": name.encode()}
        assert store.present([manifest.stem]) == {manifest.stem}
    assert {path.name for path in tmp_path.iterdir()} <= {"some", "near"}


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (None, "b.json"),
        ("", "b.json"),
        ("_part", "b_part"),
        ("part", "b_part"),
        (".part", "b.part"),
        ("weights.npz", "b_weights.npz"),
    ],
)
def test_payload_names(suffix: str | None, expected: str) -> None:
    assert payload_name("b", suffix, ".json") == expected


@pytest.mark.parametrize("suffix", ["a/b", "../x", "a\\b", "a\0b", "_metadata.json", "metadata.json"])
def test_unsafe_payload_names_are_refused(suffix: str) -> None:
    with pytest.raises(UnsafeNameError):
        payload_name("b", suffix, ".json")


# --- cost ------------------------------------------------------------------------------------------------------------
def test_presence_of_many_costs_one_listing_and_no_read(
    store: ArtifactStore, manifest_of: Make, commit: Commit
) -> None:
    manifests = [manifest_of(str(i)) for i in range(50)]
    for manifest in manifests:
        commit(store, manifest, {".json": b"1"})
    counting = CountingObjects(store.objects)
    stems = {manifest.stem for manifest in manifests}
    assert ArtifactStore(counting).present(stems) == stems  # type: ignore[arg-type]
    assert counting.calls in (["list"], ["entries"])


class CountingObjects:
    """Passes everything on and notes the names of the methods called."""

    def __init__(self, inner: object) -> None:
        self.inner = inner
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> object:
        value = getattr(self.inner, name)
        if callable(value):
            self.calls.append(name)
        return value
