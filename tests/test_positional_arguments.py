"""What follows the record in the call of a stage by position, too, is for the parameters of its function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.errors import WrongTypeError


@cf.stage(None, ["data"], [JsonCacher])
def make(record: Any, scale: int, *, offset: int = 0) -> Any:
    return [scale, offset]


@cf.stage(["data"], ["more"])
def change(record: Any, scale: int, data: Any) -> Any:
    return [scale, data]


@cf.stage(["data"], ["more"])
def follow(record: Any, data: Any, scale: int) -> Any:
    return [scale, data]


@cf.stage(None, ["all"])
def take(record: Any, *values: Any) -> Any:
    return list(values)


@cf.stage(None, ["nothing"])
def bare(record: Any) -> Any:
    return None


@cf.aggregate(["data"], ["all"])
def gather(record: Any, records: Any, data: Any, scale: int = 1) -> Any:
    return [scale, list(data.values())]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    with cf.ArtifactManager("called", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


def test_by_position_and_by_keyword_are_one_artifact(manager: cf.ArtifactManager) -> None:
    one, two = (cf.Record(manager, None) for _ in range(2))
    assert make(one, 3, offset=4).output == make(two, scale=3, offset=4).output == [3, 4]
    assert one.state.raw("data") == two.state.raw("data")
    assert change(one, 5).output == [5, [3, 4]]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda record: make(record, 3, 4), "make() takes 1 argument by position after the record; "
         "write `make(record, scale=..., offset=...)`"),
        (lambda record: make(record, 3, scale=4), "make() was given 'scale' by position and by keyword; "
         "write `make(record, scale=..., offset=...)`"),
        (lambda record: follow(record, 3), "The argument of follow() at the place of 'data' is for an input, which "
         "the state gives; write `follow(record, scale=...)`"),
        (lambda record: take(record, 3), "take() takes no arguments by position after the record; "
         "write `take(record)`, and give its function a parameter for more"),
        (lambda record: bare(record, 3), "bare() takes no arguments by position after the record; "
         "write `bare(record)`, and give its function a parameter for more"),
        (lambda record: gather(record, [record], 3), "gather() takes no arguments by position after the records; "
         "write `gather(record, records, scale=...)`"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_an_error_with_the_call_to_write(
    manager: cf.ArtifactManager, call: Any, said: str
) -> None:
    with pytest.raises(WrongTypeError) as raised:
        call(cf.Record(manager, None))
    what, fix = said.split("; ")
    assert what in str(raised.value)
    assert fix in str(raised.value)
    assert re.search(r"stage '\w+' \(.*test_positional_arguments.py:\d+\)", str(raised.value))
