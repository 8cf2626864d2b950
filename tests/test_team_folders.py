"""A folder in which several users work: what one made the others read, replace and remove, whatever their umask."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.store import integrity, local, permissions, untrusted
from curidask.store.objects import open_objects

UMASKS = [0o022, 0o077, 0o002]


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    permissions._umask.cache_clear()
    yield request.param
    os.umask(before)
    permissions._umask.cache_clear()


class MadeByALibrary(PickleCacher):
    """Writes as some do: into a file beside, which they rename."""

    def save(self, obj: Any) -> str:
        path = super().save(obj)
        fd, beside = tempfile.mkstemp(dir=os.path.dirname(path))
        os.write(fd, Path(path).read_bytes())
        os.close(fd)
        os.replace(beside, path)
        return path


@cf.stage(None, ["a", "b"], [JsonCacher(subdir="below/it"), MadeByALibrary])
def make(record: Any) -> Any:
    folder = Path(record.get_dir("parts"))
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("x")
    (folder / "tool").write_text("#!/bin/sh")
    (folder / "tool").chmod(0o700)
    return 1, 2


def run(cache: Path) -> None:
    with cf.ArtifactManager("team", cache=str(cache), parallel=0) as manager:
        assert make(cf.Record(manager, None)).state["b"] == 2


def modes(cache: Path) -> dict[str, int]:
    return {str(p.relative_to(cache)): stat.S_IMODE(p.stat().st_mode) for p in cache.rglob("*") if p.name[0] != "."}


@pytest.mark.parametrize("umask", UMASKS, indirect=True, ids=oct)
def test_what_is_made_in_a_folder_of_a_group_is_the_groups(tmp_path: Path, umask: int) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o2770)
    run(cache)
    found = modes(cache)
    assert len(found) > 8
    for name, mode in found.items():
        owner = mode >> 6 & 0o7
        assert mode >> 3 & 0o7 == owner, (name, oct(mode))
        assert bool(mode & stat.S_ISGID) == (cache / name).is_dir(), (name, oct(mode))
    assert any(name.endswith("tool") and mode & 0o111 == 0o110 | mode & 1 for name, mode in found.items())


@pytest.mark.parametrize("umask", UMASKS, indirect=True, ids=oct)
def test_elsewhere_it_is_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    run(tmp_path / "cache")
    for name, mode in modes(tmp_path / "cache").items():
        usual = (0o777 if (tmp_path / "cache" / name).is_dir() else 0o666) & ~umask
        assert mode & 0o666 == usual & 0o666, (name, oct(mode))


def as_user(uid: int, gid: int, root: Path, function: Any, *args: Any) -> int:
    """The exit code of a function in a process of another user, with the strictest umask.

    Its file system begins at `root`, since others do not get into the folders around it.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.chroot(root)
            os.chdir("/")
            os.setgroups([gid])
            os.setgid(gid)
            os.setuid(uid)
            os.umask(0o077)
            function(*args)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


TEAM = 4242


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users; the modes are held above")
def test_two_users_share_a_folder(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    tmp_path.chmod(0o755)
    os.chown(cache, 0, TEAM)
    cache.chmod(0o2770)

    def write(name: str, data: bytes) -> None:
        open_objects("/cache").write(name, data)

    def read_and_replace(name: str) -> None:
        mine = open_objects("/cache")
        assert mine.read(name) == b"first"
        mine.write(name, b"second")
        mine.remove(["below/other"])

    assert as_user(1001, TEAM, tmp_path, write, "below/one", b"first") == 0
    assert as_user(1001, TEAM, tmp_path, write, "below/other", b"first") == 0
    assert as_user(1003, 4343, tmp_path, write, "below/third", b"of a stranger") != 0
    assert as_user(1002, TEAM, tmp_path, read_and_replace, "below/one") == 0
    assert open_objects(cache).read("below/one") == b"second"
    assert open_objects(cache).list() == ["below/one"]


# --- what cannot be read ---------------------------------------------------------------------------------------------
@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Has a function called with the path of each file of the cache that is opened."""
    usual = untrusted.open_file

    def with_fault(fault: Callable[[str], None]) -> None:
        def opened(path: str) -> Any:
            fault(path)
            return usual(path)

        for module in (untrusted, integrity, local):
            monkeypatch.setattr(module, "open_file", opened)

    return with_fault


@pytest.mark.parametrize("is_manifest", [True, False])
def test_what_cannot_be_read_is_made_again(
    tmp_path: Path, is_manifest: bool, opens: Callable[[Callable[[str], None]], None]
) -> None:
    """An error of the disk on one file costs that artifact alone."""
    run(tmp_path)
    (bad,) = (p for p in tmp_path.rglob("*make_a*") if p.name.endswith("_metadata.json") == is_manifest)
    before = bad.stat().st_ino

    def fault(path: str) -> None:
        if path == str(bad) and bad.exists() and bad.stat().st_ino == before:
            raise OSError(errno.EIO, "Input/output error")

    opens(fault)
    with cf.ArtifactManager("team", cache=str(tmp_path), parallel=0) as manager:
        assert make(cf.Record(manager, None)).state["a"] == 1
        assert any("Input/output error" in text for text in manager.run_record.warnings)
    assert bad.stat().st_ino != before


def test_a_file_server_that_lost_track_is_asked_twice(
    tmp_path: Path, opens: Callable[[Callable[[str], None]], None]
) -> None:
    run(tmp_path)
    failed: set[str] = set()

    def fault(path: str) -> None:
        if path not in failed:
            failed.add(path)
            raise OSError(errno.ESTALE, "Stale file handle")

    opens(fault)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*make_a*") if path.is_file()}
    run(tmp_path)
    assert failed
    assert {path: path.stat().st_ino for path in before} == before
