"""Try scenarios of a seed: ``python -m tests.faults.randomly --seed 7 --count 1000``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.randomly.bucket import BucketTrial
from tests.faults.randomly.checking import smallest, try_out
from tests.faults.randomly.scenario import Scenario, described, draw
from tests.faults.randomly.trial import Trial
from tests.s3server import S3Server

IMPORTED = [
    *(
        "faulthandler",
        "igraph",
        "mimetypes",
        "numpy",
        "pwd",
        "tomllib",
        "curidask.caching.loadable",
        "curidask.reporting.notebook",
    ),
    *(
        "curidask.cli.commands",
        "curidask.experiment_run",
        "curidask.session.attachments",
        "curidask.session.project_modules",
    ),
    *(
        "curidask.session.progress",
        "curidask.session.queries",
        "curidask.reporting.index",
        "curidask.reporting.graph_layout",
    ),
    *(
        "curidask.reporting.report",
        "curidask.reporting.report",
        "curidask.store.maintenance.gc",
        "curidask.store.maintenance.orphans",
    ),
]


def warmed() -> None:
    """Import what runs import, and have done once what is done once a process."""
    import gc

    for name in IMPORTED:
        importlib.import_module(name)
    from curidask.reporting.templating import environment

    for name in environment().list_templates(extensions=["html"]):
        environment().get_template(name)
    gc.collect()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=0, help="scenarios")
    parser.add_argument("--faults", type=int, default=0, help="go on until there were so many faults")
    parser.add_argument("--each", type=int, default=3, help="faults of a scenario, on average")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of scenarios")
    parser.add_argument("--parallel", type=int, default=0, help="worker processes of each run")
    parser.add_argument("--s3", action="store_true", help="the last tier is a place on an S3 server")
    parser.add_argument("--keep", help="folder for those that fail")
    parser.add_argument("--stop", action="store_true", help="at the first that fails")
    parser.add_argument("--mutant", default="", help="a deliberate fault of curidask, or all")
    options = parser.parse_args()
    warmed()
    if options.mutant == "all":
        return hunt(options)
    if options.mutant:
        mutants()[options.mutant]()
    sys.dont_write_bytecode = True
    folder = tempfile.mkdtemp()  # a `TemporaryDirectory` would go when the first child ends
    try:
        with server(options, Path(folder, "s3")):
            failures, n_faults, n = tried(options, Path(options.keep or folder).absolute(), Path(folder))
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"scenarios": n, "faults": n_faults, "failures": failures}, indent=1))
    return bool(failures)


@contextlib.contextmanager
def server(options: argparse.Namespace, folder: Path) -> Iterator[None]:
    """Have a server, where one is wanted."""
    if not options.s3:
        yield
        return
    folder.mkdir()
    options.server = S3Server(folder)
    options.server.start()
    os.environ.update(options.server.env)
    try:
        yield
    finally:
        options.server.kill()


def mutants() -> dict[str, Callable[[], None]]:
    from tests.faults.randomly.mutants import MUTANTS

    return MUTANTS


def hunt(options: argparse.Namespace) -> int:
    """Try the mutants one after the other, each in a process of its own; how many are not found."""
    left = 0
    for name in mutants():
        again = [sys.executable, "-m", "tests.faults.randomly", "--mutant", name, "--stop", "--seed", options.seed]
        done = subprocess.run([*again, "--count", str(options.count)], capture_output=True, text=True, check=False)
        print(f"{name}: {'found after' if done.returncode else 'NOT found in'} {found_of(done.stdout)}", flush=True)
        left += done.returncode == 0
    return left


def found_of(output: str) -> str:
    if not output:
        return "the first scenario, of which nothing is left to look at"
    found = json.loads(output)
    why = found["failures"][0]["problems"][0] if found["failures"] else ""
    return f"{found['scenarios']} scenarios {why}"


def tried(options: argparse.Namespace, kept: Path, templates: Path) -> tuple[list[dict[str, object]], int, int]:
    from curidask.cli.commands import main as command

    failures: list[dict[str, object]] = []
    n_faults, number, n = 0, 0, 0
    numbers = options.only or range(1 << 30)
    for number in numbers:
        if not options.only and n >= options.count and n_faults >= options.faults:
            break
        scenario = draw(f"{options.seed}:{number}", n_faults=options.each)
        n, n_faults = n + 1, n_faults + len(scenario.faults)

        def problems(less: Scenario, name: str = f"{options.seed}-{number}") -> list[str]:
            if options.s3:
                trial: Trial = BucketTrial(less, kept / name, command, options.parallel, url=options.server.url())
            else:
                trial = Trial(less, kept / name, command, options.parallel)
            return try_out(trial, templates)

        found = problems(scenario)
        if found:
            least = smallest(scenario, lambda less: bool(problems(less)))
            found = problems(least) or found
            failures.append({"number": number, **described(least), "problems": found[:6]})
            print(json.dumps(failures[-1]), file=sys.stderr, flush=True)
            if options.stop:
                break
    return failures, n_faults, n


if __name__ == "__main__":
    sys.exit(main())
