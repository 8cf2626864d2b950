"""What cannot be read when it is loaded or copied, whatever a look at it said before."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.errors import CacheError, ObjectMissingError, ObjectUnreadableError
from curidask.store.backends.base import open_objects
from tests.test_team_folders import make, opens, run  # noqa: F401


def test_what_fails_between_the_check_and_the_loading_is_looked_at_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opens: Callable[[Callable[[str], None]], None],  # noqa: F811
) -> None:
    """A loader that could not read its file tries once more, unless the file turns out to be lost."""
    run(tmp_path)
    (payload,) = (p for p in tmp_path.rglob("*make_a*") if not p.name.endswith("_metadata.json"))
    before = payload.stat().st_ino
    failures = 1
    usual = JsonCacher.load

    def fault(path: str) -> None:
        if path == str(payload) and payload.stat().st_ino == before and failures < 0:
            raise OSError(errno.EIO, "Input/output error")

    def load(self: JsonCacher) -> Any:
        nonlocal failures
        failures -= 1
        if payload.stat().st_ino == before and (failures == 0 or failures < -1):
            raise OSError(errno.EIO, "Input/output error")
        return usual(self)

    monkeypatch.setattr(JsonCacher, "load", load)

    def read() -> list[str]:
        with cf.ArtifactManager("team", cache=str(tmp_path), parallel=0) as manager:
            assert make(cf.Record(manager, None)).state["a"] == 1
            return list(manager.run_record.warnings)

    assert read() == []
    assert payload.stat().st_ino == before
    opens(fault)
    assert any("Input/output error" in text for text in read())
    assert payload.stat().st_ino != before


def test_what_cannot_be_copied_out_is_no_fault_of_the_place_it_is_copied_to(tmp_path: Path) -> None:
    objects = open_objects(tmp_path / "cache")
    objects.write("other", b"1")
    (tmp_path / "cache" / "loop").symlink_to("loop")
    (tmp_path / "cache" / "gone").symlink_to("nowhere")
    with pytest.raises(ObjectUnreadableError, match="symbolic links"):
        objects.fetch("loop", tmp_path / "target")
    with pytest.raises(ObjectMissingError):
        objects.fetch("gone", tmp_path / "target")
    with pytest.raises(CacheError) as raised:
        objects.fetch("other", tmp_path / "nowhere" / "target")
    assert not isinstance(raised.value, ObjectMissingError)
