"""Completion in bash, zsh and fish: by the protocol between shell and command, and in the shells themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import DEMO, Project, clean_environment
from tests.prepared import COMMANDS
from tests.processes import install

HEAVY = """
from pathlib import Path
(Path(__file__).parent.parent / "imported").touch()
import pandas
"""
LIBRARY = '''
from curidask import stage
@stage(None, ["text"])
def read_text(record):
    """Read the text."""
'''
PARAMS = '''
"""Small sets."""
from experiments.demo import Params
def get_params():
    return [Params("tiny one", x=1), Params(name="it's: $odd, \\"really\\"", x=2), Params("tail", x=3)]
'''


@pytest.fixture
def project(project: Project) -> Project:
    project.write("experiments/demo.py", HEAVY + DEMO + "\nfrom library.texts import read_text\n")
    project.write("experiments/sub/deeper.py", '"""Deeper."""\ndef run(param_sets, manager): pass\n')
    project.write("experiments/helper.py", "")
    project.write("experiments/broken.py", "def run(:\n")
    project.write("library/texts.py", LIBRARY)
    project.write("params/small.py", PARAMS)
    return project


def ask(project: Project, shell: str, *words: str, command: str = "experiment") -> list[str]:
    """What a command offers for the last word, asked as the shell's script asks."""
    line = " ".join(word.replace(" ", "\\ ") for word in (command, *words))
    if shell == "fish":
        variables = {"COMP_WORDS": " ".join((command, *words[:-1])), "COMP_CWORD": words[-1]}
    else:
        variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = project.command(command, env={**variables, f"_{command.upper()}_COMPLETE": f"{shell}_complete"})
    assert done.stderr == ""
    if shell == "zsh":
        rows = done.stdout.splitlines()
        return rows[1::3]
    return [row.partition(",")[2].partition("\t")[0] for row in done.stdout.splitlines() if row]


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- the protocol ----------------------------------------------------------------------------------------------------
def test_experiments_and_subcommands(project: Project, shell: str) -> None:
    assert ask(project, shell, "") == ["demo", "sub.deeper", "ls", "reports"]
    assert ask(project, shell, "de") == ["demo"]
    assert ask(project, shell, "run", "de", command="curidask") == ["demo"]
    assert not (project.root / "imported").exists()


def test_parameter_modules(project: Project, shell: str) -> None:
    assert ask(project, shell, "demo", "-p", "") == ["small", "demo"]
    assert ask(project, shell, "demo", "--params", "sm") == ["small"]


def test_stages_also_of_modules_that_are_imported(project: Project, shell: str) -> None:
    assert sorted(ask(project, shell, "demo", "--overwrite-stage", "")) == [
        "change", "gather", "load", "read_text", "score"
    ]  # fmt: skip
    assert not (project.root / "imported").exists()


def test_names_that_are_no_identifiers(project: Project, shell: str) -> None:
    project.write("experiments/my-exp.py", "from library.texts import read_text\n" + DEMO)
    project.write("params/01-sets.py", PARAMS)
    assert ask(project, shell, "my") == ["my-exp"]
    assert ask(project, shell, "my-exp", "-p", "0") == ["01-sets"]
    assert ask(project, shell, "my-exp", "--overwrite-stage", "r") == ["read_text"]
    assert ask(project, shell, "my-exp", "-p", "01-sets", "-n", "ta") == ["tail"]


def test_flags(project: Project, shell: str) -> None:
    assert ask(project, shell, "demo", "--over") == ["--overwrite", "--overwrite-stage"]
    assert ask(project, shell, "--print") == ["--print-params"]
    assert ask(project, shell, "demo", "--parallel-") == ["--parallel-safe"]
    assert ask(project, shell, "ls", "--he") == ["--help"]
    assert "init" in ask(project, shell, "", command="curidask")


def test_set_names_written_out_and_of_earlier_runs(project: Project, shell: str) -> None:
    assert ask(project, shell, "demo", "-n", "") == []
    assert len(ask(project, shell, "demo", "-p", "small", "-n", "")) == 3
    (tiny,) = ask(project, shell, "demo", "-p", "small", "-n", "ti")
    assert tiny.replace("\\", "") == "tiny one"  # bash needs it escaped, and escaped again
    assert project.experiment("demo", "--parallel", "0").returncode == 0
    assert ask(project, shell, "demo", "-n", "s") == [f"set{i}" for i in range(4)]
    assert ask(project, shell, "demo", "--print-params", "set3") == ["set3"]
    assert ask(project, shell, "sub.deeper", "-n", "") == []


def test_a_broken_project_completes_what_it_can_and_prints_no_error(project: Project, shell: str) -> None:
    project.write("curidask.toml", "cache = ")
    assert ask(project, shell, "l") == ["ls"]
    assert ask(project, shell, "demo", "-p", "") == []


# --- in the shells ---------------------------------------------------------------------------------------------------
@pytest.fixture
def script(project: Project, shell: str) -> Path:
    install(shell, command=shell)
    done = project.command("curidask", "completion", shell)
    assert done.returncode == 0, done.stderr
    return project.write(f"completion.{shell}", done.stdout)


def in_shell(project: Project, shell: str, code: str) -> list[str]:
    env = clean_environment() | {"PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}"}
    command = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"]}[shell]
    done = subprocess.run(
        [*command, "-c", code], cwd=project.root, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_scripts_are_accepted_by_their_shells(project: Project, shell: str, script: Path) -> None:
    text = script.read_text()
    assert "_EXPERIMENT_COMPLETE" in text
    assert "_CURIDASK_COMPLETE" in text
    code = {"bash": f". {script}", "zsh": f"compdef() {{ :; }}; . {script}", "fish": f"source {script}"}[shell]
    assert in_shell(project, shell, code) == []


@pytest.mark.parametrize("shell", ["bash"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("experiment de", ["demo"]),
        ("experiment demo --overwrite-", ["--overwrite-stage"]),
        ("experiment demo -p small -n ti", ["tiny\\ one"]),
        ("curidask co", ["completion"]),
    ],
)
def test_bash(project: Project, script: Path, line: str, offered: list[str]) -> None:
    words = line.split()
    code = f"""
        . {script}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}
        function=$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {words[0]} {words[-1]} {words[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert in_shell(project, "bash", code) == offered


@pytest.mark.parametrize("shell", ["bash"])
def test_what_bash_inserts_is_read_as_the_name_again(project: Project, script: Path) -> None:
    code = f"""
        . {script}
        COMP_WORDS=(experiment demo -p small -n it); COMP_CWORD=5
        $(complete -p experiment | sed 's/.*-F \\([^ ]*\\).*/\\1/') experiment it -n
        eval "printf '%s\\n' ${{COMPREPLY[0]}}"
    """
    assert in_shell(project, "bash", code) == ['it\'s: $odd, "really"']


@pytest.mark.parametrize("shell", ["fish"])
def test_fish(project: Project, script: Path) -> None:
    code = f"source {script}; complete -C 'experiment de'; complete -C 'experiment demo -p small -n ti'"
    offered = [line.partition("\t")[0] for line in in_shell(project, "fish", code)]
    assert offered == ["demo", "tiny one"]


@pytest.mark.parametrize("shell", ["zsh"])
def test_zsh(project: Project, script: Path) -> None:
    """Type into a zsh on a terminal and press Tab."""
    import pty
    import select

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        env = clean_environment() | {"PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}", "TERM": "xterm"}
        os.execvpe("zsh", ["zsh", "-f"], env)
    try:
        for typed in (f"autoload -Uz compinit; compinit -D; . {script}; echo rea''dy\n", "experiment de\t", "\n"):
            os.write(terminal, typed.encode())
            shown = b""
            wanted = {"\n": b"", "experiment de\t": b"experiment demo"}.get(typed, b"ready")
            end = time.monotonic() + 30
            while wanted not in shown and time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 65536)
            assert wanted in shown, shown
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_no_heavy_package_is_loaded(project: Project) -> None:
    code = (
        "import sys, os\n"
        "asked = {'COMP_WORDS': 'experiment demo -n s', 'COMP_CWORD': '3'}\n"
        "os.environ |= {'_EXPERIMENT_COMPLETE': 'bash_complete', **asked}\n"
        "from curidask.cli.run import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({'numpy', 'pandas', 'dask', 'distributed', 'fsspec', 'experiments'} & set(sys.modules)), 'done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["done"]
