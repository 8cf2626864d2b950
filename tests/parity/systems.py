"""A system that runs projects, and what is observed of what it runs."""

from __future__ import annotations

import collections
import glob
import hashlib
import json
import re
import subprocess
from pathlib import Path

from tests.parity.cases import Case, Step
from tests.parity.scripts.observe import plain

FORKER = Path(__file__).with_name("forker.py")
Observed = dict[str, str | int]
"""What was observed, by where: ``cold/1/exit``, ``warm/2/values/score``."""

ROUNDS = ("cold", "warm")
SECONDS = 90
"""How long a step may take."""

KEPT_OF_RUNS = ("store.json", "params_registry.json", "/.")
NOT_COMPARED = ("__pycache__", "runs/", "logs/", "reports/", "notebooks/", "_reportables", ".reported/", *KEPT_OF_RUNS)
"""What scripts look into themselves, and how runs and reportables are kept."""

METADATA = "_metadata.json"
OPAQUE = (".pkl", ".parquet", ".orc", ".png", ".ipynb")
"""Files whose contents depend on versions; scripts that read them compare what they hold."""


class System:
    """A package in its environment, with a process that has imported it.

    Parameters
    ----------
    package : str
    python : Path
        The environment's interpreter.
    modules : list of str
        What its commands import.
    shipped : Path
        The folder of the installed curifactory, with what it ships.
    """

    def __init__(self, package: str, python: Path, modules: list[str], shipped: Path) -> None:
        self.package = package
        self.python = python
        self.shipped = shipped
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None

    def observe(self, case: Case, folder: Path) -> Observed:
        """Run the steps of a case in a folder of its own, and again."""
        project = folder / "project"
        case.copy_to(project, self.package, self.shipped)
        sources = {path for path in project.rglob("*") if path.is_file()}
        observed: Observed = {}
        for name in ROUNDS:
            for number, step in enumerate(case.steps, start=1):
                told = folder / f"{name}-{number}"
                told.mkdir()
                found = self._step(step, project, told)
                observed |= {f"{name}/{number}/{key}": value for key, value in found.items()}
            observed |= {f"{name}/{key}": value for key, value in _files(project, sources).items()}
        return observed

    def _step(self, step: Step, project: Path, folder: Path) -> Observed:
        told = {name: folder / name for name in ("values", "executions", "stdout", "stderr")}
        env = {
            "PATH": str(self.python.parent),
            "HOME": str(project.parent),
            "MPLBACKEND": "Agg",
            "PARITY_VALUES": str(told["values"]),
            "PARITY_EXECUTIONS": str(told["executions"]),
            "CURIDASK_PARALLEL": "0",
            "CURIDASK_NEAR_CACHE": str(project.parent / "near"),
            **step.env,
        }
        code = self._run(step, project, env, told)
        seen: Observed = {"exit": code}
        if code and step.command == "python":
            seen["error"] = _error_class(told["stderr"])
        counts = collections.Counter(map(json.loads, _lines(told["executions"])))
        seen |= {f"ran/{name}": count for name, count in counts.items()}
        seen |= _values([json.loads(line) for line in _lines(told["values"])])
        if step.compared:
            seen["prints"] = plain("\n".join(_lines(told["stdout"]))).replace(f"{project}/", "")
        return seen

    def _run(self, step: Step, project: Path, env: dict[str, str], told: dict[str, Path]) -> int:
        arguments = [name for argument in step.arguments for name in _expanded(argument, project)]
        script = arguments.pop(0) if step.command == "python" else str(self.python.parent / step.command)
        request = {
            "script": script,
            "arguments": arguments,
            "folder": str(project),
            "env": env,
            "stdout": str(told["stdout"]),
            "stderr": str(told["stderr"]),
            "seconds": SECONDS,
        }
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [self.python, FORKER, *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"PATH": str(self.python.parent), "HOME": "/nonexistent", "MPLBACKEND": "Agg"},
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()


def _error_class(errors: Path) -> str:
    """The class that a traceback ends with."""
    found = [line for line in _lines(errors) if re.match(r"[\w.]+(:|$)", line)]
    return found[-1].partition(":")[0].rpartition(".")[2] if found else ""


def _expanded(argument: str, folder: Path) -> list[str]:
    """The files that a pattern stands for, as in a shell."""
    return (sorted(glob.glob(argument, root_dir=folder)) if "*" in argument else []) or [argument]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _values(told: list[list[str]]) -> Observed:
    """Values by name; a name that is told again gets a number."""
    seen: Observed = {}
    counts: collections.Counter[str] = collections.Counter()
    for name, value in told:
        counts[name] += 1
        seen[f"values/{name}" + (f" {counts[name]}" if counts[name] > 1 else "")] = value
    return seen


def _files(project: Path, sources: set[Path]) -> Observed:
    """What lies in the project beside its sources: how many artifacts of a name, and the contents of other files."""
    found: Observed = {}
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if path in sources or path.is_dir() or any(part in f"/{name}" for part in NOT_COMPARED):
            continue
        place, is_cache, artifact = name.rpartition("cache/")
        if not is_cache:
            found[f"files/{plain(name)}"] = _content(path)
        elif not name.endswith(METADATA):
            kind = f"artifacts/{place}cache/{plain(artifact)}"
            found[kind] = int(found.get(kind, 0)) + 1
    return found


def _content(path: Path) -> str:
    if path.suffix in OPAQUE or path.name.endswith(METADATA):
        return "there"
    if path.suffix == ".json":
        return json.dumps(json.loads(path.read_text()), sort_keys=True)
    data = path.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return hashlib.sha256(data).hexdigest()
