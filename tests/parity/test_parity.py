"""The same scripts through curifactory and through curidask: the same values, executions, exit codes and files.

What differs on purpose is written down in ``differences.toml``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.parity.cases import Case, cases
from tests.parity.differences import Difference, Place, differences, places, reasons
from tests.parity.systems import System

CASES = list(cases())

pytestmark = pytest.mark.timeout(600)  # the first test waits until the environment is made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_does_the_same(case: Case, curifactory: System, curidask: System, tmp_path: Path) -> None:
    theirs = curifactory.observe(case, tmp_path / "curifactory")
    ours = curidask.observe(case, tmp_path / "curidask")

    found = list(places(theirs, ours))
    known = [each for each in differences() if fnmatch.fnmatchcase(case.name, each.script)]
    new = [place for place in found if not any(each.is_at(place) for each in known)]
    gone = [each for each in known if not any(each.is_at(place) for place in found)]
    assert [*new, *gone] == [], "\n".join(_told(new, gone, tmp_path / "curidask"))


def _told(new: list[Place], gone: list[Difference], folder: Path) -> Iterable[str]:
    yield f"{len(new)} new differences, {len(gone)} that are gone; all that was printed is below {folder}"
    for place in new:
        yield f"  {place.at}\n    curifactory: {place.curifactory}\n    curidask:    {place.curidask}"
    for each in gone:
        yield f"  {each.at} does not differ any more in this way: {each.reason}"
    for step in sorted({place.at.rpartition("/")[0] for place in new if place.at.endswith("/exit")}):
        yield f"  {step} of curidask:\n{(folder / step.replace('/', '-') / 'stderr').read_text()[-2000:]}"


def test_each_difference_is_of_a_script_and_has_a_reason() -> None:
    names = [case.name for case in CASES]
    for difference in differences():
        assert fnmatch.filter(names, difference.script), difference
    assert reasons().keys() == {difference.reason for difference in differences()}


def test_there_are_enough_scripts() -> None:
    assert len(CASES) >= 45
