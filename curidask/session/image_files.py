"""Which of a project's files go into the image of a run: its own, but no secret, and nothing that is ignored."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from curidask.session.config import Config

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
