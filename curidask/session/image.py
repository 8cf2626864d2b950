"""An image of a run: its code, packages, artifacts and notebook, with a command that gives the results again."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import curidask
from curidask.errors import CacheError, ProjectError
from curidask.session import export as run_export
from curidask.session.base import Session
from curidask.session.config import RUN_ARTIFACTS, Config

# --- which of a project's files go into the image of a run -----------------------------------------------------------
# Its own, but no secret, and nothing that is ignored.

SECRET = "it may be a secret"
IGNORED = "it is ignored"

_SECRET_PART = re.compile(
    r"""\.(aws|ssh|azure|gnupg|kube|docker|gcloud|netrc|pgpass|pypirc|git-credentials|my\.cnf|s3cfg|boto|vault-token)
    | \.env(rc)?(\..*)? | id_(rsa|dsa|ecdsa|ed25519)(\..*)? | .*\.(key|p12|pfx|jks|kdbx|ppk)
    | _netrc | gcloud | credentials(\.json)? | application_default_credentials\.json | service[-_]account.*\.json
    | .*[-_.]secrets?\.(toml|ya?ml|json|ini|txt) | secrets?\.(toml|ya?ml|json|ini|txt)""",
    re.VERBOSE | re.IGNORECASE,
)
_EXAMPLE = re.compile(r"\.env\.(example|sample|template|dist)", re.IGNORECASE)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
LOOKED_AT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes into the image of a run.

    Attributes
    ----------
    taken : list of str
        Files relative to the project's folder.
    left_out : dict of str to str
        Files that were left out although they are the project's, with why.
    """

    taken: list[str]
    left_out: dict[str, str]


def choose_files(config: Config) -> Choice:
    """The project's own files that an image takes: what git knows or would take, else all that is no result.

    What git or an image's own rules (``.gitignore``, ``.dockerignore``) leave out does not go in, and neither does what
    may be a secret, by its name or since it holds a private key. Where there is no git, its rules are followed as well
    as they are commonly written.
    """
    made = [config.path(folder) for folder in (config.runs, config.logs, config.reports)]
    made += [Path(place) for place in config.cache_urls() if "://" not in place]
    keys = os.path.realpath(config.path(config.cache_key_file)) if config.cache_key_file else None
    ignored = _Ignored(config.root)
    choice = Choice([], {})
    for name in _names(config.root):
        path = config.root / name
        if not path.is_file() or any(path.is_relative_to(folder) for folder in made):
            continue
        if is_secret(path, config.root) or os.path.realpath(path) == keys:
            choice.left_out[name] = SECRET
        elif ignored.has(name):
            choice.left_out[name] = IGNORED
        else:
            choice.taken.append(name)
    return choice


def is_secret(path: Path, root: Path) -> bool:
    """Whether a file may be a secret, by its name, that of a folder or of what it is a link to, or as a private key."""
    parts = [*path.relative_to(root).parts, *(Path(os.path.realpath(path)).parts if path.is_symlink() else ())]
    if any(_SECRET_PART.fullmatch(part) and not _EXAMPLE.fullmatch(part) for part in parts):
        return True
    if path.suffix in (".py", ".ipynb", ".md", ".rst"):  # code and texts may be about keys
        return False
    try:
        with open(path, "rb") as file:
            return _PRIVATE_KEY.search(file.read(LOOKED_AT_BYTES)) is not None
    except OSError:
        return True  # nobody but its owner may read it


# --- what there is ---------------------------------------------------------------------------------------------------
def _names(root: Path) -> list[str]:
    known = _git(root, "--cached", "--others", "--exclude-standard")
    return sorted(_walk(root) if known is None else known)


def _git(root: Path, *options: str) -> list[str] | None:
    command = ["git", "-C", str(root), "ls-files", "-z", *options]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and name != "__pycache__" and not Path(folder, name, "pyvenv.cfg").exists()
        ]
        yield from (str(Path(folder, name).relative_to(root)) for name in sorted(files))


# --- what is ignored -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Rule:
    """A line of an ignore file; the last one that matches a file, or a folder around it, decides."""

    pattern: tuple[str, ...]
    takes_back: bool
    folders_only: bool


class _Ignored:
    """Tells what the ignore files of a project leave out; git itself tells what it leaves out, where there is one."""

    def __init__(self, root: Path) -> None:
        committed = _git(root, "--cached", "--ignored", "--exclude-standard")
        self._committed = set(committed or ())
        self._groups = [_rules(root / ".dockerignore", "", anchored=True)]
        if committed is None:
            found = sorted(root.rglob(".gitignore"))
            self._groups.append([rule for file in found for rule in _rules(file, _below(file.parent, root))])

    def has(self, name: str) -> bool:
        """Whether a file is ignored."""
        return name in self._committed or any(_decides(rules, name) for rules in self._groups)


def _below(folder: Path, root: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    return "" if relative == "." else f"{relative}/"


def _decides(rules: Sequence[_Rule], name: str) -> bool:
    parts = name.split("/")
    paths = [parts[: length + 1] for length in range(len(parts))]
    ignored = False
    for rule in rules:
        if any(_matches(rule.pattern, path) for path in (paths[:-1] if rule.folders_only else paths)):
            ignored = not rule.takes_back
    return ignored


def _rules(file: Path, below: str, *, anchored: bool = False) -> list[_Rule]:
    """The rules of an ignore file in a folder; `anchored` where a plain name is meant in that folder alone."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rules = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        takes_back, text = text.startswith("!"), text.lstrip("!")
        folders_only, text = text.endswith("/") and not anchored, text.removeprefix("./").rstrip("/")
        if not text:
            continue
        deep = "" if anchored or "/" in text else "**/"
        rules.append(_Rule(tuple((below + deep + text.lstrip("/")).split("/")), takes_back, folders_only))
    return rules


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a glob fits, both by parts: ``**`` stands for any folders, and all else for what has no slash."""
    if not pattern or not path:
        return not pattern and not path
    if pattern[0] == "**":
        rest = pattern[1:]
        return not rest or any(_matches(rest, path[start:]) for start in range(len(path)))
    return fnmatchcase(path[0], pattern[0]) and _matches(pattern[1:], path[1:])


# --- an image of a run -----------------------------------------------------------------------------------------------
# Its code, packages, artifacts and notebook, with a command that gives the results again.

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


def prepare(manager: Session, notebook: Path, *, quiet: bool = False) -> list[str]:
    """Write the build folder of a store-full run, and build the image where an engine answers.

    Parameters
    ----------
    manager : Session
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


def build_command(manager: Session, engine: str) -> str:
    """The command that builds the image."""
    run = run_export.run_path(manager.config, manager.reference)
    return shlex.join([engine, "build", "-t", _tag(manager), "-f", str(run / FOLDER / "Dockerfile"), str(run)])


def _tag(manager: Session) -> str:
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
def _write(manager: Session, run: Path, notebook: Path) -> list[str]:
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


def _dockerfile(manager: Session, *, vendor: bool) -> str:
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
