"""The page on the command line names what the command has: each flag once, with an example, and each setting."""

from __future__ import annotations

import re
from pathlib import Path

import click

from curidask.cli.cache.commands import cache_group
from curidask.cli.explain import explain_command
from curidask.cli.run import ELSEWHERE, SUBCOMMANDS, SYNONYMS, run_command
from curidask.session.config import SETTINGS, Config

PAGE = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
SECTIONS = re.findall(r"^### (.*)\n+((?:(?!^##).*\n)*)", PAGE, re.MULTILINE)


def flags_of(command: click.Command) -> set[tuple[str, ...]]:
    context = click.Context(command, **command.context_settings)
    options = [p for p in command.get_params(context) if isinstance(p, click.Option) and not p.hidden]
    return {tuple(option.opts) for option in options}


def test_the_page_has_the_commands_flags() -> None:
    described = [tuple(re.findall(r"`(.*?)`", heading)) for heading, _ in SECTIONS]
    assert len(described) == len(set(described))
    assert set(described) == flags_of(run_command)


def test_each_flag_has_an_example_that_uses_it() -> None:
    for heading, text in SECTIONS:
        examples = re.findall(r"^    (.*)$", text, re.MULTILINE)
        names = re.findall(r"`(.*?)`", heading)
        assert any(re.search(rf"(^|\s){re.escape(name)}(\s|$)", line) for name in names for line in examples), heading


def test_flags_in_the_text_exist() -> None:
    known = {name for flag in flags_of(run_command) for name in flag}
    known |= {name for command in cache_group.commands.values() for flag in flags_of(command) for name in flag}
    known |= {name for flag in flags_of(explain_command) for name in flag}
    known |= {*SYNONYMS, *ELSEWHERE, "--bash", "--zsh", "--yes", "--rm"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) <= known


DOCUMENTED = """
    --notes --no-dag -p --params -n --names --indices --global-indices --notebook --docker --no-log --dry --log-errors
    --all-loggers --no-report -c --cache -s --store-full --overwrite --overwrite-stage --dry-cache --prefix --lazy
    --ignore-lazy -v --verbose --map --hashes --print-params --quiet --no-color --progress --plain --paths --parallel
    --parallel-safe -h --help
"""
FIRST = "--full-store --parallel-mode --no-map --name"


def test_every_flag_of_the_documented_api_is_there_or_named() -> None:
    known = {name for flag in flags_of(run_command) for name in flag}
    assert set(DOCUMENTED.split()) <= known
    assert set(FIRST.split()) <= {*SYNONYMS, *ELSEWHERE}
    reports = {name for flag in flags_of(SUBCOMMANDS["reports"]) for name in flag}
    assert {"--port", "--host", "--update"} <= reports & set(ELSEWHERE)


def test_settings_with_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", PAGE, re.MULTILINE))
    assert set(rows) == set(SETTINGS)
    defaults = Config(Path())
    for name, shown in rows.items():
        if name not in ("parallel", "report_css", "storage", "default_cluster"):
            assert shown.strip("`") == str(getattr(defaults, name))


def test_each_flag_of_a_cache_command_that_is_told_with_it_is_one_of_its_flags() -> None:
    rows = dict(re.findall(r"^\| `curidask cache ([a-z]+).*?` \| (.*) \|$", PAGE, re.MULTILINE))
    assert set(rows) == set(cache_group.commands)
    for name, text in rows.items():
        known = {flag for flags in flags_of(cache_group.commands[name]) for flag in flags}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)) <= known


def test_subcommands_are_listed() -> None:
    assert all(f"`experiment {name}" in PAGE for name in SUBCOMMANDS)
