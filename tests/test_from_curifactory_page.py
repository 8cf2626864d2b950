"""What ``docs/from-curifactory.md`` says holds: each command and each line of code in it is run."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask import errors
from curidask.cli.commands import cli as curidask_command
from curidask.cli.run import ELSEWHERE, SUBCOMMANDS, SYNONYMS, run_command
from curidask.core import json_text
from curidask.session.config import load_config
from tests.conftest import Project, clean_environment
from tests.parity.differences import reasons
from tests.prepared import COMMANDS
from tests.test_docs_cli import flags_of
from tests.test_reference import ALL, NOT_HERE

PAGE = (Path(__file__).parents[1] / "docs" / "from-curifactory.md").read_text()
BEFORE, STAGES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CHANGE,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
SIZES = {"small": 10, "large": 1000}

CONFIGURATION = {
    "experiments_module_name": "experiments",
    "params_module_name": "params",
    "manager_cache_path": "data/",
    "cache_path": "data/cache",
    "runs_path": "data/runs",
    "logs_path": "logs/",
    "notebooks_path": "notebooks/",
    "reports_path": "reports/",
    "report_css_path": "reports/style.css",
}
"""What ``curifactory init`` writes."""


def table(heading: str) -> list[list[str]]:
    """The rows of the table that has such a first line."""
    _, _, rest = PAGE.partition(f"\n{heading}\n")
    lines = rest.partition("\n\n")[0].splitlines()
    assert lines[0].startswith("|--")
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[1:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


NEW = table("| what | for example |")
DIFFERENCES = table("| what | why |")
MISTAKES = table("| line | error | why |")
NAMES = table("| name | why | instead |")
FLAGS = table("| before | now |")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The experiment of the page after the change that it tells, in its repository."""
    made = Project(tmp_path / "project")
    made.write("experiments/demo.py", BEFORE)
    made.write("curifactory_config.json", json.dumps(CONFIGURATION))
    made.write(".gitignore", "data\n")
    shell(made, "git init -q . && git add .")
    shell(made, CHANGE)
    return made


def shell(project: Project, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment() | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"} | variables
    done = subprocess.run(
        ["bash", "-c", line], cwd=project.root, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, line + done.stdout + done.stderr
    return done


def run(project: Project, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page, which must end well."""
    here = {} if "--parallel" in line else {"CURIDASK_PARALLEL": "0"}
    if "&" in line:
        return shell(project, line, **here)
    words = shlex.split(line)
    while "=" in words[0]:
        here |= [words.pop(0).split("=")]
    done = project.command(*words, env=here)
    assert done.returncode == 0, line + done.stdout + done.stderr
    return done


def is_command(text: str) -> bool:
    return any(word in text.split() for word in ("experiment", "curidask"))


@pytest.fixture
def session(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that lines of the page use: those of the experiment, and a live session with a record."""
    monkeypatch.setenv("CURIDASK_PARALLEL", "0")
    names: dict[str, Any] = {"cf": cf}
    exec(
        compile((in_project.root / "experiments" / "demo.py").read_text(), "demo.py", "exec", dont_inherit=True), names
    )
    with cf.ArtifactManager("page") as manager:
        exec(compile(STAGES, "page.py", "exec", dont_inherit=True), names)
        params = names["Params"]("here", x=4)
        record = names["measure"](names["load"](cf.Record(manager, params)))
        yield names | {"manager": manager, "params": params, "record": record}


def value_of(text: str, names: dict[str, Any]) -> Any:
    """Run statements, and give the value of the last one."""
    *before, last = ast.parse(text).body
    exec(compile(ast.Module(before, []), "line", "exec"), names)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "line", "eval"), names)


# --- what to change --------------------------------------------------------------------------------------------------
def test_the_change_is_all_there_is_to_do(project: Project) -> None:
    changed = (project.root / "experiments" / "demo.py").read_text()
    assert changed == BEFORE.replace("curifactory", "curidask")
    assert "import curidask as cf" in changed.splitlines()
    assert json.loads((project.root / "curifactory_config.json").read_text()) == CONFIGURATION
    old = {
        "data/cache/demo_0123456789abcdef0123456789abcdef_measure_size.json": "4711",
        "data/store.json": "[]",
        "data/params_registry.json": "{}",
    }
    for name, text in old.items():
        project.write(name, text)

    run(project, "experiment demo")
    assert actions(project) == {"run"}
    (sizes,) = project.artifacts("gather")
    assert json.loads(sizes.read_text()) == SIZES
    assert {name: (project.root / name).read_text() for name in old} == old
    run(project, "curidask run demo")
    assert actions(project) == {"reuse", "prune"}


def actions(project: Project) -> set[str]:
    return {task["action"] for task in project.last_run()["tasks"]}


def test_names_of_the_first_generation_are_there(session: dict[str, Any]) -> None:
    assert cf.ExperimentArgs is cf.ExperimentParameters
    assert session["record"].args is session["params"]
    assert session["params"].args_hash() == session["params"].params_hash()


def test_the_configuration_is_read_as_it_is(project: Project) -> None:
    project.write("curifactory_config.json", json.dumps({**CONFIGURATION, "cache_path": "elsewhere"}))
    run(project, "experiment demo")
    assert (project.root / "elsewhere").is_dir()
    for name, text in (
        ("curidask_config.json", '{"cache_path": "third"}'),
        ("pyproject.toml", '[tool.curidask]\ncache = "second"'),
        ("curidask.toml", 'cache = "first"'),
    ):
        project.write(name, text)
        assert load_config(project.root, {}).source.endswith(name)


def test_results_come_with_their_manager(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURIDASK_PARALLEL", "0")
    (line,) = re.findall(r"`(results, manager = .*)`", PAGE)
    names: dict[str, Any] = {"cf": cf}
    exec(line, names)
    assert (names["results"], names["manager"].experiment_name) == (SIZES, "demo")
    pair = cf.run_experiment("demo", mngr=True)
    assert (pair[0], pair[-1].experiment_name, len(pair)) == (SIZES, "demo", 2)
    with pytest.raises(ValueError, match="unpack"):
        _one, _two, _three = cf.run_experiment("demo")


def test_a_project_is_set_up_by_curidask_init(tmp_path: Path) -> None:
    made = Project(tmp_path / "new")
    made.root.mkdir()
    run(made, "curidask init --yes")
    assert (made.root / "experiments").is_dir()


# --- what is new -----------------------------------------------------------------------------------------------------
EXAMPLES = [example for _, cell in NEW for example in code(cell)]


def test_each_row_of_what_is_new_has_an_example() -> None:
    assert all(code(example) for _, example in NEW)
    assert len(EXAMPLES) > len(NEW) > 10


def test_the_commands_of_what_is_new_work(project: Project) -> None:
    for example in filter(is_command, EXAMPLES):
        run(project, example)
    runs = [json.loads(path.read_text()) for path in project.root.glob("data/runs/*/run.json")]
    assert {record["status"] for record in runs} == {"done"}


def test_the_lines_of_what_is_new_hold(session: dict[str, Any]) -> None:
    for example in EXAMPLES:
        if not is_command(example):
            assert value_of(example, session), example


# --- what differs ----------------------------------------------------------------------------------------------------
def test_the_table_of_differences_is_that_of_the_scripts() -> None:
    told = [what for what, why in DIFFERENCES if why]
    known = [" ".join(text.split()) for text in reasons().values()]
    assert sorted(told) == sorted(known)


@pytest.mark.parametrize(("line", "error"), [(code(line)[0], code(error)[0]) for line, error, _ in MISTAKES])
def test_mistakes_are_errors(line: str, error: str, session: dict[str, Any]) -> None:
    known = {**vars(errors), **vars(json_text)}
    with pytest.raises(known[error]) as caught:
        value_of(line, session)
    assert caught.value.fix


# --- names that are not here -----------------------------------------------------------------------------------------
def test_names_that_are_not_here_are_those_of_the_reference() -> None:
    missing = {row.full_name for row in ALL if row.status == NOT_HERE}
    missing |= {row.full_name.removeprefix("manager.") for row in ALL if row.status == NOT_HERE}
    assert {name for names, _, _ in NAMES for name in code(names)} <= missing


INSTEAD = [instead for _, _, cell in NAMES for instead in code(cell)]


def test_what_is_used_instead_works(session: dict[str, Any]) -> None:
    assert all(code(cell) for _, _, cell in NAMES)
    cf.run_experiment("demo")
    for instead in INSTEAD:
        if not is_command(instead):
            value = value_of(instead, session)
            if isinstance(value, cf.ArtifactManager):
                value.close()


def test_the_commands_that_are_used_instead_work(project: Project) -> None:
    run(project, "experiment demo")
    for instead in filter(is_command, INSTEAD):
        run(project, instead)
    assert (project.root / "other" / "experiments").is_dir()


def test_keywords_without_effect(in_project: Project) -> None:
    unused = {"parallel_lock": object(), "manager_cache_path": "elsewhere", "status_override": "x"}
    with cf.ArtifactManager("unused", **unused) as manager:
        assert manager.status == "LIVE"
    assert not (in_project.root / "elsewhere").exists()
    for name in ("parallel_lock", "parallel_queue", "run_num_override", "run_ts_override"):
        with pytest.raises(errors.ConfigurationError, match=name):
            cf.run_experiment("demo", **{name: 1})


# --- flags -----------------------------------------------------------------------------------------------------------
def flags() -> set[str]:
    """Those that the page says to be there under their names, and those of the table."""
    return set(re.findall(r"`(--?[a-z][a-z-]*)`", PAGE.partition("\n## Flags\n")[2]))


def test_flags_are_those_of_the_commands() -> None:
    kept, _, _ = PAGE.partition("\n## Flags\n")[2].partition("| before | now |")
    ours = {name for flag in flags_of(run_command) for name in flag}
    assert set(re.findall(r"`(--?[a-z][a-z-]*)`", kept)) <= ours
    told = {flag: now for before, now in FLAGS for flag in code(before)}
    assert {flag: code(now)[-1] for flag, now in told.items() if now.startswith("taken as")} == SYNONYMS
    assert {flag for flag in told if flag.startswith("--")} == {*SYNONYMS, *ELSEWHERE}
    reports = {name for flag in flags_of(SUBCOMMANDS["reports"]) for name in flag}
    assert {flag for flag, now in told.items() if "experiment reports" in now} <= reports
    assert all(flag in ELSEWHERE["--name"] for flag in code(told["--name"]))


def test_commands_are_there(project: Project) -> None:
    for before, now in FLAGS:
        for line in (*code(before), *code(now)):
            if line.startswith("curidask "):
                assert line.split()[1] in (*curidask_command.commands, "--version")
                run(project, line if "init" not in line else f"{line} --yes")
