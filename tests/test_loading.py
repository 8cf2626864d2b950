"""Finding and importing a project's modules, and what a mistake in one gets."""

from __future__ import annotations

import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from curidask.errors import (
    ModuleImportError,
    ModuleNotThereError,
    ParameterError,
    ProjectError,
    SelectionError,
    UnsafeNameError,
)
from curidask.execution.project import importer
from curidask.execution.project.project_files import ProjectFiles
from curidask.session.config import Config
from curidask.session.project_modules import list_modules, load_experiment, load_param_groups, module_names

PARAMS = """
    from dataclasses import dataclass
    import curidask as cf

    @dataclass
    class Params(cf.ExperimentParameters):
        x: int = 1
"""
RUN = "def run(param_sets, manager): return 'ran'\n"


class Folder:
    """A project's folder."""

    def __init__(self, root: Path, **settings: str) -> None:
        self.config = Config(root.resolve(), **settings)

    def write(self, name: str, *texts: str) -> Path:
        path = self.config.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(textwrap.dedent(text) for text in texts))
        return path

    def experiment(self, name: str) -> object:
        return load_experiment(self.config, name).run([], None)

    def sets(self, *names: str) -> list[list[str]]:
        return [[params.name for params in sets] for _, sets in load_param_groups(self.config, "demo", names)]


@pytest.fixture(autouse=True)
def _same_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the modules and the path as they were, and begin in no project."""
    importer.leave()
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    importer.leave()
    for name in set(sys.modules) - set(before):
        sys.modules.pop(name, None)  # a package takes its modules along


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# --- finding ---------------------------------------------------------------------------------------------------------
def test_names_have_dots_for_subfolders_and_leave_out_private_modules(folder: Folder) -> None:
    for name in ("b", "a", "sub/c", "sub/deep/d", "_private", "sub/__init__", ".hidden/e", "__pycache__/f"):
        folder.write(f"experiments/{name}.py", RUN)
    folder.write("experiments/notes.txt", "")
    assert module_names(folder.config, "experiments") == ["a", "b", "sub", "sub.c", "sub.deep.d"]
    assert module_names(folder.config, "nowhere") == []


def test_listing_says_what_each_module_has(folder: Folder) -> None:
    folder.write("experiments/good.py", '"""Good one.\n\nMore."""\n', RUN, "def get_params(): return []\n")
    folder.write("experiments/broken.py", "import nothing_of_that_name\n")
    folder.write("experiments/plain.py", "run = 3\n")
    entries = {entry.name: entry for entry in list_modules(folder.config, "experiments")}
    assert (entries["good"].summary, entries["good"].has_run, entries["good"].has_params) == ("Good one.", True, True)
    assert "nothing_of_that_name" in entries["broken"].error
    assert (entries["plain"].summary, entries["plain"].has_run, entries["plain"].error) == ("", False, "")


# --- importing -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asked", ["sub.demo", "sub/demo", "sub/demo.py"])
def test_an_experiment_in_a_subfolder(folder: Folder, asked: str) -> None:
    folder.write("experiments/sub/demo.py", RUN)
    assert folder.experiment(asked) == "ran"


@pytest.mark.parametrize("name", ["my-exp", "01_first", "ng-activations", "1-2.3-x"])
def test_files_whose_names_are_no_identifiers(folder: Folder, name: str) -> None:
    path = name.replace(".", "/")
    folder.write(f"experiments/{path}.py", "from library import VALUE\nclass Kind: pass\ndef run(*_): return Kind()\n")
    folder.write(f"params/{path}.py", PARAMS, "def get_params(): return [Params('mine')]\n")
    folder.write("library.py", "VALUE = 1\n")
    made = folder.experiment(name)
    assert type(made).__module__ == f"experiments.{name}"
    assert isinstance(pickle.loads(pickle.dumps(made)), type(made))
    assert folder.sets(name) == [["mine"]]
    assert [entry.error for entry in list_modules(folder.config, "experiments")] == [""]


def test_relative_imports_and_the_projects_own_libraries(folder: Folder) -> None:
    folder.write("library/tools.py", "VALUE = 3\n")
    folder.write("experiments/common.py", "from library.tools import VALUE\n")
    folder.write(
        "experiments/sub/demo.py",
        "from ..common import VALUE\nfrom . import beside\ndef run(*_): return VALUE + beside.ONE\n",
    )
    folder.write("experiments/sub/beside.py", "ONE = 1\n")
    assert folder.experiment("sub.demo") == 4


def test_a_package_is_an_experiment_too(folder: Folder) -> None:
    folder.write("experiments/pack/__init__.py", "from .main import run\n")
    folder.write("experiments/pack/main.py", "from . import beside\n", "def run(*_): return beside.ONE\n")
    folder.write("experiments/pack/beside.py", "ONE = 1\n")
    folder.write("experiments/plain/__init__.py")
    folder.write("experiments/plain/demo.py", RUN)
    assert folder.experiment("pack") == 1
    assert folder.experiment("plain.demo") == "ran"
    assert module_names(folder.config, "experiments") == ["pack", "pack.beside", "pack.main", "plain.demo"]


def test_folders_with_other_names(tmp_path: Path) -> None:
    folder = Folder(tmp_path, experiments="src/exps", params="src/sets")
    folder.write("src/exps/demo.py", "from src.sets.small import VALUE\ndef run(*_): return VALUE\n")
    folder.write("src/sets/small.py", "VALUE = 7\n", PARAMS, "def get_params(): return [Params('s')]\n")
    assert folder.experiment("demo") == 7
    assert folder.sets("small") == [["s"]]


def test_an_installed_package_of_the_same_name_is_not_taken_for_the_projects(folder: Folder, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    for package in ("experiments", "params"):
        (installed / package).mkdir(parents=True)
        (installed / package / "__init__.py").write_text("raise RuntimeError('the wrong one')")
        (installed / package / "demo.py").write_text("raise RuntimeError('the wrong one')")
    sys.path.insert(0, str(installed))
    folder.write("experiments/demo.py", RUN)
    folder.write("params/demo.py", PARAMS, "def get_params(): return [Params('mine')]\n")
    assert folder.experiment("demo") == "ran"
    assert folder.sets("demo") == [["mine"]]


def test_a_package_of_the_projects_goes_before_an_installed_one(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "installed" / "params").mkdir(parents=True)
    (tmp_path / "installed" / "params" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    project = Folder(tmp_path / "project")
    sys.path.insert(0, str(tmp_path / "installed"))
    project.write("params/__init__.py", PARAMS)
    project.write("params/demo.py", "from params import Params\ndef get_params(): return [Params('mine')]\n")
    project.write("experiments/demo.py", "import params\n", RUN)
    assert project.sets("demo") == [["mine"]]
    assert project.experiment("demo") == "ran"


def test_a_file_whose_name_is_taken_is_told(folder: Folder) -> None:
    folder.write("queue.py", "WHO = 1\n")
    folder.write("socket.py", "WHO = 1\n")
    folder.write("experiments/demo.py", "import queue\n", "def run(*_): return hasattr(queue, 'WHO')\n")
    with pytest.warns(UserWarning, match=r"`import queue` does not give the project's .*queue\.py") as told:
        assert folder.experiment("demo") is False
    assert len(told) == 1


def test_modules_of_another_project_are_forgotten(tmp_path: Path) -> None:
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    one.write("experiments/demo.py", "def run(*_): return 1\n")
    two.write("experiments/demo.py", "def run(*_): return 2\n")
    assert [one.experiment("demo"), two.experiment("demo"), one.experiment("demo")] == [1, 2, 1]


def test_modules_beside_another_project_are_forgotten(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "shared").mkdir(parents=True)
        (tmp_path / name / "shared" / "beside.py").write_text(f"WHERE = {name!r}\n")
        adding = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), '..', '..', 'shared'))\n"
        Folder(tmp_path / name / "project").write(
            "experiments/demo.py", adding, "import beside\ndef run(*_): return beside.WHERE\n"
        )
    found = [Folder(tmp_path / name / "project").experiment("demo") for name in ("one", "two", "one")]
    assert found == ["one", "two", "one"]


def test_no_compiled_files_are_written(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder.write("experiments/demo.py", "import helper\n", RUN)
    folder.write("helper.py", "")
    folder.experiment("demo")
    assert not list(folder.config.root.rglob("*.pyc"))
    assert sys.dont_write_bytecode is False


def test_only_the_projects_own_modules_are_its_own(folder: Folder) -> None:
    folder.write("experiments/demo.py", "import helper, vendored\n", RUN)
    folder.write("helper.py", "")
    folder.write("venv/lib/site-packages/vendored.py", "")
    sys.path.append(str(folder.config.root / "venv/lib/site-packages"))
    folder.experiment("demo")
    own = {module.__name__ for module in ProjectFiles(folder.config.root).modules()}
    assert {"experiments.demo", "helper"} <= own
    assert "vendored" not in own


# --- mistakes --------------------------------------------------------------------------------------------------------
def test_near_names_of_an_experiment_that_is_not_there(folder: Folder) -> None:
    folder.write("experiments/digits.py", RUN)
    with pytest.raises(ModuleNotThereError, match="'digts'") as caught:
        folder.experiment("digts")
    assert "did you mean digits" in caught.value.fix
    with pytest.raises(ModuleNotThereError) as caught:
        folder.experiment("zzzzzz")
    assert "there are: digits" in caught.value.fix


def test_a_project_without_modules_says_how_to_begin(folder: Folder) -> None:
    with pytest.raises(ModuleNotThereError) as caught:
        folder.experiment("demo")
    assert "curidask init" in caught.value.fix


@pytest.mark.parametrize("asked", ["../demo", "/demo", "demo/", "", "a b", "a..b", ".demo", "-demo", "demo.py.py/"])
def test_what_is_no_name_of_a_module(folder: Folder, asked: str) -> None:
    folder.write("experiments/demo.py", RUN)
    with pytest.raises(UnsafeNameError):
        folder.experiment(asked)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def run(:\n", "SyntaxError"),
        ("import sys\nsys.exit('no way')\n", "SystemExit: no way"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("from .nowhere import x\n", "ModuleNotFoundError"),
    ],
)
def test_a_module_that_cannot_be_imported(folder: Folder, text: str, says: str) -> None:
    path = folder.write("experiments/bad.py", text, RUN)
    with pytest.raises(ModuleImportError) as caught:
        folder.experiment("bad")
    assert says in caught.value.what
    assert caught.value.where == str(path)
    assert "importlib" not in caught.value.traceback_text
    assert "bad.py" in caught.value.traceback_text


def test_an_import_error_shows_the_line_that_raised(folder: Folder) -> None:
    folder.write("helper.py", "\n\nvalue = {}['missing']\n")
    folder.write("experiments/bad.py", "import helper\n", RUN)
    with pytest.raises(ModuleImportError) as caught:
        folder.experiment("bad")
    assert "helper.py" in caught.value.traceback_text
    assert "line 3" in caught.value.traceback_text


def test_a_module_that_was_mended_loads(folder: Folder) -> None:
    folder.write("experiments/demo.py", "1 / 0\n")
    with pytest.raises(ModuleImportError):
        folder.experiment("demo")
    folder.write("experiments/demo.py", RUN)
    assert folder.experiment("demo") == "ran"


def test_an_experiment_without_run(folder: Folder) -> None:
    folder.write("experiments/demo.py", "run = 3\n")
    with pytest.raises(ProjectError, match=r"no run\(\)"):
        folder.experiment("demo")


# --- parameter sets --------------------------------------------------------------------------------------------------
def test_modules_in_order_and_the_experiments_own_without_any(folder: Folder) -> None:
    folder.write("experiments/demo.py", PARAMS, "def get_params(): return (Params(n) for n in 'ab')\n")
    folder.write("params/sub/more.py", "from experiments.demo import Params\ndef get_params(): return (Params('c'),)\n")
    assert folder.sets() == [["a", "b"]]
    assert folder.sets("sub.more", "demo") == [["c"], ["a", "b"]]


def test_the_parameter_folder_comes_before_the_experiments(folder: Folder) -> None:
    for where in ("params", "experiments"):
        folder.write(f"{where}/demo.py", PARAMS, f"def get_params(): return [Params('{where}')]\n")
    assert folder.sets("demo") == [["params"]]


def test_no_get_params(folder: Folder) -> None:
    folder.write("experiments/demo.py", RUN)
    with pytest.raises(ProjectError, match=r"no get_params\(\)") as caught:
        folder.sets()
    assert "-p" in caught.value.fix


def test_near_names_of_a_parameter_module_come_from_both_folders(folder: Folder) -> None:
    folder.write("experiments/demo.py", RUN)
    folder.write("params/small.py", "")
    for asked, near in (("smal", "small"), ("deno", "demo")):
        with pytest.raises(ModuleNotThereError) as caught:
            folder.sets(asked)
        assert f"did you mean {near}" in caught.value.fix


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ("return 1 / 0", ModuleImportError, "ZeroDivisionError"),
        ("import sys; sys.exit(3)", ModuleImportError, "SystemExit: 3"),
        ("yield Params('a'); yield 1 / 0", ModuleImportError, "ZeroDivisionError"),
        ("return Params('a')", ParameterError, "not a list"),
        ("return [3]", ParameterError, "Entry 0"),
        ("raise cf.params.SelectionError('own')", SelectionError, "own"),
    ],
)
def test_get_params_that_cannot_be_used(folder: Folder, body: str, error: type[Exception], says: str) -> None:
    folder.write("experiments/demo.py", PARAMS, f"import curidask.params\ndef get_params(): {body}\n")
    with pytest.raises(error, match=says):
        folder.sets()
