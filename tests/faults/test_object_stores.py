"""What a place in the network may do to us: refuse, throttle, break, lie, lose replies, be gone, come back."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curidask.errors import ArtifactDamagedError, ArtifactMissingError, CacheError, ObjectMissingError
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends import conditional_put
from curidask.store.backends.base import ObjectStore, Stored, open_objects
from curidask.store.manifest import Manifest
from tests.careless_s3 import CarelessS3, Way
from tests.contracts.conftest import make_manifest
from tests.faulty import CountingObjects, FaultyObjects
from tests.s3proxy import S3Proxy
from tests.s3server import S3Server, free_ports

CLIENTS = ["fsspec", "obstore"]
PASSING = ["slow_down", "internal_error", "reset", "lost_reply", "truncated"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client is used."""
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", request.param)
    return str(request.param)


@pytest.fixture
def objects(client: str, s3_proxy: S3Proxy, s3: str) -> Iterator[ObjectStore]:
    """An empty place behind the proxy, reached by a client that has already made a connection."""
    objects = open_objects(s3, retry_seconds=10)
    objects.write("first", b"1")
    s3_proxy.reset_counts()
    return objects


def write_artifact(store: ArtifactStore, manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    with store.workspace(manifest.stem, run=f"faults-{os.getpid()}") as workspace:
        for suffix, data in files.items():
            Path(f"{workspace.folder}/{workspace.basename}{suffix}").write_bytes(data)
        return store.commit(workspace, manifest)


def read_artifact(store: ArtifactStore, manifest: Manifest) -> dict[str, bytes]:
    checkout = store.checkout(manifest.stem, manifest.key)
    start = f"{checkout.folder}/{checkout.basename}"
    return {entry.name: Path(start + entry.name).read_bytes() for entry in checkout.manifest.files}


# --- what passes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", PASSING)
def test_what_fails_for_the_moment_is_tried_again(
    objects: ObjectStore, s3_proxy: S3Proxy, how: str, tmp_path: Path
) -> None:
    content = {f"n{number}": b"%d" % number * 100 for number in range(5)}
    (tmp_path / "file").write_bytes(b"file" * 100)

    def twice_each(kinds: str) -> None:
        s3_proxy.fail(how, kinds, times=2)

    twice_each("put")
    for name, data in content.items():
        objects.write(name, data)
    twice_each("get")
    assert objects.read("n3") == content["n3"]
    twice_each("list")
    assert set(objects.list()) == {"first", *content}
    twice_each("head")
    assert objects.exists([*content, "nothing"]) == set(content)
    twice_each("get")
    assert objects.read_many([*content, "nothing"]) == content
    twice_each("put")
    objects.adopt(tmp_path / "file", "file")
    twice_each("get")
    objects.fetch("file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"file" * 100
    twice_each("copy")
    other = open_objects(f"{objects.url}/other", retry_seconds=10)
    other.copy_from(objects, ["file"])
    assert other.read("file") == b"file" * 100
    twice_each("bulk_delete")
    twice_each("delete")
    objects.remove(["n1"])
    objects.remove(["n2", "n3"])
    assert set(objects.list("n")) == {"n0", "n4"}
    if how != "truncated":  # not every reply has something that could be missing
        assert s3_proxy.injected[how] >= 12


@pytest.mark.parametrize("how", PASSING)
def test_large_files_pass_though_parts_of_them_fail(
    objects: ObjectStore, s3_proxy: S3Proxy, how: str, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes((17 << 20) + 5)
    (tmp_path / "large").write_bytes(data)
    expected = Stored(len(data), hashlib.sha256(data).hexdigest())
    for kind in ("part", "multipart", "get"):
        s3_proxy.fail(how, kind, times=2)
    assert objects.adopt_many({"large": tmp_path / "large"}) == {"large": expected}
    assert objects.fetch("large", tmp_path / "copy") == expected
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == expected.sha256
    assert s3_proxy.injected[how] >= 2


def test_everything_completes_with_one_in_twenty_requests_failing(
    objects: ObjectStore, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    s3_proxy.fail_by_chance(0.05, seed=5, hows=["slow_down", "internal_error", "reset", "lost_reply", "truncated"])
    store = ArtifactStore(objects, near=tmp_path / "near")
    manifests = [make_manifest(str(number)) for number in range(60)]
    for number, manifest in enumerate(manifests):
        write_artifact(store, manifest, {".json": b"%d" % number, "_b.bin": b"x" * number})
    assert store.present([manifest.stem for manifest in manifests]) == {manifest.stem for manifest in manifests}
    for number, manifest in enumerate(manifests):
        assert read_artifact(store, manifest) == {".json": b"%d" % number, "_b.bin": b"x" * number}
    assert sum(s3_proxy.injected.values()) >= 15


def test_a_body_that_is_changed_on_the_way_is_fetched_again(
    objects: ObjectStore, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    store = ArtifactStore(objects, near=tmp_path / "near")
    manifest = make_manifest()
    large = random.Random(2).randbytes(20 << 20)
    write_artifact(store, manifest, {"_small.txt": b"small" * 100, "_large.bin": large})
    s3_proxy.fail("corrupted", "get", times=1, name="_metadata.json")
    s3_proxy.fail("corrupted", "get", times=1, name="_small.txt")
    s3_proxy.fail("corrupted", "get", times=1, name="_large.bin")
    assert read_artifact(store, manifest) == {"_small.txt": b"small" * 100, "_large.bin": large}
    assert s3_proxy.injected["corrupted"] == 3


def test_what_is_always_changed_on_the_way_is_never_served(
    objects: ObjectStore, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    store = ArtifactStore(objects, near=tmp_path / "near")
    manifest = make_manifest()
    write_artifact(store, manifest, {".bin": b"data" * 100})
    s3_proxy.fail("corrupted", "get", times=1000, name=".bin")
    with pytest.raises((ArtifactDamagedError, CacheError)):
        read_artifact(store, manifest)
    assert not [path for path in (tmp_path / "near").rglob("*") if path.is_file()]


# --- exclusive creation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["lost_reply", "reset", "slow_down", "internal_error"])
def test_a_lost_reply_does_not_make_an_owner_lose_to_itself(objects: ObjectStore, s3_proxy: S3Proxy, how: str) -> None:
    assert objects.probe_exclusive()
    s3_proxy.fail(how, "put", times=2, name="claim")
    assert objects.write("claim", b"owner 1", exclusive=True) is True
    assert s3_proxy.injected[how] == 2
    s3_proxy.fail(how, "put", times=1, name="claim")
    assert objects.write("claim", b"owner 2", exclusive=True) is False
    assert objects.read("claim") == b"owner 1"


def test_of_many_creators_with_lost_replies_one_wins(objects: ObjectStore, s3_proxy: S3Proxy) -> None:
    assert objects.probe_exclusive()
    s3_proxy.fail("lost_reply", "put", times=6, name="claim")
    start = threading.Barrier(12)

    def claim(owner: bytes) -> bytes | None:
        start.wait()
        return owner if objects.write("claim", owner, exclusive=True) else None

    with ThreadPoolExecutor(12) as pool:
        won = [owner for owner in pool.map(claim, [b"owner %d" % number for number in range(12)]) if owner]
    assert won == [objects.read("claim")]


@pytest.mark.parametrize("way", ["ignores", "races"])
def test_a_server_that_does_not_keep_the_condition_is_found_out(
    client: str, s3: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CarelessS3(way) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        objects = open_objects(s3, retry_seconds=3)
        assert objects.probe_exclusive() is False
        with pytest.raises(CacheError, match="overwrite what others created"):
            objects.write("claim", b"1", exclusive=True)
        assert objects.write("other", b"1") is True
        assert objects.list() == ["other"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_changed_body_is_not_taken_for_a_condition_that_was_not_kept(
    objects: ObjectStore, s3_proxy: S3Proxy, times: int
) -> None:
    s3_proxy.fail("corrupted", "get", times=times, name=".probe-")
    assert objects.probe_exclusive() is True
    assert s3_proxy.injected["corrupted"] == times


def test_what_was_found_out_is_remembered_for_others(client: str, s3_proxy: S3Proxy, s3: str) -> None:
    assert open_objects(s3).probe_exclusive() is True
    conditional_put.forget()  # as another process
    s3_proxy.reset_counts()
    assert open_objects(s3).probe_exclusive() is True
    assert s3_proxy.counts == {"get": 1}
    conditional_put.forget()
    open_objects(s3).write(conditional_put.MARKER, b'{"exclusive": true, "checked": 1000}')
    assert open_objects(s3).probe_exclusive() is True
    assert s3_proxy.counts["put"] > 5  # too long ago


def test_exclusive_creation_in_a_folder_is_tried_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_objects(tmp_path / "good").probe_exclusive() is True

    def overwriting(source: str, target: str) -> None:  # as some file systems in user space do
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(os, "link", overwriting)
    assert open_objects(tmp_path / "bad").probe_exclusive() is False
    assert open_objects(tmp_path / "good").probe_exclusive() is True  # known already
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


# --- errors ----------------------------------------------------------------------------------------------------------
def refused(action: Callable[[], object]) -> CacheError:
    with pytest.raises(CacheError) as caught:
        action()
    error = caught.value
    assert not isinstance(error, ObjectMissingError)
    assert error.where
    assert error.fix
    assert pickle.loads(pickle.dumps(error)).what == error.what
    return error


OPERATIONS: dict[str, Callable[[ObjectStore], object]] = {
    "list": lambda objects: objects.list(),
    "read": lambda objects: objects.read("first"),
    "read_many": lambda objects: objects.read_many(["first", "second"]),
    "write": lambda objects: objects.write("second", b"2"),
    "create": lambda objects: objects.write("third", b"3", exclusive=True),
    "remove": lambda objects: objects.remove(["first"]),
    "remove many": lambda objects: objects.remove(["first", "second"]),
    "probe": lambda objects: objects.probe_exclusive(),
    "check": lambda objects: objects.check_writable(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_wrong_credentials_say_so(client: str, s3: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-anybody")
    error = refused(lambda: OPERATIONS[operation](open_objects(s3)))
    assert "refuses the credentials" in error.what
    assert "not-the-secret-of-anybody" not in str(error) + repr(error.__cause__)


def test_an_unknown_key_says_so(client: str, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "refuses the credentials" in refused(lambda: open_objects(s3).list()).what


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_bucket_that_is_not_there_says_so(client: str, s3: str, operation: str) -> None:
    error = refused(lambda: OPERATIONS[operation](open_objects("s3://not-there/path")))
    assert "bucket is not there" in error.what
    assert "create it" in error.fix


@pytest.mark.parametrize("operation", ["write", "create", "remove", "remove many", "check", "probe"])
def test_a_reader_can_look_and_not_write(
    client: str, s3: str, s3_server: S3Server, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = open_objects(s3)
    owner.write("first", b"1")
    owner.write("second", b"2")
    for name, value in s3_server.reader.env.items():
        monkeypatch.setenv(name, value)
    reader = open_objects(s3)
    assert reader.read("first") == b"1"
    assert sorted(reader.list()) == ["first", "second"]
    assert "no permission" in refused(lambda: OPERATIONS[operation](reader)).what
    assert sorted(owner.list()) == ["first", "second"]


def test_no_credentials_at_all_say_so(client: str, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "No credentials were found" in refused(lambda: open_objects(s3).list()).what
    assert "permission" in refused(lambda: open_objects(s3, anon=True).write("a", b"1")).what


def test_a_name_that_is_too_long_for_the_service_says_so(client: str, s3: str) -> None:
    assert "shorter names" in refused(lambda: open_objects(s3).write("x" * 300, b"1")).fix


def test_a_server_that_is_gone_is_an_error_within_a_bound(
    client: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    objects = open_objects(s3, retry_seconds=2)
    started = time.monotonic()
    error = refused(lambda: objects.read("a"))
    assert "cannot be reached" in error.what
    took = time.monotonic() - started
    assert 0.5 < took < 20
    started = time.monotonic()
    refused(lambda: objects.list())
    assert time.monotonic() - started < took  # whoever asks next need not wait as long again


def test_a_host_name_that_does_not_exist_is_unreachable(client: str, s3: str) -> None:
    objects = open_objects(s3, endpoint_url="http://nowhere.invalid:9", retry_seconds=0.2)
    assert "cannot be reached" in refused(lambda: objects.list()).what


def test_a_server_that_does_not_answer_is_an_error_within_a_bound(client: str, s3_proxy: S3Proxy, s3: str) -> None:
    objects = open_objects(s3, retry_seconds=1, read_timeout_seconds=0.5)
    s3_proxy.fail("stall", times=1000)
    started = time.monotonic()
    error = refused(lambda: objects.list())
    assert "does not answer" in error.what
    assert time.monotonic() - started < 20


def test_throttling_that_does_not_end_says_so(client: str, s3_proxy: S3Proxy, s3: str) -> None:
    s3_proxy.fail("slow_down", times=1000)
    error = refused(lambda: open_objects(s3, retry_seconds=3).read("a"))
    assert "fewer requests" in error.what
    assert 2 <= s3_proxy.counts["get"] <= 100


def test_a_full_disk_here_is_not_blamed_on_the_service(client: str, s3: str, tmp_path: Path) -> None:
    objects = open_objects(s3)
    objects.write("a", b"1")
    with pytest.raises(CacheError, match="No such file or directory"):
        objects.fetch("a", tmp_path / "no" / "folder" / "file")


# --- a server that dies ----------------------------------------------------------------------------------------------
def test_a_server_that_is_killed_and_comes_back_costs_only_time(
    client: str, s3: str, s3_server: S3Server, tmp_path: Path
) -> None:
    store = ArtifactStore(open_objects(s3), near=tmp_path / "near")
    manifests = [make_manifest(str(number)) for number in range(30)]
    written: list[int] = []

    def write() -> None:
        for number, manifest in enumerate(manifests):
            write_artifact(store, manifest, {".json": b"%d" % number})
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 10:
        time.sleep(0.001)
    s3_server.restart()
    writer.join()
    assert len(written) == 30
    assert [read_artifact(store, manifest)[".json"] for manifest in manifests] == [b"%d" % n for n in range(30)]


FORKED = """
import multiprocessing, sys
from curidask.store.backends.base import open_objects
objects = open_objects(sys.argv[1])
objects.write("parent", b"1")

def child():
    objects.write("child", objects.read("parent") + b"2")
    assert objects.list("ch") == ["child"]
    assert open_objects(sys.argv[1]).read("child") == b"12"

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(30)
code = process.exitcode
if code is None:
    process.kill()
print(code, objects.read("child"))
"""


def test_a_forked_child_goes_on(client: str, s3: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, s3],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=True,
    )
    assert done.stdout == "0 b'12'\n", done.stderr


def test_a_spawned_child_goes_on(client: str, s3: str) -> None:
    objects = open_objects(s3)
    objects.write("parent", b"1")
    process = multiprocessing.get_context("spawn").Process(target=_copy_in_child, args=(objects,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert objects.read("child") == b"1"


def _copy_in_child(objects: ObjectStore) -> None:
    objects.write("child", objects.read("parent"))


# --- wrappers --------------------------------------------------------------------------------------------------------
def test_an_artifact_is_whole_or_missing_whatever_its_place_does(tmp_path: Path) -> None:
    """The store over a place that fails at random: nothing wrong is served, and in the end all is there."""
    place = open_objects(f"memory://{os.urandom(6).hex()}")
    faulty = FaultyObjects(place, 3, errors=0.1, lost_replies=0.1, damage=0.1, latency_seconds=0.001)
    counting = CountingObjects(faulty)
    near = 0
    for number in range(60):
        manifest = make_manifest(str(number % 20))
        files = {".json": b"%d" % (number % 20) * 50, "_b.bin": b"x"}
        for _ in range(100):
            near += 1
            store = ArtifactStore(counting, near=tmp_path / str(near))
            try:
                write_artifact(store, manifest, files)
                assert read_artifact(store, manifest) == files
                break
            except (CacheError, ArtifactMissingError):
                continue
        else:
            pytest.fail("it never succeeded")
    assert all(faulty.injected[how] > 10 for how in ("error", "lost reply", "damage"))
    assert counting.counts["adopt"] >= 20
    clean = ArtifactStore(place, near=tmp_path / "last")
    for number in range(20):
        assert read_artifact(clean, make_manifest(str(number)))[".json"] == b"%d" % number * 50
