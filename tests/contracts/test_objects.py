"""What every place for objects must do."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curidask.errors import CacheError, ObjectMissingError, UnsafeNameError
from curidask.store.backends.base import ObjectStore, Stored, open_objects
from curidask.store.backends.local import LocalObjects


def test_an_empty_place_has_nothing_and_is_not_made_by_looking(objects: ObjectStore) -> None:
    assert objects.list() == []
    assert objects.exists(["a", "b/c"]) == set()
    assert objects.read_many(["a", "b/c"]) == {}
    with pytest.raises(ObjectMissingError, match="'a'"):
        objects.read("a")
    assert objects.local_root is None or not objects.local_root.exists()


def test_what_is_written_is_read_and_listed(objects: ObjectStore) -> None:
    content = {"a": b"1", "sub/b": b"", "sub/deep/c.json": bytes(range(256)) * 5000, "sub2/b": b"x"}
    for name, data in content.items():
        assert objects.write(name, data) is True
    assert {name: objects.read(name) for name in content} == content
    assert objects.read_many([*content, "nothing"]) == content
    assert sorted(objects.list()) == sorted(content)
    assert sorted(objects.list("sub")) == ["sub/b", "sub/deep/c.json", "sub2/b"]
    assert sorted(objects.list("sub/d")) == ["sub/deep/c.json"]
    assert objects.list("sub/deep/") == ["sub/deep/c.json"]
    assert objects.list("nowhere/x") == []
    assert objects.exists([*content, "sub", "nothing"]) == set(content)


def test_a_write_replaces_the_whole_object(objects: ObjectStore) -> None:
    objects.write("a", b"long content")
    objects.write("a", b"short")
    assert objects.read("a") == b"short"


def test_removing_takes_only_what_is_named(objects: ObjectStore) -> None:
    for name in ("a", "f/b", "f/c", "g/d"):
        objects.write(name, b"x")
    objects.remove(["a", "f/b", "g/d", "never/there"])
    assert objects.list() == ["f/c"]
    objects.write("g/d", b"again")
    assert objects.read("g/d") == b"again"


def test_exclusive_creation_has_one_winner(objects: ObjectStore) -> None:
    start = threading.Barrier(8)
    won: list[int] = []

    def claim(owner: int) -> None:
        start.wait()
        if objects.write("claims/c", b"%d" % owner, exclusive=True):
            won.append(owner)

    threads = [threading.Thread(target=claim, args=(owner,)) for owner in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert objects.read("claims/c") == b"%d" % won[0]
    assert objects.list() == ["claims/c"]


def test_adopting_moves_files_and_folders(objects: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"data")
    objects.adopt(file, "x/file")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    objects.adopt(folder, "y")
    assert objects.read("x/file") == b"data"
    assert objects.read("y/inner/a") == b"a"
    assert objects.read("y/b") == b"b"
    assert not file.exists()
    assert not (folder / "b").exists()


def test_fetching_copies_an_object(objects: ObjectStore, tmp_path: Path) -> None:
    objects.write("a/b", b"content")
    objects.fetch("a/b", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert objects.read("a/b") == b"content"
    with pytest.raises(ObjectMissingError):
        objects.fetch("a/c", tmp_path / "other")


def test_the_same_place_is_there_after_pickling(objects: ObjectStore) -> None:
    objects.write("a", b"1")
    data = pickle.dumps(objects)
    assert b"fsspec." not in data  # no file system, no connection
    assert len(data) < 300
    assert pickle.loads(data).read("a") == b"1"
    assert open_objects(objects.url).read("a") == b"1"


def test_it_is_writable(objects: ObjectStore) -> None:
    objects.check_writable()
    assert objects.list() == []


def test_a_listing_says_sizes_and_times(objects: ObjectStore) -> None:
    before = time.time()
    objects.write("a", b"123")
    objects.write("sub/b", b"")
    objects.write(".hidden", b"x")
    entries = {entry.name: entry for entry in objects.entries()}
    assert {name: entry.size_bytes for name, entry in entries.items()} == {"a": 3, "sub/b": 0}
    assert all(before - 5 < entry.modified < time.time() + 5 for entry in entries.values())
    assert [entry.name for entry in objects.entries("sub/")] == ["sub/b"]


ODD_NAMES = [
    "a b",
    "a%25b",
    "a%b",
    "é/ü",
    "~x",
    "a*b",
    "a?b",
    "a?versionId=1",
    "a#b",
    "a[b",
    "a{b}",
    "a`b",
    'a"b',
    "a<b",
]
ODD_NAMES += [
    "a^b",
    "a|b",
    "a:b",
    "a&b=c+d@e",
    "\U0001f600",
    "-x",
    "x.",
    "ab c/c d",
    "a\nb",
    "a\tb",
    "a\x7fb",
    "\udcffx",
]


def test_odd_names_are_kept(objects: ObjectStore, tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        objects.write(name, b"%d" % number)
    assert sorted(objects.list()) == sorted(ODD_NAMES)
    assert objects.exists(ODD_NAMES) == set(ODD_NAMES)
    assert objects.read_many(ODD_NAMES) == {name: b"%d" % number for number, name in enumerate(ODD_NAMES)}
    for name in ODD_NAMES:
        assert name in objects.list(name)
        objects.fetch(name, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == objects.read(name)
    objects.remove(ODD_NAMES)
    assert objects.list() == []


LISTED = st.text(st.sampled_from("ab-./0~é A"), min_size=1, max_size=6).filter(
    lambda name: not any(part in ("", ".", "..") for part in name.split("/")) and not name.startswith(".")
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(names=st.sets(LISTED, min_size=1, max_size=12), data=st.data())
def test_a_listing_has_what_begins_with_a_prefix(objects: ObjectStore, names: set[str], data: st.DataObject) -> None:
    names = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}  # as in a folder
    objects.remove(objects.list())
    for name in names:
        objects.write(name, b"")
    for _ in range(3):
        name = data.draw(st.sampled_from(sorted(names)))
        prefix = name[: data.draw(st.integers(0, len(name)))]
        assert sorted(objects.list(prefix)) == sorted(name for name in names if name.startswith(prefix))


@pytest.mark.parametrize("prefix", ["sub/.-", "sub/..-", "sub/.", "sub/..", ".-", "..-"])
def test_a_listing_takes_a_prefix_of_dots(objects: ObjectStore, prefix: str) -> None:
    names = ["sub/.-", "sub/..-a", "sub/.a", "sub/a", ".-a", "..-a", "b"]
    for name in names:
        objects.write(name, b"")
    assert sorted(objects.list(prefix)) == sorted(name for name in names if name.startswith(prefix))


def test_many_names_are_looked_for_read_and_removed_at_once(objects: ObjectStore) -> None:
    content = {f"sub/x{number:04}": b"%d" % number for number in range(150)}
    for name, data in content.items():
        objects.write(name, data)
    others = [f"sub/y{number}" for number in range(100)]
    assert objects.exists([*content, *others, ".hidden"]) == set(content)
    assert objects.exists([*content, *others]) == set(content)
    assert objects.read_many([*content, *others]) == content
    objects.remove([*content, *others])
    assert objects.list() == []


SIZES = [0, 1, 1000, 16 << 20, (16 << 20) + 1, (25 << 20) + 7]


def test_files_of_all_sizes_go_in_and_come_out_with_their_digests(objects: ObjectStore, tmp_path: Path) -> None:
    digests = {}
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for size in SIZES:
        data = random.Random(size).randbytes(size)
        (tmp_path / "in" / "sub" / str(size)).write_bytes(data)
        digests[f"f/sub/{size}"] = Stored(size, hashlib.sha256(data).hexdigest())
    stored = objects.adopt_many({"f": tmp_path / "in"})
    assert stored == (digests if objects.local_root is None else {})
    assert {entry.name: entry.size_bytes for entry in objects.entries()} == {
        n: d.size_bytes for n, d in digests.items()
    }
    targets = {name: tmp_path / f"out{entry.size_bytes}" for name, entry in digests.items()}
    assert objects.fetch_many(targets, {name: entry.size_bytes for name, entry in digests.items()}) == digests
    for name, target in targets.items():
        assert hashlib.sha256(target.read_bytes()).hexdigest() == digests[name].sha256
        target.unlink()
        assert objects.fetch(name, target) == digests[name]
    large = b"x" * (17 << 20)
    objects.write("large", large)
    assert objects.read("large") == large


def test_copies_from_another_place(objects: ObjectStore, tmp_path: Path) -> None:
    others = [LocalObjects(tmp_path / "other"), open_objects(f"memory://{os.urandom(6).hex()}")]
    if objects.local_root is None:
        others.append(open_objects(f"{objects.url}/inside"))
    for number, other in enumerate(others):
        content = {f"{number}/a": b"1", f"{number}/b/c": b"2" * 5000}
        for name, data in content.items():
            other.write(name, data)
        objects.copy_from(other, content)
        assert objects.read_many(content) == content
        other.remove(other.list())
        other.copy_from(objects, content)
        assert other.read_many(content) == content
        with pytest.raises(ObjectMissingError):
            objects.copy_from(other, ["nothing"])


def test_exclusive_creation_is_real_here_and_that_is_remembered(objects: ObjectStore) -> None:
    assert objects.probe_exclusive() is True
    assert objects.write("claim", b"mine", exclusive=True) is True
    assert objects.write("claim", b"mine", exclusive=True) is False
    assert objects.write("claim", b"other", exclusive=True) is False
    assert objects.read("claim") == b"mine"
    objects.remove(["claim"])
    assert objects.write("claim", b"other", exclusive=True) is True
    assert objects.list() == ["claim"]


UNSAFE = ["", "/etc/passwd", "..", "../x", "a/../b", "a/..", "a//b", "a/", "./a", "a/./b", "a\\b", "a\0b", "..\\x"]


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_could_lead_out_are_refused(objects: ObjectStore, tmp_path: Path, name: str) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"x")
    with pytest.raises(UnsafeNameError):
        objects.read(name)
    with pytest.raises(UnsafeNameError):
        objects.write(name, b"x")
    with pytest.raises(UnsafeNameError):
        objects.adopt(file, name)
    with pytest.raises(UnsafeNameError):
        objects.fetch(name, tmp_path / "target")
    with pytest.raises(UnsafeNameError):
        objects.remove([name])
    with pytest.raises(UnsafeNameError):
        objects.exists([name])


@given(name=st.text(st.sampled_from("./\\a\0 %~é\n"), max_size=8))
def test_no_accepted_name_leads_out(name: str) -> None:
    root = LocalObjects("/some/root")
    try:
        path = root._path(name)
    except UnsafeNameError:
        return
    assert os.path.normpath(path) == path
    assert path.startswith("/some/root/")


# --- errors of a folder ----------------------------------------------------------------------------------------------
def test_a_place_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    objects = LocalObjects(tmp_path / "file" / "cache")
    assert objects.list() == []
    with pytest.raises(CacheError, match="a file lies where a folder is needed"):
        objects.check_writable()
    with pytest.raises(CacheError, match="a file lies where a folder is needed"):
        objects.write("a", b"1")


def test_a_place_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(CacheError, match="a file lies where a folder is needed"):
        LocalObjects(tmp_path / "file").check_writable()
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_a_name_that_is_too_long_says_so(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    with pytest.raises(CacheError, match="shorter names"):
        objects.write("x" * 300, b"1")
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, signal, sys
from curidask.errors import CacheError
from curidask.store.backends.base import open_objects
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
objects = open_objects(sys.argv[1])
objects.write("small", b"before")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for name in ("small", "new"):
    try:
        objects.write(name, b"x" * 1_000_000, exclusive=name == "new")
    except CacheError as error:
        print(error.what, "|", error.fix)
print(objects.read("small"))
"""


def test_a_write_that_runs_out_of_room_leaves_nothing_behind(tmp_path: Path) -> None:
    # A limit on file sizes stops a write in its middle, as a full disk does.
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("could not write" in line and "--cache" in line for line in lines[:2])
    assert lines[2] == "b'before'"
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_link_is_not_needed_for_exclusive_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:  # as on exFAT
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    objects = LocalObjects(tmp_path)
    assert objects.write("a", b"1", exclusive=True) is True
    assert objects.write("a", b"2", exclusive=True) is False
    assert objects.read("a") == b"1"


COUNTING = """
import sys
from curidask.store.backends.base import open_objects
objects = open_objects(sys.argv[1])
for _ in range(200):
    with objects.lock():
        try:
            count = int(objects.read("count"))
        except FileNotFoundError:
            count = 0
        objects.write("count", b"%d" % (count + 1))
"""


def test_the_lock_keeps_processes_apart(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(tmp_path)]
    processes = [subprocess.Popen(command, env=_environment()) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert LocalObjects(tmp_path).read("count") == b"400"


def test_an_unknown_protocol_says_what_is_known() -> None:
    with pytest.raises(CacheError, match="nonsense://"):
        open_objects("nonsense://bucket/path")


MISSING = """
import sys
from curidask.errors import CacheError
from curidask.store.backends.base import open_objects
sys.modules[sys.argv[1]] = None  # as if it were not installed
try:
    open_objects("s3://bucket/path", client=sys.argv[2])
except CacheError as error:
    print(error.fix)
"""


@pytest.mark.parametrize(
    ("package", "client", "extra"), [("s3fs", "fsspec", "curidask[s3]"), ("obstore", "obstore", "curidask[fast]")]
)
def test_a_missing_package_names_the_extra(package: str, client: str, extra: str) -> None:
    command = [sys.executable, "-c", MISSING, package, client]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    assert extra in done.stdout


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    assert objects.local_root == tmp_path


def test_options_are_not_shown() -> None:
    objects = open_objects("memory://cache-with-options", skip_instance_cache=True)
    assert "skip_instance_cache" not in repr(objects)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
