"""Setting up a project: with --yes, by answering, into what is there already."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from curidask.session.config import Config, load_config
from tests.conftest import Project

QUESTIONS = 7
"""Folders that are asked for."""


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A folder to run in, outside of any repository."""
    project = Project(tmp_path / "work")
    project.root.mkdir()
    return project


def init(project: Project, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    done = project.command("curidask", "init", *arguments, typed=typed)
    assert done.returncode == 0, done.stderr
    return done


def test_yes_asks_nothing_and_makes_what_runs(empty: Project) -> None:
    init(empty, "--yes")
    names = {str(path.relative_to(empty.root)) for path in empty.root.rglob("*")}
    assert names == {"curidask.toml", ".gitignore", "experiments", "experiments/example.py", "params"}
    assert load_config(empty.root, {}) == Config(
        empty.root.resolve(), source=str(empty.root.resolve() / "curidask.toml")
    )
    done = empty.experiment("example", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    assert "100000 darts" in done.stdout


def test_enter_takes_the_defaults_and_makes_a_repository(empty: Project) -> None:
    init(empty, "there", typed="\n" * (QUESTIONS + 2))
    root = empty.root / "there"
    assert (root / ".git").is_dir()
    assert load_config(root, {}).cache == "data/cache"
    assert (root / ".gitignore").read_text().split() == ["data/", "logs/", "reports/"]


def test_answers_are_configured_used_and_ignored_by_git(empty: Project) -> None:
    answers = ["y", "src/exps", "src/sets", "/mnt/x/cache", "src/runs", "made/logs", "", "nb", "n"]
    init(empty, typed="\n".join(answers) + "\n")
    config = load_config(empty.root, {})
    code = (config.experiments, config.params)
    made = (config.cache, config.runs, config.logs, config.reports, config.notebooks)
    assert code == ("src/exps", "src/sets")
    assert made == ("/mnt/x/cache", "src/runs", "made/logs", "reports", "nb")
    assert (empty.root / "src/exps/example.py").exists()
    assert (empty.root / ".gitignore").read_text().split() == ["src/runs/", "made/", "reports/"]
    assert not (empty.root / ".git").exists()
    done = empty.experiment("example", "--cache", "c", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    assert (empty.root / "src/runs").is_dir()
    assert (empty.root / "made/logs").is_dir()


def test_an_answer_that_cannot_be_used_is_asked_for_again(empty: Project) -> None:
    done = init(empty, typed="y\n../out\n/abs\nexps\n" + "\n" * QUESTIONS)
    assert done.stdout.count("within the project") == 2
    assert load_config(empty.root, {}).experiments == "exps"


def test_no_for_an_answer_writes_nothing(empty: Project) -> None:
    done = empty.command("curidask", "init", typed="n\n")
    assert done.returncode == 1
    assert not list(empty.root.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[tool.curidask]\nexperiments = "exps"\n'),
        ("curifactory_config.json", '{"experiments_module_name": "exps"}'),
    ],
)
def test_a_configuration_that_is_there_stays_and_is_not_asked_for(empty: Project, name: str, text: str) -> None:
    empty.write(name, text)
    done = init(empty, typed="y\nn\n")
    assert f"kept      {name}" in done.stdout
    assert (empty.root / name).read_text() == text
    assert (empty.root / "exps/example.py").exists()
    assert not (empty.root / "curidask.toml").exists()


def test_what_is_there_stays(empty: Project) -> None:
    empty.write("pyproject.toml", '[project]\nname = "x"\n')
    empty.write(".gitignore", "data/\nmine\n")
    empty.write("experiments/example.py", "# mine\n")
    init(empty, "--yes")
    before = {path: path.read_bytes() for path in empty.root.rglob("*") if path.is_file()}
    assert (empty.root / "experiments/example.py").read_text() == "# mine\n"
    assert (empty.root / ".gitignore").read_text().split() == ["data/", "mine", "logs/", "reports/"]
    init(empty, "--yes")
    assert {path: path.read_bytes() for path in empty.root.rglob("*") if path.is_file()} == before


def test_within_a_repository_none_is_offered(empty: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=empty.root, check=True)
    init(empty, "inner", typed="\n" * (QUESTIONS + 1))
    assert not (empty.root / "inner/.git").exists()


def test_a_folder_that_cannot_be_written(empty: Project) -> None:
    empty.write("file", "")
    for arguments in (("--yes", "file/below"), ("--yes", "/proc/nowhere")):
        done = empty.command("curidask", "init", *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
