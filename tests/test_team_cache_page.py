"""What ``docs/team-cache.md`` shows works as it stands: the commands on a real bucket, policy and settings as data."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest

from curidask.cli.cache.commands import cache_group
from curidask.cli.run import run_command
from curidask.session.config import SETTINGS, load_config
from curidask.store.backends.errors import KINDS
from tests.conftest import DEMO, Project
from tests.test_docs_cli import flags_of

PAGE = (Path(__file__).parents[1] / "docs" / "team-cache.md").read_text()
BUCKET = "s3://our-bucket/team"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("curidask ", "experiment "))]


def test_the_commands_work_one_after_the_other(s3: str, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.write("curidask.toml", "")
    project.write("experiments/example.py", DEMO)
    first = project.experiment("example", "--parallel", "0", "--no-report", "--cache", f"data/cache,{s3}")
    assert first.returncode == 0, first.stderr
    ran = commands()
    assert {line.split()[2] for line in ran if line.startswith("curidask cache")} == set(cache_group.commands)
    for line in ran:
        name, *arguments = shlex.split(line.replace(BUCKET, s3))
        plain = ["--parallel", "0", "--no-report"] if name == "experiment" else []
        done = project.command(name, *arguments, *plain)
        assert done.returncode == 0, line + done.stdout + done.stderr
    assert all(count == 1 for stage, count in project.calls().items() if not stage.startswith("change"))


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_settings_are_settings(text: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "project", ignore_errors=True)
    project = Project(tmp_path / "project")
    project.write("curidask.toml", text)
    config = load_config(project.root, {})
    config.store_settings()
    for url in config.cache_urls():
        config.storage_options(url)
    assert set(tomllib.loads(text)) <= {"cache", "cache_mode", "storage"}


def test_the_policy_is_json_and_names_what_check_asks_for() -> None:
    (policy,) = map(json.loads, blocks("json"))
    actions = json.dumps([statement["Action"] for statement in policy["Statement"]])
    assert all(f"s3:{name}" in actions for name in ("ListBucket", "GetObject", "PutObject", "DeleteObject"))


def test_flags_and_settings_in_the_text_exist() -> None:
    known = {name for command in (run_command, *cache_group.commands.values()) for name in names_of(command)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) <= known
    named = set(re.findall(r"`((?:near_cache|cache_)\w*)`", PAGE))
    assert {"near_cache", "near_cache_size", "cache_key_file"} <= named <= set(SETTINGS)


def test_the_table_of_failures_has_what_errors_say() -> None:
    says = {kind.says.rstrip(".") for kind in KINDS.values()}
    rows = re.findall(r"^\| ([^|]+) \|", PAGE.partition("| it says |")[2], re.MULTILINE)[:6]
    assert [any(text.startswith(row) for text in says) for row in rows] == [True] * 6


def names_of(command: click.Command) -> set[str]:
    return {name for flag in flags_of(command) for name in flag}
