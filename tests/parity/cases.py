"""The scripts, and what is run of each.

A case is a Python file, or a folder of a whole project, below ``scripts/``. Its docstring (of a folder: that of its
``main.py``, or of the experiment of the folder's name) holds what is run, a line each, as one would type it::

    $ python NAME.py
    $ CURIDASK_PARALLEL=2 experiment NAME --overwrite > compared

With ``> compared`` what it prints is compared too; ``python shipped:PATH`` runs a file of curifactory's package. A
file whose commands run it as an experiment is put into the ``experiments/`` of a project; else it is run from the
project's folder. A docstring without commands means ``python``.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
OBSERVE = SCRIPTS / "observe.py"
COMPARED = "> compared"
SHIPPED = "shipped:"


@dataclass(frozen=True)
class Step:
    """A command of a case.

    Attributes
    ----------
    command : str
        ``python`` or ``experiment``.
    arguments : tuple of str
    env : dict
    compared : bool
        Whether what it prints is compared.
    shipped : str
        The script, if it is a file of curifactory.
    """

    command: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    compared: bool = False
    shipped: str = ""


@dataclass(frozen=True)
class Case:
    """A script or project, and what is run of it."""

    name: str
    source: Path
    steps: tuple[Step, ...]

    def copy_to(self, folder: Path, package: str, shipped: Path) -> None:
        """Write its project, with its imports of curifactory as imports of a package.

        Parameters
        ----------
        folder : Path
        package : str
        shipped : Path
            Where the files are that an installed curifactory ships.
        """
        folder.mkdir(parents=True)
        shutil.copy(OBSERVE, folder)
        if self.source.is_dir():
            shutil.copytree(self.source, folder, dirs_exist_ok=True)
        else:
            is_experiment = any(step.command == "experiment" for step in self.steps)
            home = folder / "experiments" if is_experiment else folder
            home.mkdir(exist_ok=True)
            shutil.copy(self.source, home)
        for name in {step.shipped for step in self.steps if step.shipped}:
            shutil.copy(shipped / name, folder)
        for path in folder.rglob("*.py"):
            path.write_text(with_import_of(package, path.read_text()))


def with_import_of(package: str, text: str) -> str:
    """A script that was written for curifactory, with the one change that a user makes."""
    return re.sub(r"^(\s*)(import|from) curifactory\b", rf"\1\2 {package}", text, flags=re.MULTILINE)


def cases() -> Iterator[Case]:
    """All cases, by name."""
    for path in sorted(SCRIPTS.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir():
            yield Case(path.name, path, tuple(_steps(path / "main.py", path / "experiments" / f"{path.name}.py")))
        elif path.suffix == ".py" and path != OBSERVE:
            yield Case(path.stem, path, tuple(_steps(path)))


def _steps(*places: Path) -> list[Step]:
    script = next(path for path in places if path.exists())
    documented = ast.get_docstring(ast.parse(script.read_text())) or ""
    lines = [line.strip()[2:] for line in documented.splitlines() if line.strip().startswith("$ ")]
    return [_step(line) for line in lines or [f"python {script.name}"]]


def _step(line: str) -> Step:
    compared = line.endswith(COMPARED)
    words = shlex.split(line.removesuffix(COMPARED))
    env = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    command, *arguments = words
    shipped = ""
    if arguments and arguments[0].startswith(SHIPPED):
        shipped = arguments[0].removeprefix(SHIPPED)
        arguments[0] = Path(shipped).name
    return Step(command, tuple(arguments), env, compared, shipped)
