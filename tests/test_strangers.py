"""What comes out of a cache is data from a stranger: parsed once into checked types, and used as nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import curidask as cf
from curidask.caching import JsonCacher
from curidask.cli.cache.commands import cache_group
from curidask.core.artifact_names import files_stem, manifest_name
from curidask.core.json_text import NotJsonError
from curidask.errors import ArtifactDamagedError, ArtifactMissingError, ArtifactNewerError, CacheError
from curidask.session.terminal import say
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.claims import Claims, Held, Owner, claim_name
from curidask.store.copy import Result, copy_artifacts
from curidask.store.maintenance.gc import Policy, plan_gc
from curidask.store.maintenance.inventory import take_inventory
from curidask.store.maintenance.orphans import find_leftovers
from curidask.store.maintenance.usage import Uses, wait_for_gc
from curidask.store.manifest import Manifest, open_file, parse_json, printable
from curidask.store.tiers import Tier, TieredStore
from tests.conftest import Project
from tests.contracts.conftest import make_manifest, marker_of

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b1A\u202e"
"""Clears the screen, renames the window, moves the cursor, and turns the direction of writing."""
DEEP = "[" * 100_000
WRONG: list[Any] = [None, True, "x", [1], {"a": 1}, -1, 1.5, float("nan"), float("inf"), 1e300, 10**30]


def sealed(values: dict[str, Any]) -> bytes:
    """A manifest with the checksum that belongs to it, whatever it says."""
    body = json.dumps(values)[1:].encode()
    return b'{"checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'",\n' + body


def values_of(manifest: Manifest) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(manifest.to_bytes())
    del values["checksum"]
    return values


def commit(store: ArtifactStore, manifest: Manifest, data: bytes = b"1") -> Manifest:
    with store.workspace(manifest.stem, run="run_1") as space:
        space.path(space.basename + ".json").write_bytes(data)
        return store.commit(space, manifest)


# --- manifests -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("digest", ["../" * 21 + "x", "/" + "e" * 63, "Z" * 64, "A" * 64, "a" * 65, "a" * 63, ""])
def test_a_digest_is_64_hex_digits_and_never_a_path(tmp_path: Path, digest: str) -> None:
    values = values_of(make_manifest())
    with pytest.raises(ArtifactDamagedError):
        Manifest.from_bytes(sealed({**values, "key": digest}))
    with pytest.raises(ArtifactDamagedError):
        Manifest.from_bytes(sealed({**values, "files": [[".json", 1, digest]]}))


def test_a_digest_that_is_a_path_costs_the_reader_no_file(tmp_path: Path) -> None:
    objects, near = open_objects(f"memory://{os.urandom(8).hex()}/cache"), tmp_path / "near"
    store, manifest = ArtifactStore(objects, near=near), make_manifest()
    commit(store, manifest)
    store.checkout(manifest.stem, manifest.key)
    mine = tmp_path / "mine"
    mine.write_bytes(b"2")
    path = os.path.relpath(mine, near / "files" / "..")
    digest = path.rjust(64, "/")[-64:] if len(path) > 64 else "./" * ((64 - len(path)) // 2) + path
    digest = digest if len(digest) == 64 else "/" + digest
    objects.write(manifest_name(manifest.stem), sealed({**values_of(manifest), "files": [[".json", 1, digest]]}))
    with pytest.raises(ArtifactMissingError):
        store.checkout(manifest.stem, manifest.key)
    assert mine.read_bytes() == b"2"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("seconds", [None, "1", True, -1, float("nan"), float("inf"), 1e300, 10**400]),
        ("inputs", [[1], [{"name": 1}], [[]], {}]),
        ("packages", [{"numpy": 1}, {"numpy": None}, []]),
        ("run", [1, None, "x" * 1_000_000]),
        ("extra_metadata", [[], "x", 1]),
        ("files", [[[".json", size, "0" * 64]] for size in (-1, 1.0, True, 10**30, float("nan"))]),
        ("files", [[[name, 1, "0" * 64]] for name in ("/../x", "\0", "\\x", 1, None)]),
    ],
)
def test_fields_of_another_type_make_no_manifest(field: str, wrong: list[Any]) -> None:
    values = values_of(make_manifest())
    for value in wrong:
        with pytest.raises(ArtifactDamagedError):
            Manifest.from_bytes(sealed({**values, field: value}))


def test_depth_is_bounded_where_it_is_written_and_where_it_is_read() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    with pytest.raises(NotJsonError, match="too deeply"):
        make_manifest(extra_metadata={"a": deep}).to_bytes()
    with pytest.raises(ArtifactDamagedError):
        Manifest.from_bytes(sealed({**values_of(make_manifest()), "extra_metadata": {"a": deep}}))
    shallow: Any = 1
    for _ in range(98):
        shallow = [shallow]
    manifest = make_manifest(extra_metadata={"a": shallow})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    for data in (DEEP, b"[" * 200, "[" * 200 + "]" * 200, "x" * (2 << 20)):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(data)


def test_tracked_names_are_those_of_the_stage(tmp_path: Path) -> None:
    manifest, other = make_manifest("a", stage="train"), make_manifest("b", stage="other")
    entry = [1, "0" * 64]
    good = [f"{marker_of(manifest)}{after}" for after in ("_log.txt", "-big", ".reported/index.json", "_d/x")]
    fine = sealed({**values_of(manifest), "tracked": [[name, *entry] for name in good]})
    assert [item.name for item in Manifest.from_bytes(fine).tracked] == good
    bad = [
        "strays",
        manifest_name(other.stem),
        other.stem + ".json",
        manifest.stem + ".json",
        marker_of(other) + "_log.txt",
        marker_of(manifest) + ".json",
        marker_of(manifest),
        files_stem("exp", "0" * 32, "train", "c" * 64) + "_log.txt",
    ]
    for name in bad:
        with pytest.raises(ArtifactDamagedError, match="another stage"):
            Manifest.from_bytes(sealed({**values_of(manifest), "tracked": [[good[0], *entry], [name, *entry]]}))


def test_a_foreign_manifest_replaces_nothing_in_the_readers_own_tier(tmp_path: Path) -> None:
    own, team = ArtifactStore.open(tmp_path / "own"), ArtifactStore.open(tmp_path / "team")
    victim, bait = commit(own, make_manifest("victim"), b"mine"), commit(team, make_manifest("bait", stage="bait"))
    forged = b"evil"
    team.objects.write(victim.stem + ".json", forged)
    row = [victim.stem + ".json", len(forged), hashlib.sha256(forged).hexdigest()]
    team.objects.write(manifest_name(bait.stem), sealed({**values_of(bait), "tracked": [row]}))
    with pytest.raises(ArtifactMissingError):
        TieredStore([Tier(own), Tier(team)]).checkout(bait.stem, bait.key)
    assert own.objects.read(victim.stem + ".json") == b"mine"


# --- a newer form ----------------------------------------------------------------------------------------------------
def newer(manifest: Manifest, *, envelope: bool) -> bytes:
    values = {**values_of(manifest), "version": 7, "something": "new"}
    return sealed(values) if envelope else json.dumps(values).encode()


@pytest.mark.parametrize("envelope", [True, False])
def test_a_manifest_of_a_newer_form_is_told_and_left_alone(tmp_path: Path, envelope: bool) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    manifest, other = commit(store, make_manifest("a")), commit(store, make_manifest("b"))
    data = newer(manifest, envelope=envelope)
    store.objects.write(manifest_name(manifest.stem), data)
    before = {name: store.objects.read(name) for name in store.objects.list()}
    assert store.present([manifest.stem]) == {manifest.stem}  # so that nobody computes it once more
    assert store.manifests([manifest.stem, other.stem]).keys() == {other.stem}
    for act in (
        lambda: store.checkout(manifest.stem, manifest.key),
        lambda: store.verify_artifact(manifest.stem),
        lambda: commit(store, make_manifest("a"), b"2"),
        lambda: store.discard(manifest.stem),
    ):
        with pytest.raises(ArtifactNewerError, match=r"newer curidask(.|\n)*update curidask"):
            act()
    copied = copy_artifacts(store, ArtifactStore.open(tmp_path / "copy"), [manifest.stem, other.stem])
    assert [one.result for one in copied] == [Result.FAILED, Result.COPIED]
    assert {name: store.objects.read(name) for name in store.objects.list()} == before


def test_gc_and_the_lists_leave_a_newer_form_alone(tmp_path: Path) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    manifest = commit(store, make_manifest("a"))
    store.objects.write(manifest_name(manifest.stem), newer(manifest, envelope=True))
    store.objects.write("exp_h_s_files.0123456789ab_log", b"half")
    inventory = take_inventory(store)
    plan = plan_gc(inventory, [], Policy(unused_seconds=0, max_bytes=0, grace_seconds=0), time.time())
    assert (plan.remove, plan.halves) == ([], {})
    assert plan.protected == {"stored by a newer curidask": 1}
    for command in (["ls"], ["verify"], ["show", manifest.stem], ["du"], ["gc", "--unused", "1s", "--grace", "0s"]):
        done = CliRunner().invoke(cache_group, [*command, "--cache", str(tmp_path / "cache")])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        assert "newer" in done.output or command[0] == "du"
    assert store.objects.exists([manifest_name(manifest.stem), manifest.stem + ".json"])


# --- claims and what runs say of themselves --------------------------------------------------------------------------
def owner(**changes: Any) -> bytes:
    known = Owner("i" * 32, "session", "ada", "lab7", "there", 4711, 12.5, 1_700_000_000.0, 30.0)
    return json.dumps({**asdict(known), "beat": 0, **changes}).encode()


@pytest.mark.parametrize("field", ["id", "session", "user", "host", "place", "pid", "born", "since", "lease_seconds"])
def test_claims_of_the_wrong_form_hold_no_longer_than_ours(tmp_path: Path, field: str) -> None:
    objects = open_objects(tmp_path / "cache")
    assert Owner.from_bytes(owner()) is not None
    texts = ("id", "session", "user", "host", "place")
    for wrong in [value for value in WRONG if not (field in texts and isinstance(value, str))]:
        if field in ("born", "since") and wrong == 1.5:
            continue
        if field == "lease_seconds" and wrong == 1.5:
            continue
        data = owner(**{field: wrong})
        assert Owner.from_bytes(data) is None, wrong
        objects.write(claim_name("a", 0), data)
        found = Claims(objects, "mine", "bob", 5.0).take("a")
        assert isinstance(found, Held)
        assert found.lease_seconds == 5.0


@pytest.mark.parametrize(
    "data",
    [
        DEEP.encode(),
        b"null",
        b"[]",
        b"1",
        b"\xff",
        b"x" * (2 << 20),
        owner(lease_seconds=1e12),
        owner(lease_seconds=4e3),
    ],
)
def test_no_claim_makes_anybody_crash_or_wait_for_ever(tmp_path: Path, data: bytes) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    store.objects.write(claim_name("a", 0), data)
    found = Claims(store.objects, "mine", "bob", 5.0).take("a")
    assert isinstance(found, Held)
    assert found.lease_seconds == 5.0
    find_leftovers(store, Uses(store.objects), time.time(), 0.0)
    Claims(store.objects, "mine", "bob", 5.0).close(["a"])


def test_what_runs_say_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    objects = open_objects(tmp_path / "cache")
    good = {"reference": "exp_1", "user": "ada", "seen": 5.0, "started": 1.0, "stems": ["a"], "ended": True}
    objects.write(".runs/good-1/end.json", json.dumps(good).encode())
    number = 0
    for field in good:
        for wrong in WRONG:
            if (field in ("reference", "user") and wrong == "x") or (field == "ended" and wrong is True):
                continue
            if (field in ("seen", "started") and wrong == 1.5) or (field == "stems" and wrong in ([1], "x") is None):
                continue
            number += 1
            data = json.dumps({**good, "stems": ["evil"], field: wrong}).encode()
            objects.write(f".runs/bad-{number}/end.json", data)
    objects.write(".runs/deep-1/end.json", DEEP.encode())
    assert [(use.id, use.stems) for use in Uses(objects).refresh()] == [("good-1", {"a"})]


@pytest.mark.parametrize(
    "data", [DEEP, "[]", '{"who": 1, "stems": ["a"]}', '{"who": "x", "stems": [1]}', '{"stems": "a"}']
)
def test_nobody_waits_for_a_removal_of_the_wrong_form(tmp_path: Path, data: str) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    store.objects.write(".gc/x.json", data.encode())
    told: list[str] = []
    wait_for_gc(store.objects, {"a"}, told.append)
    assert told == []
    find_leftovers(store, Uses(store.objects), time.time(), 0.0)


# --- the terminal ----------------------------------------------------------------------------------------------------
def test_names_do_not_move_the_cursor() -> None:
    assert printable(f"a{EVIL}b\nc") == "a\ufffd]0;owned\ufffd\ufffd1A\ufffdb\ufffdc".replace(
        "a\ufffd", "a\ufffd[2J\ufffd", 1
    )
    assert printable("größe 数 🎉 \u00a0") == "größe 数 🎉 \u00a0"
    holder = Owner.from_bytes(owner(user="ada" + EVIL, host="lab\r7" + "x" * 1000))
    assert holder is not None
    assert "\x1b" not in holder.label
    assert "\r" not in holder.label
    assert len(holder.label) < 200


def test_what_the_command_says_has_colours_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a{EVIL}b\tc", fg="red")
    shown = capsys.readouterr().err
    assert not set("\x1b\x07\x9b\u202e") & set(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))
    say("10%\r20%", as_it_is=True)
    assert capsys.readouterr().err == "10%\r20%\n"


@pytest.mark.parametrize(
    "command", [["ls"], ["ls", "--json"], ["show", "train"], ["show", "train", "--json"], ["verify"]]
)
def test_the_commands_show_names_of_others_without_what_controls_a_terminal(tmp_path: Path, command: list[str]) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    texts = {name: f"{name}{EVIL}" for name in ("set_name", "preview", "run", "user", "host", "created", "cacher")}
    manifest = commit(store, make_manifest(**texts, params={f"p{EVIL}": EVIL}))
    assert EVIL not in "".join(getattr(store.manifest(manifest.stem), name) for name in texts if name != "set_name")
    use = {"reference": f"exp_1{EVIL}", "user": EVIL, "host": EVIL, "seen": 1.0, "stems": [manifest.stem]}
    store.objects.write(".runs/x-1/end.json", json.dumps(use).encode())
    done = CliRunner().invoke(cache_group, [*command, "--cache", str(tmp_path / "cache")])
    assert done.exit_code == 0, done.output
    assert not set("\x1b\x07\x9b\u202e\r") & set(done.output)


# --- what is no file -------------------------------------------------------------------------------------------------
def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_in_place_of_a_file_is_never_waited_for(tmp_path: Path) -> None:
    store = ArtifactStore.open(tmp_path / "cache")
    payload, manifest = commit(store, make_manifest("a")), commit(store, make_manifest("b"))
    put_pipe(tmp_path / "cache" / f"{payload.stem}.json")
    put_pipe(tmp_path / "cache" / manifest_name(manifest.stem))
    put_pipe(tmp_path / "cache" / claim_name("c", 0))
    code = (
        "import sys\n"
        "from curidask.errors import ArtifactMissingError\n"
        "from curidask.store.artifacts import ArtifactStore\n"
        "from curidask.store.claims import Claims\n"
        "store = ArtifactStore.open(sys.argv[1])\n"
        "for stem, key in ((sys.argv[2], sys.argv[3]), (sys.argv[4], sys.argv[5])):\n"
        "    try:\n        store.checkout(stem, key)\n"
        "    except ArtifactMissingError:\n        print('missing')\n"
        "print(type(Claims(store.objects, 's', 'u', 5.0).take('c')).__name__)\n"
    )
    arguments = [str(tmp_path / "cache"), payload.stem, payload.key, manifest.stem, manifest.key]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["missing", "missing", "Held"]
    with pytest.raises(IsADirectoryError):
        open_file("/dev/null")


@pytest.mark.parametrize("put", [put_pipe, lambda path: (path.unlink(), path.mkdir())], ids=["pipe", "folder"])
def test_what_lies_in_place_of_a_manifest_is_told_when_it_is_replaced(in_project: Project, put: Any) -> None:
    with cf.ArtifactManager("e", parallel=0) as manager:
        assert make_one(cf.Record(manager, None)).state["one"] == 1
    (path,) = (in_project.root / "data" / "cache").glob("e_*one*_metadata.json")
    put(path)
    with cf.ArtifactManager("e", parallel=0) as manager:
        assert make_one(cf.Record(manager, None)).state["one"] == 1
        (warning,) = [text for text in manager.run_record.warnings if "plain file" in text]
    assert f"{path.name!r} cannot be read: It is no plain file in {path.parent}; it counts as missing" in warning
    assert path.is_file()


@cf.stage(None, ["one"], [JsonCacher])
def make_one(record: cf.Record) -> int:
    return 1


def test_nothing_behind_a_link_is_changed(tmp_path: Path) -> None:
    """A link in a cache may lead anywhere, and a manifest may name any file below it."""
    objects, outside = open_objects(tmp_path / "cache"), tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    objects.write("other", b"1")
    (tmp_path / "cache" / "link").symlink_to(outside)
    (tmp_path / "new").write_text("new")
    for act in (
        lambda: objects.write("link/new", b"1"),
        lambda: objects.write("link/in/new", b"1", exclusive=True),
        lambda: objects.adopt(tmp_path / "new", "link/mine"),
        lambda: objects.copy_from(objects, ["link/mine"]),
    ):
        with pytest.raises(CacheError, match="'link' is a link"):
            act()
    objects.remove(["link/mine", "link/in/other"])
    assert [path.read_text() for path in outside.iterdir()] == ["mine"]


def test_a_link_in_the_place_of_a_folder_gives_way(tmp_path: Path) -> None:
    objects, outside = open_objects(tmp_path / "cache"), tmp_path / "outside"
    for folder in (outside, tmp_path / "new"):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    objects.write("other", b"1")
    (tmp_path / "cache" / "link").symlink_to(outside)
    objects.adopt(tmp_path / "new", "link")
    assert objects.read("link/file") == b"new"
    assert (outside / "file").read_text() == "outside"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["link", "other"]


def test_a_folder_in_the_place_of_a_file_gives_way(tmp_path: Path) -> None:
    objects = open_objects(tmp_path / "cache")
    for name in ("written", "copied", "removed"):
        (tmp_path / "cache" / name / "in").mkdir(parents=True)
        (tmp_path / "cache" / name / "in" / "file").write_text("1")
    objects.write("written", b"2")
    objects.write("other/copied", b"3")
    objects.copy_from(open_objects(tmp_path / "cache" / "other"), ["copied"])
    objects.remove(["removed", "other/copied"])
    assert objects.list() == ["copied", "written"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["copied", "written"]
