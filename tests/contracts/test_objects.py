"""What every place for objects must do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curidask.errors import CacheError, ObjectMissingError, UnsafeNameError
from curidask.store.local import LocalObjects
from curidask.store.objects import ObjectStore, open_objects


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
    assert b"fsspec" not in data
    assert pickle.loads(data).read("a") == b"1"
    assert open_objects(objects.url).read("a") == b"1"


def test_it_is_writable(objects: ObjectStore) -> None:
    objects.check_writable()
    assert objects.list() == []


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
from curidask.store.objects import open_objects
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
from curidask.store.objects import open_objects
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


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(CacheError, match=r"curidask\[s3\]"):
        open_objects("s3://bucket/path")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    assert objects.local_root == tmp_path


def test_options_are_not_shown() -> None:
    objects = open_objects("memory://cache-with-options", skip_instance_cache=True)
    assert "skip_instance_cache" not in repr(objects)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
