"""Keywords of calls: synonyms are taken, everything else that is not there is an error with the near name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from curidask.core.keywords import keywords
from curidask.errors import UnknownKeywordError


@keywords(args="params", colour="color")
def paint(params: Any = None, color: str = "red", *, size: int = 1) -> tuple[Any, str, int]:
    return params, color, size


class Painter:
    @keywords(args="params")
    def __init__(self, params: Any = None) -> None:
        self.params = params

    @keywords()
    def paint(self, color: str = "red") -> str:
        return color


class HousePainter(Painter):
    pass


class PassingPainter(Painter):
    @keywords(tall="height")
    def __init__(self, height: int = 1, **others: Any) -> None:
        super().__init__(**others)


def test_a_call_with_the_names_of_parameters_goes_through() -> None:
    assert paint(1, "blue", size=2) == (1, "blue", 2)
    assert paint(params=1, color="blue") == (1, "blue", 1)


def test_a_synonym_reaches_its_parameter() -> None:
    assert paint(args=1, colour="blue") == (1, "blue", 1)
    assert Painter(args=1).params == 1


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("paramz", "'params'"), ("colou", "'colour'"), ("siz", "'size'"), ("zzz", "color, params, size")],
)
def test_a_typo_is_an_error_with_the_near_name(wrong: str, near: str) -> None:
    with pytest.raises(TypeError, match=f"no keyword '{wrong}'") as caught:
        paint(**{wrong: 1})
    assert isinstance(caught.value, UnknownKeywordError)
    assert near in caught.value.fix


def test_a_typo_of_what_a_subclass_takes_is_found_where_it_is_passed_on() -> None:
    assert PassingPainter(tall=3, args=1).params == 1
    for wrong, near in (("heigt", "'height'"), ("parms", "'params'"), ("tal", "'tall'")):
        with pytest.raises(UnknownKeywordError, match=r"^PassingPainter\(\) has no keyword") as caught:
            PassingPainter(**{wrong: 1})
        assert near in caught.value.fix


def test_the_message_names_the_class_or_the_method() -> None:
    with pytest.raises(UnknownKeywordError, match=r"^HousePainter\(\) has no keyword 'parms'"):
        HousePainter(parms=1)
    with pytest.raises(UnknownKeywordError, match=r"^Painter\.paint\(\) has no keyword 'colr'"):
        Painter().paint(colr=1)


@pytest.mark.parametrize(
    ("positional", "named"), [((), {"args": 1, "params": 2}), ((1,), {"args": 2}), ((1, "red"), {"colour": "blue"})]
)
def test_one_parameter_under_two_names_is_an_error(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(UnknownKeywordError, match="twice"):
        paint(*positional, **named)


def test_self_is_no_keyword_and_the_signature_stays() -> None:
    with pytest.raises(TypeError):
        Painter(**{"self": 1})
    assert list(inspect.signature(paint).parameters) == ["params", "color", "size"]


def test_a_function_that_takes_every_keyword_still_has_its_synonyms() -> None:
    @keywords(args="params")
    def takes_all(params: Any = None, **others: Any) -> tuple[Any, dict[str, Any]]:
        return params, others

    assert takes_all(args=1, anything=2) == (1, {"anything": 2})
