"""What claims promise, wherever they lie: one owner at a time, and a dead one is replaced."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import curidask as cf
from curidask.errors import CacheError
from curidask.store import claims as lease_renewal
from curidask.store.backends import conditional_put
from curidask.store.backends.base import ObjectStore, open_objects
from curidask.store.claims import Claim, ClaimLostSignal, Claims, Held, Owner, birth, claim_name, is_running
from tests.conftest import TABLE, Project

STEM = "exp_hash_train_files.0123456789ab"


def claims(objects: ObjectStore, session: str = "", lease_seconds: float = 30.0) -> Claims:
    return Claims(objects, session or os.urandom(4).hex(), "ada", lease_seconds)


def owner_elsewhere(mine: Claims, **fields: object) -> Owner:
    """Somebody on another machine."""
    other = replace(mine.owner, id="other", session="other", host="lab7", place="lab7/boot/pids")
    return replace(other, **fields)  # type: ignore[arg-type]


@pytest.fixture
def other(objects: ObjectStore) -> Iterator[Owner]:
    """Another machine's owner, who holds the claim on STEM."""
    holder = owner_elsewhere(claims(objects))
    objects.write(claim_name(STEM, 0), holder.to_bytes())
    return holder


def test_one_takes_it_and_the_next_learns_who(objects: ObjectStore, other: Owner) -> None:
    assert claims(objects).take(STEM) == Held(0, "ada on lab7", 30.0)
    assert claims(objects).take("exp_hash_train_files.ba9876543210") == Claim("exp_hash_train_files.ba9876543210", 0)


def test_a_released_claim_can_be_taken_again(objects: ObjectStore) -> None:
    one, two = claims(objects), claims(objects)
    first = one.take(STEM)
    assert isinstance(first, Claim)
    assert isinstance(two.take(STEM), Held)
    one.release(first)
    assert two.take(STEM) == first


def test_claims_are_no_objects_of_a_listing(objects: ObjectStore) -> None:
    mine = claims(objects)
    taken = mine.take(STEM)
    assert objects.list() == []
    with mine.renewing(taken):
        pass
    mine.close([STEM])
    assert objects.list(".claim") == []


def test_many_who_take_at_once_have_one_winner(objects: ObjectStore) -> None:
    for number in range(8 if objects.local_root else 2):
        stem = f"exp_hash_s{number}_files.0123456789ab"
        with ThreadPoolExecutor(16) as pool:
            taken = list(pool.map(lambda one: one.take(stem), [claims(objects) for _ in range(16)]))  # noqa: B023
        assert sum(isinstance(result, Claim) for result in taken) == 1


def test_what_has_ended_is_taken_over_by_one(objects: ObjectStore, other: Owner) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda one: one.take(STEM, supersedes=0), [claims(objects) for _ in range(16)]))
    winners = [result for result in taken if isinstance(result, Claim)]
    assert winners == [Claim(STEM, 1)]
    assert {result.generation for result in taken if isinstance(result, Held)} == {1}
    # Whoever has not seen the lease end finds the new owner.
    assert isinstance(claims(objects).take(STEM), Held)
    claims(objects).release(winners[0])
    assert objects.list(".claim-") == []


def test_a_dead_worker_of_the_same_run_is_replaced_at_once(objects: ObjectStore) -> None:
    mine = claims(objects, "run")
    objects.write(claim_name(STEM, 0), owner_elsewhere(mine, session="run").to_bytes())
    assert mine.take(STEM) == Claim(STEM, 1)
    claims(objects, "run").close([STEM])
    assert objects.list(".claim") == []


def test_a_dead_process_of_this_host_is_replaced_at_once(objects: ObjectStore) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = claims(objects)
    dead = replace(mine.owner, id="dead", session="dead", pid=ended.pid)
    objects.write(claim_name(STEM, 0), dead.to_bytes())
    assert mine.take(STEM) == Claim(STEM, 1)
    alive = replace(mine.owner, id="alive", session="alive", pid=os.getppid(), born=birth(os.getppid()))
    objects.write(claim_name("b.0123456789ab", 0), alive.to_bytes())
    assert isinstance(mine.take("b.0123456789ab"), Held)
    # The number belongs to another process by now.
    objects.write(claim_name("c.0123456789ab", 0), replace(alive, born=10.0).to_bytes())
    assert mine.take("c.0123456789ab") == Claim("c.0123456789ab", 1)


def test_a_lost_reply_does_not_make_an_owner_lose_to_itself(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = claims(objects)
    objects.write(claim_name(STEM, 0), mine.owner.to_bytes())
    assert mine.take(STEM) == Claim(STEM, 0)


def test_a_claim_that_cannot_be_read_is_waited_for(objects: ObjectStore) -> None:
    objects.write(claim_name(STEM, 0), b"{half")
    assert isinstance(claims(objects).take(STEM), Held)
    assert claims(objects).take(STEM, supersedes=0) == Claim(STEM, 1)


def test_a_claim_is_renewed_while_it_is_held_and_not_after(objects: ObjectStore) -> None:
    mine = claims(objects, lease_seconds=0.2)
    taken = mine.take(STEM)
    assert isinstance(taken, Claim)
    with mine.renewing(taken):
        seen = set()
        for _ in range(60):
            seen.update(mine.raw([(STEM, 0)]).values())
            time.sleep(0.01)
        assert len(seen) > 3
    time.sleep(0.2)
    assert mine.raw([(STEM, 0)]) == {}


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Has this machine, for what its clock says, slept for some seconds."""
    now, slept = lease_renewal.now, 0.0

    def add(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    monkeypatch.setattr(lease_renewal, "now", lambda: now() + slept)
    return add


def test_an_owner_that_was_silent_and_lost_its_claim_commits_and_removes_nothing(
    objects: ObjectStore, sleep: Callable[[float], None]
) -> None:
    slow, taker, newcomer = (claims(objects) for _ in range(3))
    first = slow.take(STEM)
    assert isinstance(first, Claim)
    with slow.renewing(first):
        slow.require(first)
        sleep(40)
        second = taker.take(STEM, supersedes=0)
        assert second == Claim(STEM, 1)
        with pytest.raises(ClaimLostSignal) as lost:
            slow.require(first)
        assert (lost.value.held.generation, lost.value.held.holder) == (1, taker.owner.label)
        assert lost.value.silent_seconds >= 40
    assert isinstance(newcomer.take(STEM), Held)
    slow.close([STEM])
    assert isinstance(newcomer.take(STEM), Held)
    taker.release(second)
    assert newcomer.take(STEM) == Claim(STEM, 0)


def test_an_owner_whose_successor_has_ended_commits_nothing(
    objects: ObjectStore, sleep: Callable[[float], None]
) -> None:
    slow, taker = claims(objects), claims(objects)
    first = slow.take(STEM)
    assert isinstance(first, Claim)
    with slow.renewing(first):
        sleep(40)
        second = taker.take(STEM, supersedes=0)
        assert isinstance(second, Claim)
        taker.release(second)
        with pytest.raises(ClaimLostSignal):
            slow.require(first)
    assert objects.list(".claim-") == []


def test_an_owner_that_was_silent_and_kept_its_claim_goes_on(
    objects: ObjectStore, sleep: Callable[[float], None]
) -> None:
    mine = claims(objects)
    taken = mine.take(STEM)
    assert isinstance(taken, Claim)
    with mine.renewing(taken):
        sleep(40)
        mine.require(taken)
    assert objects.list(".claim-") == []


def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        born = birth(process.pid)
        for seconds in (-30, 30, 1e6):
            monkeypatch.setattr(time, "time", lambda seconds=seconds: 1e9 + seconds)
            assert is_running(process.pid, born)
        assert not is_running(process.pid, born + 1)
    finally:
        process.communicate(b"\n")
    assert not is_running(process.pid, born)
    assert birth(process.pid) == 0.0


def test_claims_travel_to_workers(objects: ObjectStore) -> None:
    mine = claims(objects, "run")
    copy = pickle.loads(pickle.dumps(mine))
    assert copy.session == "run"
    assert copy.owner.id != mine.owner.id


def _take_and_hang(url: str, ready: str) -> None:
    mine = claims(open_objects(url))
    taken = mine.take(STEM)
    assert isinstance(taken, Claim)
    with mine.renewing(taken):
        Path(ready).touch()
        time.sleep(60)


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    url, ready = str(tmp_path / "cache"), tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=_take_and_hang, args=(url, str(ready)))
    process.start()
    try:
        while not ready.exists():
            time.sleep(0.02)
        mine = claims(open_objects(url))
        assert isinstance(mine.take(STEM), Held)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert mine.take(STEM) == Claim(STEM, 1)
    finally:
        process.kill()


def test_a_folder_without_links_has_claims_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    one, two = (claims(open_objects(tmp_path / "cache")) for _ in range(2))
    assert one.take(STEM) == Claim(STEM, 0)
    assert isinstance(two.take(STEM), Held)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EACCES])
def test_a_folder_whose_links_fail_otherwise_has_no_claims_and_the_right_results(
    in_project: Project, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    conditional_put.forget()
    assert cf.run_experiment("demo", parallel=0, report=False) == TABLE
    warnings = in_project.last_run()["warnings"]
    assert sum("does not create objects exclusively" in text for text in warnings) == 1
    assert open_objects(in_project.cache).list(".claim") == []
    conditional_put.forget()


def test_a_place_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError):
        claims(open_objects(tmp_path / "file")).take(STEM)
