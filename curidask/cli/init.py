"""What ``curidask init`` writes."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import click

from curidask.errors import ProjectError
from curidask.session import config

SETTINGS = {
    "experiments": "the modules with run(param_sets, manager)",
    "params": "the modules with get_params()",
    "cache": "a folder, or a URL such as s3://bucket/path",
    "runs": "a record of each run, and runs stored in full",
    "logs": "a log of each run",
    "reports": "a report of each run",
    "notebooks": "notebooks that reload runs",
}
"""The settings that are asked for, with what they hold."""

HEAD = """\
# Configuration of curidask. What is commented out shows the default; environment variables such as CURIDASK_CACHE win
# over it, and the flags of `experiment NAME` over both.

"""

OTHER_SETTINGS = """\
# parallel = 4                           # worker processes; as many as cores by default, 0 for none
# verify = "digest"                      # what is checked before an artifact is loaded: digest, size or off
"""

EXPERIMENT = '''\
"""A first experiment: estimate pi by throwing darts, with several numbers of darts and seeds."""

import random
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher


@dataclass
class Params(cf.ExperimentParameters):
    n_darts: int = 1000
    seed: int = 0


@cf.stage(inputs=None, outputs=["hits"], cachers=[JsonCacher])
def throw(record):
    """Count the darts that land inside the circle."""
    generator = random.Random(record.params.seed)
    return sum(generator.random() ** 2 + generator.random() ** 2 <= 1 for _ in range(record.params.n_darts))


@cf.stage(inputs=["hits"], outputs=["estimate"], cachers=[JsonCacher])
def estimate(record, hits):
    """Turn hits into an estimate of pi."""
    return 4 * hits / record.params.n_darts


@cf.aggregate(inputs=["estimate"], outputs=["table"], cachers=[JsonCacher])
def compare(record, records, estimate):
    """Gather the estimates of all parameter sets."""
    return {r.params.name: value for r, value in estimate.items()}


def get_params():
    return [Params(f"{n} darts, seed {seed}", n_darts=n, seed=seed) for n in (1_000, 100_000) for seed in (1, 2)]


def run(param_sets, manager):
    for param_set in param_sets:
        estimate(throw(cf.Record(manager, param_set)))
    final = compare(cf.Record(manager, None))
    for name, value in final.state["table"].items():
        print(f"{name:>24}: {value:.4f}")
'''

GIT = "git"
"""The answer that says whether to make a repository."""


def ask(folder: Path) -> dict[str, str]:
    """Ask where things lie, and whether to make a git repository; what is configured already is not asked for.

    Returns
    -------
    dict of str to str
        Settings that differ from the defaults; `GIT` as ``"yes"``.
    """
    if not click.confirm(f"Set up a curidask project in {folder.resolve()}?", default=True):
        click.echo("nothing was written")
        sys.exit(1)
    answers: dict[str, str] = {}
    if _configured(folder) is None:
        click.echo("Where things lie (Enter for what is in brackets):")
        for key, holds in SETTINGS.items():
            default = str(config.SETTINGS[key].default)
            answer = click.prompt(f"  {key}: {holds}", default=default, value_proc=_checked(key))
            if answer != default:
                answers[key] = answer
    if _may_have_repository(folder) and click.confirm("Make a git repository, so that runs record their commit?", True):
        answers[GIT] = "yes"
    return answers


def _checked(key: str) -> Callable[[str], str]:
    def check(answer: str) -> str:
        answer = answer.strip()
        fix = config.problem(key, answer)
        if fix:
            raise click.UsageError(fix)
        return answer

    return check


def init_project(folder: Path, answers: Mapping[str, str] | None = None) -> list[str]:
    """Set up a project; existing files are kept.

    Parameters
    ----------
    answers : mapping of str to str, optional
        What `ask` gave.

    Returns
    -------
    list of str
        What was done, and what to do next, a line each.

    Raises
    ------
    ProjectError
        When the folder cannot be written.
    """
    answers = answers or {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = list(_write(folder, answers))
        if answers.get(GIT):
            done.append(_make_repository(folder))
        return [*done, *_next_steps(folder)]
    except OSError as error:
        raise ProjectError(
            f"The project cannot be set up: {error.strerror or error}.",
            where=str(folder.resolve()),
            fix="choose a folder that can be written",
        ) from error


def _configured(folder: Path) -> str | None:
    """The configuration file that is there already; a pyproject.toml without our table does not count."""
    return next((name for name in config.FILES if config.configures(folder / name)), None)


def _write(folder: Path, answers: Mapping[str, str]) -> Iterator[str]:
    configured = _configured(folder)
    if configured:
        yield f"kept      {configured}"
    else:
        yield _write_file(folder, "curidask.toml", _configuration(answers))
    there = config.load_config(folder, {})
    for name in (there.experiments, there.params):
        (folder / name).mkdir(parents=True, exist_ok=True)
    yield _write_file(folder, f"{there.experiments}/example.py", EXPERIMENT)
    ignore = folder / ".gitignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    missing = [line for line in _ignored(there) if line not in lines]
    if missing:
        ignore.write_text("\n".join([*lines, *missing]) + "\n")
        yield f"wrote     .gitignore ({', '.join(missing)})"


def _configuration(answers: Mapping[str, str]) -> str:
    lines = []
    for key, holds in SETTINGS.items():
        value = answers.get(key)
        setting = f"{key} = {json.dumps(value or config.SETTINGS[key].default, ensure_ascii=False)}"
        lines.append(f"{setting if value else '# ' + setting:<40} # {holds}\n")
    return HEAD + "".join(lines) + OTHER_SETTINGS


def _ignored(there: config.Config) -> list[str]:
    """The folders of what is made; ``data/cache`` and ``data/runs`` are one line."""
    code = {PurePosixPath(folder).parts[0] for folder in (there.experiments, there.params)}
    ignored: dict[str, None] = {}
    for place in (there.cache, there.runs, there.logs, there.reports):
        path = PurePosixPath(place)
        if "://" in place or not path.parts or path.parts[0] in ("/", "..", "~"):
            continue
        ignored[f"{path if path.parts[0] in code else path.parts[0]}/"] = None
    return list(ignored)


def _may_have_repository(folder: Path) -> bool:
    return shutil.which("git") is not None and not _in_repository(folder)


def _in_repository(folder: Path) -> bool:
    from curidask.runs.record import in_repository

    return in_repository(folder.resolve())


def _make_repository(folder: Path) -> str:
    done = subprocess.run(["git", "init", "--quiet", str(folder)], capture_output=True, text=True, check=False)
    return "made      a git repository" if done.returncode == 0 else f"no git repository: {done.stderr.strip()}"


def _write_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    if path.exists():
        return f"kept      {name}"
    path.write_text(text, encoding="utf-8")
    return f"wrote     {name}"


def _next_steps(folder: Path) -> list[str]:
    steps = ["", "next:"]
    if folder.resolve() != Path.cwd():
        steps.append(f"  cd {shlex.quote(str(folder))}")
    if not _in_repository(folder):
        steps.append("  git init            (each run records the commit it was made with)")
    if shutil.which("experiment") is None:
        steps.append("  (the commands are in the environment that curidask was installed into)")
    return [*steps, "  experiment ls", "  experiment example"]
