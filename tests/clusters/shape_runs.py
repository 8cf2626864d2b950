"""Run all shapes in one place, in this process also warm, and write down what came out; a script of its own.

A warm run finds everything by its keys, and whether these are the same elsewhere a cold run tells too.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import curidask as cf
from curidask.clusters.local import local
from curidask.errors import RunFailedError
from curidask.experiment import run_experiment
from curidask.runs.reportables import ReportCollector  # noqa: F401  # loaded before a project has files of any names


def observe(project: Path, experiment: str, cache: Path, where: dict[str, Any]) -> dict[str, Any]:
    """Values, keys and messages of a run."""
    os.chdir(project)
    told: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # comes when the collector does
        try:
            result = run_experiment(experiment, cache=str(cache), report=False, log=False, mngr=True, **where)
            told["value"] = json.loads(json.dumps(result.value))
            told["ran"] = sorted({d.action.value for d in result.manager.plan().decisions.values()})
        except RunFailedError as error:
            told["failed"] = [[f.stage, f.set_name, f.what, f.traceback_text] for f in error.failures]
        except cf.CuridaskError as error:
            told["error"] = [type(error).__name__, str(error)]
    told["warnings"] = sorted({str(w.message) for w in caught})
    told["keys"] = sorted(path.name for path in cache.glob("*_metadata.json"))
    return told


def main(projects: str, caches: str, mode: str, address: str = "") -> None:
    """Run each shape's project below a folder.

    Parameters
    ----------
    projects, caches : str
        Folders; a worker that does not see the first still shares the second.
    mode : str
        ``here`` for this process, ``workers`` for two of this machine, ``address`` for workers at an address,
        ``local`` for two workers of each run's own.
    """
    found = {}
    with ExitStack() as stack:
        where: dict[str, Any] = {"parallel": 0 if mode == "here" else 2}
        if mode == "workers":
            where = {"cluster": stack.enter_context(local(2)).client}
        elif mode == "address":
            where = {"cluster": address}
        for project in sorted(Path(projects).iterdir()):
            experiment = (project / "experiment").read_text()
            if mode != "local" or project.name in LOCAL:
                cache = Path(caches, mode, project.name)
                times = 2 if mode == "here" else 1
                found[project.name] = [observe(project, experiment, cache, where) for _ in range(times)]
    print(json.dumps(found))


LOCAL = (
    "a_stage_out_of_a_factory",
    "file_named_as_a_package",
    "files_named_as_of_the_standard_library",
    "own_file_named_as_what_dask_needs",
    "source_folder",
)
"""What starts workers of its own: it is about how they start."""

if __name__ == "__main__":
    main(*sys.argv[1:])
