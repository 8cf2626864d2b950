"""The old names of `curidask.params`."""

from curidask.params import ExperimentParameters

ExperimentArgs = ExperimentParameters

__all__ = ["ExperimentArgs"]
