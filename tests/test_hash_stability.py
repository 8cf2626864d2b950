"""Digests stay what they are: from one process, version of Python and release to the next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hash_values import PACKAGES, digests

ROOT = Path(__file__).parent.parent
GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "hash_digests.json").read_text())


def ask(python: str, hash_seed: int) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.Popen(
        [python, "-m", "tests.hash_values"],
        cwd=ROOT,
        env={**environment, "PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def other_pythons() -> Iterator[str]:
    """One interpreter of each other minor version from 3.11 on that is on this machine, with whatever packages."""
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    beside = [str(path) for path in Path(sys.base_prefix).parent.glob("*/bin/python3")]
    seen = {sys.version_info[:2]}
    for python in filter(None, [*named, *beside]):
        said = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[0], sys.version_info[1])"],
            capture_output=True,
            text=True,
            check=False,
        )
        version = tuple(map(int, said.stdout.split())) if said.returncode == 0 else (0, 0)
        if version >= (3, 11) and version not in seen:
            seen.add(version)
            yield python


def test_the_table_is_whole_and_its_digests_differ() -> None:
    assert len(GOLDEN) >= 200
    assert len(set(GOLDEN.values())) == len(GOLDEN)
    assert {name.partition(":")[0] for name in GOLDEN} == {package or "python" for package in PACKAGES}


def test_digests_are_those_that_were_kept() -> None:
    # Other digests are other keys: each cache of each user would be computed anew. Where that is meant, the changelog
    # says so, and `python -m tests.hash_values > tests/hash_digests.json` keeps the new ones.
    assert digests() == GOLDEN


@pytest.mark.timeout(300)
def test_other_hash_seeds_and_other_versions_of_python_give_the_same_digests() -> None:
    asked = {f"seed {seed}": ask(sys.executable, seed) for seed in (1, 2)}
    asked |= {python: ask(python, 3) for python in other_pythons()}
    told = {who: process.communicate(timeout=280)[0] for who, process in asked.items()}
    for who, text in told.items():
        found: dict[str, str] = json.loads(text)
        assert {name: GOLDEN[name] for name in found} == found, who
        assert len(found) >= 100, who
    assert all(json.loads(told[f"seed {seed}"]) == GOLDEN for seed in (1, 2))
