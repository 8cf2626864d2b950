"""Run the chain experiment once, in this process's own project folder, and print as JSON where the time went.

A child of ``overhead.py``: each measurement has a process of its own, so none inherits what another has warmed up.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

from curidask.execution.listener import Listener
from curidask.manager import ArtifactManager
from curidask.session.config import load_config
from curidask.session.project_modules import load_experiment


@dataclass
class Stopwatch(Listener):
    """Notes when the plan was made and when the executor was up."""

    planned_at: float | None = None
    executor_up_at: float | None = None

    def planned(self, graph: Any, plan: Any) -> None:
        self.planned_at = self.planned_at or time.perf_counter()

    def started_executor(self, description: str) -> None:
        self.executor_up_at = time.perf_counter()

    def waiting(self, task: Any, holder: str) -> None:
        raise RuntimeError(f"waiting for {holder}")

    def warned(self, text: str) -> None:
        raise RuntimeError(text)  # a figure that was taken while something went wrong is no figure


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--cache", required=True)
    options = parser.parse_args()
    config = load_config()
    chain = load_experiment(config, "chain")
    param_sets = chain.get_params()
    watch = Stopwatch()

    began = time.perf_counter()
    manager = ArtifactManager(
        "chain",
        cache=options.cache,
        parallel=options.parallel,
        config=config,
        live=False,
        listeners=[watch],
        n_sets=len(param_sets),
    )
    chain.run(param_sets, manager)
    traced = time.perf_counter()
    manager.finish()
    finished = time.perf_counter()
    manager.close()
    closed = time.perf_counter()

    planned = watch.planned_at or finished
    up = watch.executor_up_at or planned  # a run that reuses everything starts no executor
    phases = {
        "trace": traced - began,
        "plan": planned - traced,
        "start": up - planned,
        "execute": finished - up,
        "close": closed - finished,
    }
    print(json.dumps(phases))


if __name__ == "__main__":
    main()
