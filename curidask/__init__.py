"""curidask: a distributed parallel executor for research experiments.

Stages are plain functions over records, parameter sets are dataclasses, and every artifact lands in one cache. See
`curidask.ArtifactManager`, `curidask.Record`, `curidask.stage` and `curidask.aggregate`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curidask.args import ExperimentArgs
    from curidask.caching import Cacheable, Lazy
    from curidask.errors import CuridaskError
    from curidask.experiment import run_experiment
    from curidask.manager import ArtifactManager
    from curidask.params import ExperimentParameters
    from curidask.procedure import Procedure
    from curidask.record import Record
    from curidask.staging import aggregate, stage

# Loaded when first used, so that `import curidask` and `experiment --help` answer at once.
_HOMES = {
    "ArtifactManager": "curidask.manager",
    "Cacheable": "curidask.caching",
    "CuridaskError": "curidask.errors",
    "ExperimentArgs": "curidask.args",
    "ExperimentParameters": "curidask.params",
    "Lazy": "curidask.caching",
    "Procedure": "curidask.procedure",
    "Record": "curidask.record",
    "aggregate": "curidask.staging",
    "run_experiment": "curidask.experiment",
    "stage": "curidask.staging",
}

__all__ = [
    "ArtifactManager",
    "Cacheable",
    "CuridaskError",
    "ExperimentArgs",
    "ExperimentParameters",
    "Lazy",
    "Procedure",
    "Record",
    "aggregate",
    "run_experiment",
    "stage",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curidask' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
