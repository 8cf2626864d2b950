"""A tier that has served and goes away is done without for a while, as far as another one is left to store to."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from curidask.errors import CacheError
from curidask.session.claim_watcher import Free, Waiting
from curidask.store import tiers
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.base import without_place
from curidask.store.claims import Claim, Claims
from curidask.store.maintenance.usage import RunReferences
from curidask.store.tiers import Mode, Tier, TieredStore
from tests.faulty import WrappedObjects

T = TypeVar("T")
STEM = "demo_abc_load_data.0123456789ab"


class Leaving(WrappedObjects):
    """A place that may be gone; it counts what is asked of it."""

    kind = ""
    asked = 0

    def _do(self, operation: str, action: Callable[[], T]) -> T:
        self.asked += 1
        if self.kind:
            error = CacheError("The service cannot be reached (detail 1).", where=self.url)
            error.kind = self.kind
            raise error
        return super()._do(operation, action)


class Places:
    """A folder before a place that may be gone."""

    def __init__(self, folder: Path, first: Mode = Mode.READ_WRITE) -> None:
        self.far = Leaving(open_objects(folder / "far"))
        near = ArtifactStore(open_objects(folder / "near"), writable=first is Mode.READ_WRITE)
        self.store = TieredStore([Tier(near, first), Tier(ArtifactStore(self.far))])
        self.claims = Claims(self.far, "session", "ann", 60.0)

    def take(self) -> Any:
        return without_place(self.store, self.far, lambda: self.claims.take(STEM))

    def leave(self, kind: str = "unreachable") -> None:
        self.store.check_writable()
        self.far.kind = kind


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.mark.parametrize("kind", ["unreachable", "timeout", "server", "throttled", "broken", "expired", "login"])
def test_claims_and_looks_go_on_without_it_and_one_notice(places: Places, kind: str) -> None:
    places.leave(kind)
    assert places.take() is None
    asked = places.far.asked
    assert places.take() is None
    assert places.store.present([STEM]) == set()
    assert places.store.manifests([STEM]) == {}
    assert places.store.places == [places.store.tiers[0].store.objects]
    assert places.far.asked == asked  # nobody waits for it again
    (notice,) = places.store.notices()
    assert "--cache-mode rw,off" in notice
    assert "curidask cache push" in notice
    assert "detail" not in notice  # it differs between processes, so each of them would warn


def test_it_is_tried_again(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "PAUSE_SECONDS", 0.01)
    places.leave()
    assert places.take() is None
    time.sleep(0.02)
    assert places.take() is None
    places.far.kind = ""
    time.sleep(0.02)
    assert isinstance(places.take(), Claim)
    assert places.store.reachable() is places.store


def test_looking_first_finds_it_gone_too(places: Places) -> None:
    places.leave()
    assert places.store.present([STEM]) == set()
    assert places.store.reachable().sources == [places.store.tiers[0].store]
    assert len(places.store.notices()) == 1


def test_a_worker_knows_that_it_has_served(places: Places) -> None:
    places.store.check_writable()
    there = pickle.loads(pickle.dumps(copy.copy(places.store)))
    assert [tier.has_served for tier in there.tiers] == [True, True]


def test_what_never_served_is_an_error(places: Places) -> None:
    places.far.kind = "unreachable"
    for action in (places.take, lambda: places.store.present([STEM])):
        with pytest.raises(CacheError, match="cannot be reached"):
            action()
    with pytest.raises(CacheError, match="cannot be reached") as caught:
        places.store.check_writable()
    assert "`--cache-mode rw,off` does without it" in caught.value.fix


def test_without_another_place_to_store_to_the_error_stays(tmp_path: Path) -> None:
    places = Places(tmp_path, Mode.READ_ONLY)
    places.leave()
    for action in (places.take, lambda: places.store.present([STEM])):
        with pytest.raises(CacheError, match="cannot be reached"):
            action()
    alone = ArtifactStore(places.far)
    with pytest.raises(CacheError, match="cannot be reached"):
        without_place(alone, places.far, lambda: places.claims.take(STEM))


def test_what_only_it_has_is_an_error_and_not_missing(places: Places) -> None:
    places.leave()
    assert places.take() is None
    with pytest.raises(CacheError, match="cannot be reached"):
        places.store.checkout(STEM, "0" * 64)


def test_a_tier_is_not_blamed_for_the_one_behind_it(places: Places) -> None:
    places.leave()
    with pytest.raises(CacheError, match="cannot be reached"):
        places.store.checkout(STEM, "0" * 64)
    assert places.store.tiers[0].takes_writes


def test_whoever_waits_for_others_goes_on(places: Places) -> None:
    class Task:
        id, marker, store_stems = 7, STEM, (STEM,)

    waiting = Waiting(places.store, places.claims)
    Claims(places.far, "other", "ben", 60.0).take(STEM)
    held = places.take()
    waiting.add(Task, held)  # type: ignore[arg-type]
    assert waiting.look() == []
    places.leave()
    assert waiting.look() == [Free(7)]


def test_what_a_run_says_of_itself_is_said_where_it_can_be(places: Places) -> None:
    use = RunReferences(
        places.store.places, reference="demo_1", within=lambda place, ask: without_place(places.store, place, ask)
    )
    places.leave()
    use.register([STEM])
    use.end([STEM])
    near = places.store.tiers[0].store.objects
    assert [name.rpartition("/")[2] for name in near.list(".runs/")] == ["end.json"]
    assert len(places.store.notices()) == 1
