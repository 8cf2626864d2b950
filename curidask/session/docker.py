"""An image of a run: its code, packages, artifacts and notebook, with a command that gives the results again."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import curidask
from curidask.errors import CacheError, ProjectError
from curidask.manager import ArtifactManager
from curidask.runs import export as run_export
from curidask.session.config import RUN_ARTIFACTS
from curidask.session.image_files import Choice, choose_files

ENGINES = ("docker", "podman", "buildah")
ANSWER_SECONDS = 10
FOLDER = "docker"
TAKEN = "files.txt"
NAMED = 20
"""Files that are named in what is said."""
HOME = "/home/researcher"

DOCKERFILE = """\
# The run {reference}: its code, packages, artifacts and notebook. `docker run` gives its results again.
# Build it in the run's folder, which is the context:
#   docker build -t {tag} -f {folder}/Dockerfile .
FROM python:{python}-slim

RUN useradd --create-home --home-dir {home} researcher && install -d -o researcher {home}/project
COPY {folder}/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
{vendored}
WORKDIR {home}/project
COPY --chown=researcher {folder}/project/ ./
COPY --chown=researcher run.json environment.json ./{run}/
COPY --chown=researcher {artifacts}/ ./{run}/{artifacts}/

USER researcher
CMD {entry}
"""

VENDORED = """\
COPY {folder}/vendored/ /opt/vendored/
ENV PYTHONPATH=/opt/vendored
"""


def prepare(manager: ArtifactManager, notebook: Path, *, quiet: bool = False) -> list[str]:
    """Write the build folder of a store-full run, and build the image where an engine answers.

    Parameters
    ----------
    manager : ArtifactManager
        Of a run that has ended and was stored in full.
    notebook : Path
        The notebook that reloads it from its folder.
    quiet : bool
        Do not show what the engine prints.

    Returns
    -------
    list of str
        What was done, or what to run.

    Raises
    ------
    CacheError
        When the folder cannot be written.
    ProjectError
        When the engine fails.
    """
    run = run_export.run_path(manager.config, manager.reference)
    try:
        lines = _write(manager, run, notebook)
    except OSError as error:
        raise CacheError(
            f"The build folder cannot be written: {error.strerror or error}.",
            where=str(run / FOLDER),
            fix="free space, make the folder writable, or set `runs` in the configuration",
        ) from error
    engine = next(filter(_answers, ENGINES), None)
    command = build_command(manager, engine or "docker")
    if engine is None:
        return [*lines, f"docker: no engine answers here ({', '.join(ENGINES)}); build the image with", f"  {command}"]
    _build(command, engine, quiet=quiet)
    return [*lines, f"docker: built {_tag(manager)}; `{engine} run --rm {_tag(manager)}` gives the results again"]


def build_command(manager: ArtifactManager, engine: str) -> str:
    """The command that builds the image."""
    run = run_export.run_path(manager.config, manager.reference)
    return shlex.join([engine, "build", "-t", _tag(manager), "-f", str(run / FOLDER / "Dockerfile"), str(run)])


def _tag(manager: ArtifactManager) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", manager.experiment_name.lower()).strip("-") or "experiment"
    return f"curidask/{name}:{manager.run_record.number}"


def _answers(engine: str) -> bool:
    if shutil.which(engine) is None:
        return False
    try:
        done = subprocess.run([engine, "info"], capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _build(command: str, engine: str, *, quiet: bool) -> None:
    done = subprocess.run(
        shlex.split(command), stdout=subprocess.DEVNULL if quiet else sys.stderr, stderr=sys.stderr, check=False
    )
    if done.returncode:
        raise ProjectError(
            f"{engine} could not build the image (exit code {done.returncode}); the run itself is done and stored.",
            where=command,
            fix="see what it printed above; the same command tries again",
        )


# --- the build folder ------------------------------------------------------------------------------------------------
def _write(manager: ArtifactManager, run: Path, notebook: Path) -> list[str]:
    """Write the folder; lines that say what goes into the image, and what does not."""
    config, folder = manager.config, run / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    choice = choose_files(config)
    for name in choice.taken:
        _copy(config.root / name, folder / "project" / name)
    (folder / TAKEN).write_text("".join(f"{name}\n" for name in choice.taken), encoding="utf-8", errors="replace")
    inside = Path(config.notebooks) if not Path(config.notebooks).is_absolute() else Path("notebooks")
    _copy(notebook, folder / "project" / inside / notebook.name)
    pinned, vendor, left_out = _requirements(run / run_export.REQUIREMENTS, config.root)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in pinned), encoding="utf-8")
    if vendor:
        package = Path(curidask.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / "vendored" / package.name, ignore=ignored)
    (folder / "Dockerfile").write_text(_dockerfile(manager, vendor=vendor), encoding="utf-8")
    return [*_said(choice, folder / TAKEN), *_not_in_it(left_out)]


def _said(choice: Choice, listed: Path) -> list[str]:
    taken = ", ".join(choice.taken[:NAMED]) + (", …" if len(choice.taken) > NAMED else "")
    lines = [f"in the image: {len(choice.taken)} files of the project, listed in {listed}: {taken}"]
    for why in dict.fromkeys(choice.left_out.values()):
        names = [name for name, reason in choice.left_out.items() if reason == why]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines += _not_in_it([f"{', '.join(names[:NAMED])}{more} ({why})"])
    return lines


def _not_in_it(texts: list[str]) -> list[str]:
    return [f"not in the image: {text}" for text in texts]


def _dockerfile(manager: ArtifactManager, *, vendor: bool) -> str:
    record = manager.run_record
    run = f"data/runs/{manager.reference}"
    entry = ["python", "-m", "curidask", "run", record.name, *run_export.selection_arguments(record.options)]
    return DOCKERFILE.format(
        reference=manager.reference,
        tag=_tag(manager),
        python=platform.python_version(),
        home=HOME,
        folder=FOLDER,
        vendored=VENDORED.format(folder=FOLDER) if vendor else "",
        run=run,
        artifacts=RUN_ARTIFACTS,
        entry=json.dumps([*entry, "--cache", run, "--dry-cache", "--parallel", "0"]),
    )


def _requirements(path: Path, root: Path) -> tuple[list[str], bool, list[str]]:
    """What pip installs in the image, whether curidask is copied there instead, and what is missing."""
    pinned, left_out, vendor = [], [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        local = re.match(r"# (?P<name>\S+)==\S+ was installed from file://(?P<folder>.*)", line)
        if local is None:
            pinned.append(line)
        elif local["name"].lower() == "curidask":
            vendor = True
        elif Path(local["folder"]) != root:
            left_out.append(f"the package {local['name']}, which was installed from {local['folder']}")
    return pinned, vendor, left_out


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
