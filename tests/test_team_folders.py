"""A folder in which several users work: what one made the others read, replace and remove, whatever their umask."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import stat
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # noqa: F401  # before another user, who cannot import it, needs it
import pytest

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from curidask.errors import CacheError, ConfigurationError
from curidask.session.config import Config, load_config
from curidask.store import integrity, manifest
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends import local
from curidask.store.backends.base import open_objects
from curidask.store.maintenance.gc import Policy, collect, plan_gc
from curidask.store.maintenance.inventory import take_inventory
from curidask.store.maintenance.usage import Uses
from curidask.store.maintenance.verify import check_place

UMASKS = [0o022, 0o077, 0o002]


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    local._umask.cache_clear()
    yield request.param
    os.umask(before)
    local._umask.cache_clear()


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


def as_user(uid: int, gid: int, root: Path | None, function: Any, *args: Any) -> int:
    """The exit code of a function in a process of another user, with the strictest umask.

    Its file system begins at `root`, where others do not get into the folders around it. It can import nothing.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if root is not None:
                os.chroot(root)
            os.chdir("/")
            os.setgroups([gid])
            os.setgid(gid)
            os.setuid(uid)
            os.umask(0o077)
            function(*args)
            code = 0
        except BaseException:
            traceback.print_exc()
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
    usual = manifest.open_file

    def with_fault(fault: Callable[[str], None]) -> None:
        def opened(path: str) -> Any:
            fault(path)
            return usual(path)

        for module in (manifest, integrity, local):
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


# --- the setting -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask", UMASKS, indirect=True, ids=oct)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_is_made_the_groups_where_that_is_set(tmp_path: Path, umask: int, is_there: bool) -> None:
    cache = tmp_path / "deep" / "cache"
    if is_there:
        cache.mkdir(parents=True)
    config = load_config(tmp_path, {"CURIDASK_SHARED": "group", "CURIDASK_CACHE": str(cache)})
    with cf.ArtifactManager("team", config=config, parallel=0) as manager:
        assert make(cf.Record(manager, None)).state["b"] == 2
    assert stat.S_IMODE(cache.stat().st_mode) & 0o2070 == 0o2070
    for name, mode in modes(cache).items():
        assert mode >> 3 & 0o7 == mode >> 6 & 0o7, (name, oct(mode))
    again = pickle.loads(pickle.dumps(open_objects(cache, shared="group")))  # as a worker gets it
    again.write("of_a_worker", b"")
    assert (cache / "of_a_worker").stat().st_mode & 0o060 == 0o060


def test_the_setting_is_checked(tmp_path: Path) -> None:
    (tmp_path / "curidask.toml").write_text('shared = "all"')
    with pytest.raises(ConfigurationError, match="'shared' is 'all'") as caught:
        load_config(tmp_path, {})
    assert "auto, group" in str(caught.value)


@pytest.mark.parametrize("umask", [0o077], indirect=True)
def test_a_cache_that_is_not_there_yet_is_as_the_folder_around_it(tmp_path: Path, umask: int) -> None:
    team = tmp_path / "team"
    team.mkdir()
    team.chmod(0o2770)
    open_objects(team / "cache").write("below/one", b"")
    assert {name: mode & 0o070 for name, mode in modes(team).items()} == {
        "cache": 0o070, "cache/below": 0o070, "cache/below/one": 0o060,
    }  # fmt: skip


@pytest.mark.parametrize("umask", [0o077], indirect=True)
@pytest.mark.parametrize("without", ["os.link", "os.replace"])
def test_where_a_file_system_has_no_links_or_is_another(
    tmp_path: Path, umask: int, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o2770)
    source = tmp_path / "source"
    source.write_text("x")
    usual = os.replace

    def refuse(one: str, other: str) -> None:
        if without == "os.link" or one == str(source):
            raise OSError(errno.EPERM if without == "os.link" else errno.EXDEV, "no")
        usual(one, other)

    monkeypatch.setattr(without, refuse)
    objects = open_objects(cache)
    if without == "os.link":
        assert objects.create("made", b"x")
    else:
        objects.adopt(source, "made")
    assert (cache / "made").stat().st_mode & 0o060 == 0o060


# --- who may only read -----------------------------------------------------------------------------------------------
STRANGER = (1003, 4343)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others get into, with a cache that was filled; all they need is imported by that."""
    folder = Path(tempfile.mkdtemp(prefix="curidask-test-"))
    for name, mode in (("", 0o755), ("tmp", 0o1777), ("home", 0o777)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(mode)
    run(folder / "cache")
    cache = f"{folder}/home/own,{folder}/cache"
    with cf.ArtifactManager("team", cache=cache, cache_mode="rw,ro", parallel=0) as manager:
        read_what_is_there(manager)
    yield folder
    shutil.rmtree(folder)


def read_what_is_there(manager: cf.ArtifactManager) -> None:
    record = make(cf.Record(manager, None))
    assert (record.state["a"], record.state["b"]) == (1, 2)
    assert more(record).state["c"] == 3
    assert [row["status"] for row in manager.describe_run()["tasks"]] == ["reused", "done"]


@cf.stage(["a", "b"], ["c"], [JsonCacher])
def more(record: Any, a: int, b: int) -> int:
    Path(record.get_path("beside")).write_text("x")
    return a + b


def use_cache(place: Path, cache: str) -> None:
    tempfile.tempdir = str(place / "tmp")
    with cf.ArtifactManager("team", cache=cache, config=Config(place / "home"), parallel=0) as manager:
        manager.check_cache()
        read_what_is_there(manager)
    warned = [text for text in manager.run_record.warnings if "repository" not in text]
    assert len(warned) == 1, warned
    assert "/cache is only read" in warned[0]
    assert ("not kept" in warned[0]) == ("," not in cache)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("tiers", ["cache", "home/mine,cache", "cache,home/mine"])
def test_a_folder_that_may_only_be_read_serves_with_one_warning(place: Path, tiers: str) -> None:
    cache = ",".join(f"{place}/{tier}" for tier in tiers.split(","))
    before = sorted(str(path) for path in (place / "cache").rglob("*"))
    assert as_user(*STRANGER, None, use_cache, place, cache) == 0
    assert sorted(str(path) for path in (place / "cache").rglob("*")) == before
    assert not list((place / "tmp").iterdir())
    assert len(list((place / "home" / "mine").glob("*more_c*"))) == (2 if "mine" in tiers else 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_folder_that_may_not_even_be_read_is_an_error(place: Path) -> None:
    def use(cache: str) -> None:
        with pytest.raises(CacheError, match="Permission denied"):
            cf.ArtifactManager("team", cache=cache, config=Config(place / "home"), parallel=0)

    (place / "cache").chmod(0o700)
    for cache in (f"{place}/cache", f"{place}/home/mine,{place}/cache", f"{place}/not/there"):
        assert as_user(*STRANGER, None, use, cache) == 0


# --- trying a place --------------------------------------------------------------------------------------------------
def failed_steps(cache: Path) -> set[str]:
    return {step.name for step in check_place(open_objects(cache)) if not step.ok and step.needed}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize(
    ("closed", "step"), [("below/it", "folders"), (".runs", "claim, and say so"), (".gc", "claim, and say so")]
)
def test_a_check_goes_as_deep_as_a_run(place: Path, closed: str, step: str) -> None:
    cache = place / "cache"
    os.chown(cache, 0, TEAM)
    for folder in [cache, *(path for path in cache.rglob("*") if path.is_dir())]:
        os.chown(folder, 0, TEAM)
        folder.chmod(0o2770)

    def check(expected: set[str]) -> None:
        assert failed_steps(cache) == expected

    before = sorted(os.listdir(cache))
    check(set())
    assert as_user(1001, TEAM, None, check, set()) == 0
    assert sorted(os.listdir(cache)) == before
    (cache / closed).mkdir(exist_ok=True)
    (cache / closed).chmod(0o2750)
    assert as_user(1001, TEAM, None, check, {step, "folders"}) == 0


# --- cleaning up -----------------------------------------------------------------------------------------------------
def clean_up(cache: Path, n_removed: int, refused: set[str]) -> None:
    store = ArtifactStore.open(cache)
    uses = Uses(store.objects)
    inventory = take_inventory(store)
    plan = plan_gc(inventory, uses.refresh(), Policy(unused_seconds=0, grace_seconds=-1), time.time() + 10)
    done = collect(store, inventory, plan, uses, who="me", grace_seconds=0)
    assert len(done.stems) == n_removed
    assert {name.rpartition("/")[2].partition(".")[0] for name in done.refused} == refused, done.refused
    for entry in take_inventory(store).artifacts:
        store.verify_artifact(entry.stem)
    assert not take_inventory(store).halves


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("mode", [0o2750, 0o3770])
def test_what_may_not_be_removed_is_named_and_stays_whole(place: Path, mode: int) -> None:
    cache = place / "cache"
    for path in [cache, *cache.rglob("*")]:
        os.chown(path, 0 if path.parts[-1] == "it" or path.is_file() else 1001, TEAM)
        path.chmod(0o2770 if path.is_dir() else 0o660)
    for path in cache.glob("*"):
        os.chown(path, 1001, TEAM)
    (cache / "below" / "it").chmod(mode)  # where output a lies
    name = next(path.name for path in cache.glob("*make_b*")).partition(".")[0]
    assert as_user(1001, TEAM, None, clean_up, cache, 1, {name.replace("make_b", "make_a")}) == 0
    clean_up(cache, 1, set())
