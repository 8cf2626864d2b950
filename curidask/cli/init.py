"""What ``curidask init`` writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from curidask.config import FILES
from curidask.errors import ProjectError

CONFIGURATION = """\
# Configuration of curidask. What is commented out shows the default; `experiment --help` explains the flags that win
# over it, and so do environment variables such as CURIDASK_CACHE.

# cache = "data/cache"          # a folder, or a URL such as s3://bucket/path
# experiments = "experiments"
# params = "params"
# parallel = 4                  # worker processes; as many as cores by default, 0 for none
# verify = "digest"             # what is checked before an artifact is loaded: digest, size or off
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

IGNORED = ("data/", "logs/", "reports/")


def init_project(folder: Path) -> list[str]:
    """Set up a project; existing files are kept.

    Returns
    -------
    list of str
        What was done, and what to do next, a line each.

    Raises
    ------
    ProjectError
        When the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [*_write(folder), *_next_steps(folder)]
    except OSError as error:
        raise ProjectError(
            f"The project cannot be set up: {error.strerror or error}.",
            where=str(folder.resolve()),
            fix="choose a folder that can be written",
        ) from error


def _write(folder: Path) -> Iterator[str]:
    configured = next((name for name in FILES if name != "pyproject.toml" and (folder / name).exists()), None)
    if configured:
        yield f"kept      {configured}"
    else:
        yield _write_file(folder / "curidask.toml", CONFIGURATION)
    for name in ("experiments", "params"):
        (folder / name).mkdir(exist_ok=True)
    yield _write_file(folder / "experiments" / "example.py", EXPERIMENT)
    ignore = folder / ".gitignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    missing = [line for line in IGNORED if line not in lines]
    if missing:
        ignore.write_text("\n".join([*lines, *missing]) + "\n")
        yield f"wrote     .gitignore ({', '.join(missing)})"


def _write_file(path: Path, text: str) -> str:
    if path.exists():
        return f"kept      {path.name}"
    path.write_text(text)
    return f"wrote     {path.relative_to(path.parents[1]) if path.parent.name == 'experiments' else path.name}"


def _next_steps(folder: Path) -> list[str]:
    steps = ["", "next:"]
    if folder.resolve() != Path.cwd():
        steps.append(f"  cd {folder}")
    if not any((parent / ".git").exists() for parent in (folder.resolve(), *folder.resolve().parents)):
        steps.append("  git init          (each run records the commit it was made with)")
    if shutil.which("experiment") is None:
        steps.append("  (the commands are in the environment that curidask was installed into)")
    return [*steps, "  experiment ls", "  experiment example"]
