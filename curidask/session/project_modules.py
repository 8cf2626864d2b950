"""Finding and importing a project's experiment and parameter modules."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from curidask.errors import CuridaskError, ModuleImportError, ModuleNotThereError, ProjectError, UnsafeNameError
from curidask.execution.project import importer
from curidask.execution.project.importer import ImportedProject
from curidask.execution.project.imports import is_own_file
from curidask.execution.tracebacks import user_traceback
from curidask.params import ExperimentParameters, check_param_sets
from curidask.session.config import Config


# --- the files of a project's experiment and parameter modules, found without importing any --------------------------
def module_files(config: Config, folder: str) -> dict[str, Path]:
    """The modules in a folder of the project by name, with dots for subfolders.

    A package is one too, unless its ``__init__.py`` is empty; like Python, it goes before a module of its name.
    """
    root = config.path(folder)
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.py")) if root.is_dir() else ():
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1] if path.stat().st_size else ()
        if parts and not any(part.startswith(("_", ".")) for part in parts):
            found.setdefault(".".join(parts), path)
    return found


# --- project modules -------------------------------------------------------------------------------------------------
Group = tuple[str, list[ExperimentParameters]]


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One module of the project, as ``experiment ls`` shows it.

    Attributes
    ----------
    summary : str
        First line of its docstring.
    has_run, has_params : bool
        Whether it has ``run()`` and ``get_params()``.
    error : str
        Why it cannot be imported; empty when it can.
    """

    name: str
    summary: str
    has_run: bool
    has_params: bool
    error: str = ""


# --- finding ---------------------------------------------------------------------------------------------------------
def module_names(config: Config, folder: str) -> list[str]:
    """The modules in a folder of the project; see `module_files`."""
    return list(module_files(config, folder))


def list_modules(config: Config, folder: str) -> list[ModuleEntry]:
    """Import all modules of a folder and say what they have."""
    return [describe(config, folder, name) for name in module_names(config, folder)]


def runnable(config: Config) -> tuple[list[ModuleEntry], list[ModuleEntry]]:
    """The experiments, and the modules that have parameter sets; with those that cannot be imported."""
    experiments, params = list_modules(config, config.experiments), list_modules(config, config.params)
    with_sets = [entry for entry in experiments if entry.has_params] + [e for e in params if e.has_params or e.error]
    return [entry for entry in experiments if entry.has_run or entry.error], with_sets


def describe(config: Config, folder: str, name: str) -> ModuleEntry:
    """Import a module and say what it has."""
    try:
        module = _import(config, folder, name)
    except ModuleImportError as error:
        return ModuleEntry(name, "", False, False, error.what)
    summary = (inspect.getdoc(module) or "").partition("\n")[0]
    has_run, has_params = (callable(getattr(module, f, None)) for f in ("run", "get_params"))
    return ModuleEntry(name, summary, has_run, has_params)


def is_experiment(config: Config, name: str) -> bool:
    """Whether there is an experiment of that name, imported or not."""
    return _as_module(name) in module_names(config, config.experiments)


def near_experiments(config: Config, name: str) -> list[str]:
    """The experiments that are named nearly so."""
    return difflib.get_close_matches(_as_module(name), module_names(config, config.experiments), n=3, cutoff=0.5)


def _as_module(asked: str) -> str:
    return asked.removesuffix(".py").replace("/", ".")


def load_experiment(config: Config, name: str) -> ModuleType:
    """Import an experiment.

    Raises
    ------
    ModuleNotThereError
        With the near names.
    ModuleImportError
        With the user's traceback.
    ProjectError
        When it has no ``run()``.
    """
    name = _module_name(name, "experiment")
    if name not in module_names(config, config.experiments):
        raise _not_there("experiment", name, module_names(config, config.experiments), config.path(config.experiments))
    module = _import(config, config.experiments, name)
    run = getattr(module, "run", None)
    if not callable(run):
        raise ProjectError(
            f"The experiment {name!r} has no run().",
            where=str(module.__file__),
            fix="define `def run(param_sets, manager):`",
        )
    _check_call(run, name, str(module.__file__))
    return module


def _check_call(run: Callable[..., Any], name: str, file: str) -> None:
    try:
        inspect.signature(run).bind([], None)
    except ValueError:  # it says nothing of what it takes
        return
    except TypeError as error:
        raise ProjectError(
            f"The run() of the experiment {name!r} cannot be called with parameter sets and a manager: {error}.",
            where=file,
            fix="define `def run(param_sets, manager):`",
        ) from None


def load_param_groups(config: Config, experiment: str, names: Sequence[str] = ()) -> list[Group]:
    """The parameter sets of modules from the parameter or the experiment folder, by module.

    Parameters
    ----------
    experiment : str
        The experiment; its own ``get_params()`` serves when no module is named.
    names : sequence of str
        Parameter modules.
    """
    return [(name, _param_sets(config, name)) for name in (names or [experiment])]


def _param_sets(config: Config, asked: str) -> list[ExperimentParameters]:
    name = _module_name(asked, "parameter module")
    folders = [config.params, config.experiments]
    folder = next((f for f in folders if name in module_names(config, f)), None)
    if folder is None:
        there = [n for f in folders for n in module_names(config, f)]
        raise _not_there("parameter module", name, there, config.path(config.params))
    module = _import(config, folder, name)
    get_params = getattr(module, "get_params", None)
    if not callable(get_params):
        raise ProjectError(
            f"The module {name!r} has no get_params().",
            where=str(module.__file__),
            fix="define `def get_params():` that returns a list of parameter sets, or name another module with -p",
        )
    return check_param_sets(_call_get_params(get_params, name, module), f"get_params() in {module.__file__}")


def _call_get_params(get_params: Callable[[], Any], name: str, module: ModuleType) -> Any:
    try:
        value = get_params()
        return list(value) if isinstance(value, Iterator) else value
    except CuridaskError as error:
        _say_where(error, Path(module.__file__ or "").parent)
        raise
    except (Exception, SystemExit) as error:
        raise ModuleImportError(
            f"get_params() of {name!r} raised {type(error).__name__}: {error}",
            where=str(module.__file__),
            traceback_text=user_traceback(error),
        ) from error


def _module_name(asked: str, kind: str) -> str:
    name = _as_module(asked)
    if not re.fullmatch(r"\w[\w-]*(\.\w[\w-]*)*", name) or "/" in (asked[:1], asked[-1:]):
        raise UnsafeNameError(
            f"{asked!r} is no name of a module.",
            where=kind,
            fix="give the file's name without .py; `experiment ls` lists what there is",
        )
    return name


def _not_there(kind: str, name: str, there: Sequence[str], folder: Path) -> ModuleNotThereError:
    below = name.removeprefix(f"{folder.name}.")  # as it would be imported
    near = [below] if below in there else difflib.get_close_matches(below, there, n=3, cutoff=0.5)
    if near:
        fix = f"did you mean {' or '.join(near)}?"
    elif there:
        fix = f"there are: {', '.join(there)}"
    else:
        fix = "there are no modules yet; `curidask init` makes a first one (are you in the project's folder?)"
    return ModuleNotThereError(f"There is no {kind} {name!r}.", where=str(folder), fix=fix)


# --- importing -------------------------------------------------------------------------------------------------------
def _import(config: Config, folder: str, name: str) -> ModuleType:
    enter_project(config)
    package = ".".join(Path(folder).parts)
    full_name = f"{package}.{name}"
    path = module_files(config, folder)[name]
    # Compiled files are matched by second and size, so an edit right after a run could go unnoticed: none are written.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return importlib.import_module(full_name)
    except CuridaskError as error:
        _say_where(error, config.root)
        raise
    except (Exception, SystemExit) as error:
        raise ModuleImportError(
            f"{path.name} cannot be imported: {type(error).__name__}: {error}",
            where=str(path),
            traceback_text=_import_traceback(error),
        ) from error
    finally:
        sys.dont_write_bytecode = written
        _warn_of_taken_names()


def _say_where(error: CuridaskError, root: Path) -> None:
    """Have an error of ours name the line of the project that was being run."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if is_own_file(Path(file), root)]
    error.ran_nothing = True
    if own and own[-1][0] not in error.where:
        error.where = ", ".join(filter(None, [error.where, f"{own[-1][0]}, line {own[-1][1]}"]))


_told: set[str] = set()


def _warn_of_taken_names() -> None:
    entered = importer.entered()
    for name, file in entered.taken_imports().items() if entered is not None else ():
        if file not in _told:
            _told.add(file)
            warnings.warn(
                f"`import {name}` does not give the project's {file}: a module of that name belongs to Python, or to a "
                "package that curidask uses; rename the file",
                stacklevel=2,
            )


def _import_traceback(error: BaseException) -> str:
    """The user's frames; those of the import system say nothing."""
    lines = user_traceback(error)
    return re.sub(
        r'  File "<frozen importlib[^\n]*\n(    [^\n]*\n)*|  File "[^"\n]*importlib/[^\n]*\n(    [^\n]*\n)*', "", lines
    )


def enter_project(config: Config) -> None:
    """Make the project's folder the first place to import from, and forget the modules of another project."""
    root = str(config.root)
    entered = importer.entered()
    if entered is None or entered.root != config.root or root not in entered.folders:
        below = [entry for entry in sys.path if entry != root and is_own_file(Path(entry, "x"), config.root)]
        packages, always = dict(_packages(config)), [Path(f).parts[0] for f in (config.experiments, config.params)]
        importer.enter(ImportedProject(config.root, [root, *below], packages=packages, always=always))
    if sys.path[:1] != [root]:
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    importlib.invalidate_caches()


def _packages(config: Config) -> Iterator[tuple[str, list[str]]]:
    """The folders of experiments and parameters, and those around them, that have no ``__init__.py``."""
    for folder in (config.experiments, config.params):
        parts = Path(folder).parts
        for end in range(1, len(parts) + 1):
            path = config.root.joinpath(*parts[:end])
            if path.is_dir() and not (path / "__init__.py").exists():
                yield ".".join(parts[:end]), [str(path)]
