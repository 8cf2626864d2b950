"""The functions of `curidask.utils`."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from curidask import utils
from curidask.errors import ProjectError, UnknownKeywordError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_run_command_prints_the_command_and_what_it_prints_as_it_comes(capfd: pytest.CaptureFixture[str]) -> None:
    assert utils.run_command([sys.executable, "-c", "print('a b')\nprint('c')"]) == 0
    command, *lines = capfd.readouterr().out.splitlines()
    assert command.startswith(sys.executable)
    assert lines[-2:] == ["a b", "c"]
    assert utils.run_command("sh -c 'echo out; echo err >&2; exit 3'") == 3
    assert capfd.readouterr() == ("sh -c 'echo out; echo err >&2; exit 3'\nout\n", "err\n")


def test_a_command_that_cannot_be_run(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ProjectError, match="cannot be run") as caught:
        utils.run_command(["no-such-program", "-x"])
    assert caught.value.where == "no-such-program -x"
    with pytest.raises(ProjectError, match="empty"):
        utils.run_command([])
    assert utils.get_command_output("no-such-program") == ""
    assert "no-such-program" in caplog.text
    caplog.clear()
    assert utils.get_command_output(["no-such-program"], silent=True) == ""
    assert caplog.text == ""
    with pytest.raises(UnknownKeywordError, match="'comd'") as wrong:
        utils.run_command(comd=["ls"])  # type: ignore[call-arg]
    assert "'cmd'" in wrong.value.fix


def test_output_of_a_command() -> None:
    assert utils.get_command_output(["printf", "a\\nb\\n\\n"]) == "a\nb\n"
    assert utils.get_command_output("echo hi") == "hi"
    assert utils.get_command_output(["false"]) == ""


def test_the_state_of_the_repository() -> None:
    assert utils.get_current_commit() == utils.NO_REPOSITORY
    assert utils.check_git_dirty_workingdir() is True
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    Path("a.txt").write_text("a")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    assert utils.get_current_commit() == utils.get_command_output("git rev-parse HEAD") != ""
    assert utils.check_git_dirty_workingdir() is False
    Path("a.txt").write_text("b")
    assert utils.check_git_dirty_workingdir() is True


def test_what_is_installed_and_where() -> None:
    assert any(line.startswith("click==") for line in utils.get_pip_freeze().splitlines())
    assert os.uname().sysname in utils.get_os()
    assert datetime.strptime("2026-01-02-T030405", utils.TIMESTAMP_FORMAT) == datetime(2026, 1, 2, 3, 4, 5)


def test_the_configuration_under_its_old_names_from_a_subfolder(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("curidask.toml").write_text('cache = "s3://bucket/path"\nexperiments = "src/exps"\n')
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    assert utils.get_configuration() == {
        "experiments_module_name": "src.exps",
        "params_module_name": "params",
        "manager_cache_path": "../data",
        "cache_path": "s3://bucket/path",
        "runs_path": "../data/runs",
        "logs_path": "../logs",
        "notebooks_path": "../notebooks",
        "reports_path": "../reports",
        "report_css_path": "../reports/style.css",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (utils.human_readable_mem_usage(1_230_000_000), "1.23 GB"),
        (utils.human_readable_mem_usage(-1500), "-1.5 kB"),
        (utils.human_readable_time(0.25), "250 ms"),
        (utils.human_readable_time(3700), "1 h 1 min"),
        (utils.preview_object([1, 2]), "list of length 2"),
        (utils.preview_object(3), "3"),
    ],
)
def test_texts_for_people(text: str, shown: str) -> None:
    assert text == shown
