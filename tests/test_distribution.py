"""What is released: a wheel and a source distribution that are whole, hold nothing else, and work alone."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import curidask

ROOT = Path(__file__).parent.parent
RELEASE = f"curidask-{curidask.__version__}"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


@dataclass(frozen=True)
class Distribution:
    wheel: Path
    source: Path


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """Built once for all processes of the test session, the wheel out of the source distribution."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distribution"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = Distribution(folder / f"{RELEASE}-py3-none-any.whl", folder / f"{RELEASE}.tar.gz")
        if not built.wheel.exists():
            run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return built


def modules_and_data() -> set[str]:
    """What the package's folder holds, but for what Python compiles there."""
    files = {path.relative_to(ROOT) for path in (ROOT / "curidask").rglob("*") if path.is_file()}
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def test_an_index_accepts_both(distribution: Distribution, tmp_path: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", distribution.wheel, distribution.source, folder=tmp_path)


def test_the_wheel_holds_the_package_and_nothing_else(distribution: Distribution) -> None:
    names = set(zipfile.ZipFile(distribution.wheel).namelist())
    about = f"{RELEASE}.dist-info"
    assert {name for name in names if not name.startswith(f"{about}/")} == modules_and_data()
    assert {"curidask/py.typed", "curidask/reporting/templates/report.html"} <= names
    assert {f"{about}/entry_points.txt", f"{about}/licenses/LICENSE"} <= names


def test_the_source_distribution_holds_what_it_is_built_and_tested_from(distribution: Distribution) -> None:
    with tarfile.open(distribution.source) as archive:
        names = {name.removeprefix(f"{RELEASE}/") for name in archive.getnames()}
    assert modules_and_data() <= names
    assert {name.partition("/")[0] for name in names} == {
        *("curidask", "docs", "examples", "tests", "pyproject.toml", ".gitignore", "PKG-INFO"),
        *("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    }
    left_by_runs = [name for name in names if re.match(r"examples/\w+/(data|logs|reports)/", name)]
    assert left_by_runs == []


@pytest.mark.timeout(300)
def test_the_wheel_works_alone(distribution: Distribution, tmp_path: Path) -> None:
    """With what it asks for and no extra: the commands start, and the README's experiment runs."""
    environment, project = tmp_path / "environment", tmp_path / "project"
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, environment, folder=tmp_path)
    run(uv, "pip", "install", "--quiet", "--python", environment, distribution.wheel, folder=tmp_path)
    commands = environment / "bin"
    project.mkdir()
    assert "experiment" in run(commands / "experiment", "--help", folder=project)
    run(commands / "curidask", "init", "--yes", folder=project)
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (project / "experiments" / "pi.py").write_text(source)
    assert "10000 darts" in run(commands / "experiment", "pi", "--parallel", "0", folder=project)
