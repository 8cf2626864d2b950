"""What the near cache promises: whole or not there, fetched once a machine, within its limit, never under a reader."""

from __future__ import annotations

import errno
import gc
import hashlib
import mmap
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curidask.errors import ArtifactDamagedError, CacheError, ConfigurationError, ObjectMissingError
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.backends.entries import Stored
from curidask.store.disk_cache import near_files
from curidask.store.disk_cache.near import DiskCache, NearSettings, Pin, near_cache
from curidask.store.manifest import FileEntry, Manifest

Make = Callable[..., Manifest]
Commit = Callable[..., Manifest]
Read = Callable[..., dict[str, bytes]]


class Source:
    """Content to fetch, with a count of how often each was."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def entry(self, name: str, data: bytes) -> FileEntry:
        self.content[name] = data
        return FileEntry(name, len(data), hashlib.sha256(data).hexdigest())

    def fetch(self, name: str, path: str, size_bytes: int) -> Stored:
        self.fetched.append(name)
        if name not in self.content:
            raise ObjectMissingError(f"There is no object {name!r}.")
        data = self.content[name]
        Path(path).write_bytes(data)
        return Stored(len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def near(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(str(tmp_path / "near"), 1000)
    yield cache
    if cache._out is not None:
        cache._out.remove()


def bring(near: DiskCache, source: Source, name: str, data: bytes) -> Pin:
    """Check one file out under its own name."""
    return near.bring(name, {name: source.entry(name, data)}, source.fetch, "digest")


def contents(near: DiskCache) -> set[bytes]:
    """All content, each verified to be what its name says."""
    found = set()
    for path in Path(near.folder, "files").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == path.name
            found.add(data)
    return found


# --- content ---------------------------------------------------------------------------------------------------------
def test_what_was_fetched_is_not_fetched_again(near: DiskCache, source: Source) -> None:
    for _ in range(3):
        pin = bring(near, source, "a", b"data")
        assert Path(pin.folder, "a").read_bytes() == b"data"
    other = DiskCache(near.folder, 1000)
    assert Path(bring(other, source, "a", b"data").folder, "a").read_bytes() == b"data"
    assert source.fetched == ["a"]


def test_equal_content_is_fetched_once_under_whatever_name(near: DiskCache, source: Source) -> None:
    files = {name: source.entry(name, b"same") for name in ("a", "sub/b", "sub/deep/c")}
    pin = near.bring("set", files, source.fetch, "digest")
    assert {name: Path(pin.folder, name).read_bytes() for name in files} == dict.fromkeys(files, b"same")
    assert len(source.fetched) == 1
    assert contents(near) == {b"same"}


def test_two_stores_share_content(tmp_path: Path, manifest_of: Make, commit: Commit, read: Read) -> None:
    stores = [ArtifactStore.open(f"memory://{os.urandom(8).hex()}", near=tmp_path / "near") for _ in range(2)]
    manifests = [manifest_of(name, prefix=name) for name in ("one", "other")]
    for store, manifest in zip(stores, manifests, strict=True):
        commit(store, manifest, {".json": b"same", "_dir/x": manifest.prefix.encode()})
        assert read(store, manifest) == {".json": b"same", "_dir/x": manifest.prefix.encode()}
    assert contents(near_cache(tmp_path / "near")) == {b"same", b"one", b"other"}


def test_damaged_content_is_dropped_and_fetched_again(near: DiskCache, source: Source) -> None:
    pin = bring(near, source, "a", b"good")
    content = Path(near_files.content_path(near.folder, hashlib.sha256(b"good").hexdigest()))
    content.chmod(0o600)
    for damage in (b"evil", b"", b"longer than it was"):
        content.write_bytes(damage)
        again = bring(near, source, "a", b"good")
        assert Path(again.folder, "a").read_bytes() == b"good"
        assert contents(near) == {b"good"}
        assert again is not pin
        content.chmod(0o600)
    assert source.fetched == ["a"] * 4


def test_what_comes_damaged_out_of_the_store_never_becomes_content(near: DiskCache, source: Source) -> None:
    entry = source.entry("a", b"good")
    source.content["a"] = b"evil"
    with pytest.raises(ArtifactDamagedError, match="'a' was changed"):
        near.bring("a", {"a": entry}, source.fetch, "digest")
    del source.content["a"]
    with pytest.raises(ArtifactDamagedError, match="'a' is gone"):
        near.bring("a", {"a": entry}, source.fetch, "digest")
    assert contents(near) == set()
    assert os.listdir(f"{near.folder}/parts") == os.listdir(f"{near.folder}/locks") == []
    source.content["a"] = b"good"
    assert Path(near.bring("a", {"a": entry}, source.fetch, "digest").folder, "a").read_bytes() == b"good"


def test_a_loader_cannot_change_content_by_accident(near: DiskCache, source: Source) -> None:
    path = Path(bring(near, source, "a", b"good").folder, "a")
    assert not path.stat().st_mode & 0o222
    assert Path(near.folder).stat().st_mode & 0o777 == 0o700


def test_a_file_system_without_links_gets_copies(
    near: DiskCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    pin = bring(near, source, "a", b"data")
    near.trim(limit_bytes=0)
    assert Path(pin.folder, "a").read_bytes() == b"data"
    assert contents(near) == set()
    bring(near, source, "a", b"data")
    assert source.fetched == ["a"]  # what is checked out is still whole


# --- the limit -------------------------------------------------------------------------------------------------------
def test_the_least_recently_used_goes_first(near: DiskCache, source: Source) -> None:
    data = [b"%02d" % number * 50 for number in range(15)]
    for number in range(10):
        with near.using():
            bring(near, source, f"f{number}", data[number])
        age = time.time() - 1000 + number
        os.utime(near_files.content_path(near.folder, hashlib.sha256(data[number]).hexdigest()), (age, age))
    with near.using():
        bring(near, source, "f0", data[0])  # used again
    for number in range(10, 15):
        with near.using():
            bring(near, source, f"f{number}", data[number])
    assert contents(near) == {data[0], *data[6:]}


def test_nothing_in_use_is_removed(near: DiskCache, source: Source) -> None:
    with near.using():
        pins = [bring(near, source, f"f{number}", b"%d" % number * 300) for number in range(8)]
        assert near.trim(limit_bytes=0) == 8 * 300
        for number, pin in enumerate(pins):
            assert Path(pin.folder, f"f{number}").read_bytes() == b"%d" % number * 300
    del pins, pin
    assert near.trim(limit_bytes=0) > 0  # what this process holds on to by itself: the last ones
    near._kept.clear()
    near._sweep()
    assert near.trim(limit_bytes=0) == 0
    assert contents(near) == set()


def test_a_pin_keeps_files_beyond_the_block(near: DiskCache, source: Source) -> None:
    with near.using():
        pin = bring(near, source, "a", b"data")
        other = bring(near, source, "b", b"more").folder
    near._sweep()
    assert not os.path.exists(other)
    assert Path(pin.folder, "a").read_bytes() == b"data"
    assert pickle.loads(pickle.dumps(pin)) is None


def test_without_a_block_the_last_ones_stay(near: DiskCache, source: Source) -> None:
    folders = [bring(near, source, f"f{number}", b"%d" % number * 100).folder for number in range(9)]
    near._sweep()
    there = [os.path.exists(folder) for folder in folders]
    assert there == [False] * 4 + [True] * 5  # half of the limit


def test_a_mapped_file_outlives_its_removal(near: DiskCache, source: Source) -> None:
    with near.using():
        folder = bring(near, source, "a", b"data" * 1000).folder
        with open(f"{folder}/a", "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    near._sweep()
    near.trim(limit_bytes=0)
    assert not os.path.exists(folder)
    assert contents(near) == set()
    assert mapped[:8] == b"datadata"
    mapped.close()


def test_a_full_disk_makes_room_once(near: DiskCache, source: Source) -> None:
    with near.using():
        bring(near, source, "old", b"old" * 100)
    full = 1

    def fetch(name: str, path: str, size_bytes: int) -> Stored:
        nonlocal full
        if full:
            full -= 1
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise CacheError("The cache could not read.") from error
        return source.fetch(name, path, size_bytes)

    entry = source.entry("new", b"new")
    near.bring("new", {"new": entry}, fetch, "digest")
    assert contents(near) == {b"new"}
    full = 2
    with pytest.raises(CacheError, match="could not read"):
        near.bring("x", {"x": source.entry("x", b"x")}, fetch, "digest")


def test_the_limit_is_a_share_of_the_free_disk_unless_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < near_files.default_limit(str(tmp_path / "not" / "there")) <= near_files.MAX_LIMIT
    monkeypatch.delenv("CURIDASK_NEAR_CACHE")
    settings = NearSettings(str(tmp_path / "mine"), 5)
    assert (settings.open().folder, settings.open().limit_bytes) == (str(tmp_path / "mine"), 5)
    assert NearSettings().open().folder == near_files.default_folder()
    monkeypatch.setenv("CURIDASK_NEAR_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("CURIDASK_NEAR_CACHE_SIZE", "2 MB")
    there = pickle.loads(pickle.dumps(settings)).open()
    assert (there.folder, there.limit_bytes) == (str(tmp_path / "here"), 2_000_000)
    monkeypatch.setenv("CURIDASK_NEAR_CACHE_SIZE", "lots")
    with pytest.raises(ConfigurationError, match="lots"):
        settings.open()


# --- whose folder it is ----------------------------------------------------------------------------------------------
def test_a_folder_of_somebody_else_is_refused(near: DiskCache, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(near.folder)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(near.folder).st_uid + 1)
    with pytest.raises(CacheError, match="not yours"):
        bring(near, source, "a", b"data")
    assert os.listdir(near.folder) == []


def test_a_link_or_a_folder_open_to_all_is_refused(tmp_path: Path, source: Source) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "open"):
        with pytest.raises(CacheError, match="not yours"):
            bring(DiskCache(str(tmp_path / name)), source, "a", b"data")


def test_a_place_for_everybody_gets_a_folder_for_each(tmp_path: Path) -> None:
    def found(mode: int, owner: int) -> os.stat_result:
        return os.stat_result((0o040000 | mode, 1, 1, 1, owner, 0, 0, 0, 0, 0))

    assert near_files._is_for_everybody(found(0o1777, 0))  # /scratch, /tmp
    assert not near_files._is_for_everybody(found(0o0777, 0))
    assert not near_files._is_for_everybody(found(0o1777, 1000))
    assert not near_files._is_for_everybody(found(0o0755, 0))


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path, source: Source) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match="cannot be made") as caught:
        bring(DiskCache(str(tmp_path / "file" / "near")), source, "a", b"data")
    assert "CURIDASK_NEAR_CACHE" in caught.value.fix


# --- several processes -----------------------------------------------------------------------------------------------
FETCHER = """
import os, sys, time, hashlib
from pathlib import Path
from curidask.store.backends.entries import Stored
from curidask.store.manifest import FileEntry
from curidask.store.disk_cache.near import near_cache
folder, counts, seconds, names = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4].split(",")

def fetch(name, path, size_bytes):
    with open(counts / name, "a") as file:
        file.write("x")
    with open(path, "wb") as file:
        for byte in name.encode() * 50:
            file.write(bytes([byte]))
            file.flush()
            time.sleep(seconds / (50 * len(name)))
    return Stored(size_bytes, hashlib.sha256(name.encode() * 50).hexdigest())

near = near_cache(folder, 10**6)
print("ready", flush=True)
sys.stdin.readline()
for name in names:
    data = name.encode() * 50
    entry = FileEntry(name, len(data), hashlib.sha256(data).hexdigest())
    with near.using():
        pin = near.bring(name, {name: entry}, fetch, "digest")
        assert Path(pin.folder, name).read_bytes() == data
    print(name, flush=True)
"""


class Fetchers:
    """Processes that check files out."""

    def __init__(self, tmp_path: Path) -> None:
        self.near = tmp_path / "near"
        self.counts = tmp_path / "counts"
        self.counts.mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, n: int, names: list[str], seconds: float) -> list[subprocess.Popen[str]]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", FETCHER, str(self.near), str(self.counts), str(seconds), ",".join(names)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started = [subprocess.Popen(command, text=True, env=environment, **pipes) for _ in range(n)]
        self.processes += started
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return started

    def fetched(self) -> dict[str, int]:
        return {path.name: len(path.read_text()) for path in self.counts.iterdir()}


@pytest.fixture
def fetchers(tmp_path: Path) -> Iterator[Fetchers]:
    made = Fetchers(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def test_processes_that_want_the_same_fetch_it_once(fetchers: Fetchers) -> None:
    names = [f"file{number}" for number in range(6)]
    for process in fetchers.start(4, names, 0.1):
        out, err = process.communicate(timeout=60)
        assert (out.split(), err) == (names, "")
    assert fetchers.fetched() == dict.fromkeys(names, 1)


def test_threads_that_want_the_same_fetch_it_once(near: DiskCache, source: Source) -> None:
    entries = {str(number): source.entry(str(number), b"%d" % number) for number in range(5)}

    def check_out(identity: int) -> None:
        pin = near.bring(str(identity), entries, source.fetch, "digest")
        assert {name: Path(pin.folder, name).read_bytes() for name in entries} == source.content

    threads = [threading.Thread(target=check_out, args=(identity,)) for identity in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(source.fetched) == sorted(entries)


def test_the_lock_of_a_killed_process_is_nobodys(fetchers: Fetchers) -> None:
    (first,) = fetchers.start(1, ["file"], 60)
    until(lambda: any((fetchers.near / "parts").iterdir()))
    (second,) = fetchers.start(1, ["file"], 0)
    time.sleep(0.3)
    assert second.poll() is None  # it waits for the one that downloads
    first.send_signal(signal.SIGKILL)
    out, err = second.communicate(timeout=30)
    assert (out, err) == ("file\n", "")
    assert fetchers.fetched() == {"file": 2}


def test_a_process_that_hangs_is_not_waited_for(fetchers: Fetchers, source: Source, monkeypatch: Any) -> None:
    (first,) = fetchers.start(1, ["file"], 60)
    until(lambda: any((fetchers.near / "parts").iterdir()))
    first.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(near_files, "PATIENCE_SECONDS", 0.5)
    near = DiskCache(str(fetchers.near), 10**6)
    assert Path(bring(near, source, "file", b"file" * 50).folder, "file").read_bytes() == b"file" * 50
    first.send_signal(signal.SIGCONT)
    first.kill()


def test_killed_at_any_moment_nothing_wrong_is_left(fetchers: Fetchers) -> None:
    chance = random.Random(11)
    names = [f"file{number}" for number in range(40)]
    for _ in range(6):
        started = fetchers.start(2, chance.sample(names, 40), 0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        contents(DiskCache(str(fetchers.near)))
    (last,) = fetchers.start(1, names, 0)
    assert last.communicate(timeout=60)[0].split() == names
    near = DiskCache(str(fetchers.near), 10**6)
    assert contents(near) == {name.encode() * 50 for name in names}
    for folder in ("parts", "locks"):
        for path in (fetchers.near / folder).iterdir():
            os.utime(path, (0, 0))
    near.trim()
    assert [list((fetchers.near / folder).iterdir()) for folder in ("parts", "locks", "out")] == [[], [], []]


def test_what_a_living_process_has_checked_out_is_not_tidied_up(fetchers: Fetchers) -> None:
    fetchers.start(1, ["file", "slow"], 60)
    until(lambda: any((fetchers.near / "parts").iterdir()))
    for folder in ("parts", "locks", "out"):
        for path in (fetchers.near / folder).iterdir():
            os.utime(path, (0, 0))
    DiskCache(str(fetchers.near)).trim(limit_bytes=0)
    assert [len(list((fetchers.near / folder).iterdir())) for folder in ("parts", "locks", "out")] == [1, 1, 1]


def test_a_forked_child_leaves_its_parents_files_alone(tmp_path: Path, source: Source) -> None:
    near = near_cache(tmp_path / "near", 1000)
    pin = bring(near, source, "a", b"data")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            mine = bring(near_cache(tmp_path / "near", 1000), source, "a", b"data")
            fine = mine.folder != pin.folder and source.fetched == ["a"]
            del mine, pin
            near._kept.clear()
            gc.collect()
            near._sweep()
            status = 0 if fine else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Path(pin.folder, "a").read_bytes() == b"data"


def test_a_process_removes_its_links_at_its_end(fetchers: Fetchers) -> None:
    (process,) = fetchers.start(1, ["file"], 0)
    assert process.communicate(timeout=30)[1] == ""
    assert list((fetchers.near / "out").iterdir()) == []
    assert contents(DiskCache(str(fetchers.near))) == {b"file" * 50}


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        assert time.monotonic() < give_up
        time.sleep(0.01)


# --- through a store -------------------------------------------------------------------------------------------------
def test_a_store_fetches_each_file_once_a_machine(
    tmp_path: Path, manifest_of: Make, commit: Commit, read: Read
) -> None:
    objects = Counting(open_objects(f"memory://{os.urandom(8).hex()}"))
    files = {f"_{number}.bin": b"%d" % number for number in range(20)}
    commit(ArtifactStore(objects, near=tmp_path / "near"), manifest_of(), files)  # type: ignore[arg-type]
    for _ in range(3):
        assert read(ArtifactStore(objects, near=tmp_path / "near"), manifest_of()) == files  # type: ignore[arg-type]
    assert objects.calls["fetch"] == 20
    assert read(ArtifactStore(objects, near=tmp_path / "other"), manifest_of()) == files  # type: ignore[arg-type]
    assert objects.calls["fetch"] == 40


class Counting:
    """Passes everything on and counts the calls."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return value(*args, **kwargs)

        return call
