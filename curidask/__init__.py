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
    from curidask.errors import (
        CachersMismatchError,
        CuridaskError,
        EmptyCachersError,
        ExecutingWithSkippedInputError,
        InputSignatureError,
        OutputSignatureError,
    )
    from curidask.experiment import run_experiment
    from curidask.hashing import set_hash_functions
    from curidask.manager import ArtifactManager
    from curidask.params import ExperimentParameters
    from curidask.procedure import Procedure
    from curidask.record import Record
    from curidask.staging import aggregate, stage

# Loaded when first used, so that `import curidask` and `experiment --help` answer at once.
_HOMES = {
    "ArtifactManager": "manager",
    "Cacheable": "caching",
    "CachersMismatchError": "errors",
    "CuridaskError": "errors",
    "EmptyCachersError": "errors",
    "ExecutingWithSkippedInputError": "errors",
    "ExperimentArgs": "args",
    "ExperimentParameters": "params",
    "InputSignatureError": "errors",
    "Lazy": "caching",
    "OutputSignatureError": "errors",
    "Procedure": "procedure",
    "Record": "record",
    "aggregate": "staging",
    "run_experiment": "experiment",
    "set_hash_functions": "hashing",
    "stage": "staging",
}

_SUBMODULES = frozenset({
    "args", "caching", "experiment", "hashing", "manager", "params", "procedure", "record", "reporting", "staging",
    "utils",
})  # fmt: skip

__all__ = [
    "ArtifactManager",
    "Cacheable",
    "CachersMismatchError",
    "CuridaskError",
    "EmptyCachersError",
    "ExecutingWithSkippedInputError",
    "ExperimentArgs",
    "ExperimentParameters",
    "InputSignatureError",
    "Lazy",
    "OutputSignatureError",
    "Procedure",
    "Record",
    "aggregate",
    "run_experiment",
    "set_hash_functions",
    "stage",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"curidask.{name}")
    if name not in _HOMES:
        keywords = importlib.import_module("curidask.core.keywords")
        raise keywords.no_attribute(f"module {__name__!r}", name, (*_HOMES, *_SUBMODULES))
    value = getattr(importlib.import_module(f"curidask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
