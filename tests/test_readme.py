"""What the README shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Project

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_experiment_runs_and_is_reused(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    assert project.root.mkdir() is None
    project.command("curidask", "init", "--yes")
    (source,) = blocks("python")
    project.write("experiments/pi.py", source)
    first = project.experiment("pi", "--parallel", "2")
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"\{'100 darts': [\d.]+, '10000 darts': 3\.1\d*\}\n", first.stdout)
    again = project.experiment("pi")
    assert again.stdout == first.stdout
    assert "everything was in the cache" in again.stderr


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    _, tests = (block.strip() for block in blocks("sh"))
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', tests]


def test_the_files_it_names_are_there() -> None:
    for name in re.findall(r"\]\((?!http)([^)]+)\)|`((?:docs|CONTRIBUTING)[\w./]+)`", README):
        assert (ROOT / (name[0] or name[1])).exists(), name
