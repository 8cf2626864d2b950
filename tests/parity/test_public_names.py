"""Every public name of curifactory, every parameter and every flag has its place on the pages about it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests import test_from_curifactory_page as page
from tests.parity.systems import System
from tests.test_reference import ALL, NOT_HERE

MODULES = """
    caching cli dag docker experiment hashing manager notebook params procedure project record reporting staging store
    utils
"""
ROWS = {row.full_name: row for row in ALL}

pytestmark = pytest.mark.timeout(600)  # the first test waits until the environment is made


@pytest.fixture(scope="module")
def theirs(curifactory: System) -> dict[str, list[str] | None]:
    script = Path(__file__).with_name("public_names.py")
    command = [curifactory.python, script, "curifactory", *MODULES.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[str] | None] = json.loads(done.stdout)
    return found


def test_every_public_name_is_on_the_page(theirs: dict[str, list[str] | None]) -> None:
    assert len(theirs) > 250
    assert [name for name in theirs if not _is_told(name)] == []


def _is_told(name: str) -> bool:
    module, _, rest = name.partition(".")
    if not rest:  # of the package: a module, or what is listed there
        return module in ROWS or any(row.module == module for row in ALL)
    kind = ROWS.get(f"{module}.{rest.partition('.')[0]}")
    return name in ROWS or (kind is not None and kind.status == NOT_HERE)


def test_every_parameter_is_on_the_page_in_its_order(theirs: dict[str, list[str] | None]) -> None:
    called = [(ROWS[name], parameters) for name, parameters in theirs.items() if parameters and name in ROWS]
    assert len(called) > 60
    for row, parameters in called:
        if row.status == NOT_HERE:
            continue
        by_order = [names[0] for names in row.positional]
        told = {*by_order, *(names[0] for names in row.named), *row.refused}
        assert set(parameters) <= told, row.full_name
        known = [name for name in by_order if name in parameters]
        assert known == parameters[: len(known)], row.full_name


def test_every_flag_and_command_is_on_the_page(curifactory: System) -> None:
    flags = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", _help(curifactory, "experiment")))
    assert len(flags) > 30
    assert flags <= page.flags()
    (commands,) = set(re.findall(r"{([\w,]+)}", _help(curifactory, "curifactory")))
    told = [line for before, _ in page.FLAGS for line in page.code(before)]
    assert {line.split()[1] for line in told if line.startswith("curifactory ")} >= set(commands.split(","))


def _help(curifactory: System, command: str) -> str:
    asked = [curifactory.python.with_name(command), "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout
