"""Checking determinism in sessions: what is told at once, on S3 too, and what two values are taken for."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curidask as cf
from curidask.caching import JsonCacher, PathRef, PickleCacher
from curidask.execution.determinism import are_equal

COUNT = itertools.count()


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [PickleCacher])
def load(record: Any) -> Any:
    return {"x": {"a", "b"}, "y": np.arange(3)}


@cf.stage(["data"], ["n"], [JsonCacher])
def counts(record: Any, data: Any) -> Any:
    data["y"][0] = 9
    return next(COUNT)


@cf.stage(["n"], ["path"], [PathRef])
def writes(record: Any, n: Any) -> Any:
    path = Path(record.get_path("it.txt"))
    path.write_text(str(n))
    return str(path)


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_session_tells_at_once(
    place: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "COUNT", itertools.count())
    cache = f"{request.getfixturevalue('s3')}/checked" if place == "s3" else str(tmp_path / "cache")
    problem = "is not deterministic: on the same inputs its output 'n' came out as"
    for _ in range(2):
        caplog.clear()
        with cf.ArtifactManager("checked", cache=cache, check_determinism=True, suppress_live_log=True) as manager:
            record = counts(load(cf.Record(manager, Params("p"))))
            changed, differs = [message for message in caplog.messages if message.startswith("stage ")]
            text = Path(writes(record).state["path"]).read_text()
        assert changed == "stage 'counts' of Record 0 (p) changes its input 'data' in place"
        assert differs.startswith(f"stage 'counts' of Record 0 (p) {problem}")
        assert text == "0"  # of the very first call


class Computed:
    """Something that remembers what was asked of it."""

    def __init__(self) -> None:
        self.values = [1, 2]

    @cached_property
    def total(self) -> int:
        return sum(self.values)


def test_equal_values_with_other_pickles_are_equal() -> None:
    text = "".join(["a", "b"])
    asked = Computed()
    assert asked.total == 3
    for one, other in [
        ([text, text], [text, "".join(["a", "b"])]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.arange(3), np.arange(6)[:3]),
        ([float("nan")], [float("nan")]),
        (lambda x: x + 1, lambda x: x + 1),
        (asked, Computed()),
    ]:
        assert are_equal(one, other) is True
    for one, other in [(1, 1.0), ([1], (1,)), (np.arange(3), np.arange(3.0)), ({1}, {2}), (None, 0)]:
        assert are_equal(one, other) is False
    assert are_equal(threading.Lock(), threading.Lock()) is None
