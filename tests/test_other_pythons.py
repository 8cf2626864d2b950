"""The pure parts on every other Python that is on the machine: their own tests, run there.

Digests of values are compared across Pythons by ``test_hash_stability``. Where there is no other Python nothing is left
out, since the tests of this one run anyway, and the summary says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_hash_stability import other_pythons

ROOT = Path(__file__).parent.parent
PACKAGES = ("attrs", "hypothesis", "numpy", "omegaconf", "pydantic", "pytest", "pytest-timeout")
PURE = (
    "tests/test_params.py",
    "tests/test_planning.py",
    "tests/test_code_fingerprint.py::test_digests_are_those_that_were_kept",
)
DRAWN = ("test_every_run_comes_to_its_end", "test_aggregates_go_on_over_what_is_left")
"""What plays thousands of random runs through, which is as slow on each Python and as right on one as on another."""


def pure_tests(python: str, folder: Path) -> subprocess.Popen[str]:
    """Start them with an interpreter, in an environment that has what they import and not curidask's dependencies."""
    uv, environment = Path(sys.executable).with_name("uv"), folder / "environment"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    for command in (
        ["venv", "--quiet", "--python", python, environment],
        ["pip", "install", "--quiet", "--python", environment, *PACKAGES],
    ):
        subprocess.run([uv, *command], check=True, env=variables, timeout=150)
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", folder / "temporary", "-k", f"not ({' or '.join(DRAWN)})"]
    return subprocess.Popen(
        [environment / "bin" / "python", "-m", "pytest", *options, *PURE],
        cwd=ROOT,
        env=variables | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(300)
def test_the_pure_parts_pass_their_tests_on_the_other_pythons_of_this_machine(tmp_path: Path) -> None:
    pythons = list(other_pythons())
    if not pythons:
        pytest.skip(
            f"this machine has no other Python than {sys.version.split()[0]}, whose tests of the pure parts count"
        )
    for number in range(len(pythons)):
        (tmp_path / str(number)).mkdir()
    started = {python: pure_tests(python, tmp_path / str(number)) for number, python in enumerate(pythons)}
    ended = {python: (process.communicate(timeout=280)[0], process.returncode) for python, process in started.items()}
    assert [f"{python}:\n{said}" for python, (said, code) in ended.items() if code != 0] == []
