"""What dask runs on a worker: a chain of jobs out of opaque bytes, and the small tasks that pick from its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import get_worker

from curidask.execution.base import MADE, JobResult, Kind, Outcome
from curidask.execution.dask import code_shipping
from curidask.execution.process import monitor, remaining_time
from curidask.execution.task_runner import run_job
from curidask.execution.tracebacks import worker_name


def run_shipped(
    code_id: str,
    code: bytes,
    project: bytes,
    batch_id: str,
    batch: bytes,
    places: Sequence[int],
    before: list[list[JobResult]],
) -> list[JobResult]:
    """Run a chain of jobs of a batch, each whatever became of the one before it."""
    scratch = get_worker().local_directory
    with code_shipping.loaded(code_id, code, project, batch_id, batch, scratch) as (unpacked, jobs):
        known = {result.outcome.task: result for results in before for result in results}
        surroundings = monitor.here(unpacked.env.session)
        lifetime = remaining_time.here()
        results = []
        for place in places:
            job, after = jobs[place]
            waited_for = [known[task] for task in after if task in known]
            if any(result.outcome.kind not in MADE for result in waited_for):
                result = JobResult(Outcome(job.id, Kind.INPUT_UNAVAILABLE, worker=worker_name()))
            elif not lifetime.allows(job):
                leave()
                result = JobResult(Outcome(job.id, Kind.INPUT_UNAVAILABLE, worker=worker_name()))
            else:
                passed = {r.outcome.task: r.values for r in waited_for}
                result = unpacked.stay.run(run_job, job, unpacked.env, passed, surroundings)
                lifetime.took(job, result.outcome.seconds)
            known[job.id] = result
            results.append(result)
        return results


def leave() -> None:
    """Let this worker hand on what it holds and end, since it has too little time left for what is to be done."""
    worker = get_worker()
    worker.loop.add_callback(worker.close_gracefully, reason="curidask-no-time-left")


def outcomes_of(results: list[JobResult]) -> list[Outcome]:
    """The outcomes alone, for the driver."""
    return [result.outcome for result in results]


def value_of(results: list[JobResult], task: int, index: int) -> Any:
    """One packed value alone, for the driver."""
    return next(result for result in results if result.outcome.task == task).values[index]
