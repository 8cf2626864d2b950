"""How well a classifier reads, and how runs with several seeds are summed up.

Everything here is made of counts, so it comes out the same to the last digit wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import TypedDict

from sklearn.metrics import confusion_matrix

from digits_lib.data import Array

Matrix = list[list[int]]
"""Counts; row: the digit that was written, column: the digit that was read."""


class Row(TypedDict):
    """A configuration in the leaderboard.

    `mean` and `spread` (sample standard deviation, None for a single seed) are of the accuracy over the seeds.
    """

    configuration: str
    seeds: int
    mean: float
    spread: float | None
    worst: float


def confusion(written: Array, read: Array) -> Matrix:
    """How often each digit was read as each."""
    counts: Matrix = confusion_matrix(written, read, labels=range(10)).tolist()
    return counts


def accuracy(matrix: Matrix) -> float:
    """The share of scans that were read right."""
    right = sum(matrix[digit][digit] for digit in range(len(matrix)))
    return right / sum(map(sum, matrix))


def rank(results: Iterable[tuple[str, float]]) -> list[Row]:
    """Sum up accuracies by configuration, best mean first.

    Parameters
    ----------
    results : iterable of (str, float)
        Configuration and accuracy, one pair a parameter set.
    """
    groups: dict[str, list[float]] = {}
    for configuration, value in results:
        groups.setdefault(configuration, []).append(value)
    rows = [_row(configuration, values) for configuration, values in groups.items()]
    return sorted(rows, key=lambda row: (-row["mean"], row["configuration"]))


def add_up(matrices: Sequence[Matrix]) -> Matrix:
    """The sum of confusion matrices."""
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def _row(configuration: str, values: list[float]) -> Row:
    return {
        "configuration": configuration,
        "seeds": len(values),
        "mean": fmean(values),
        "spread": stdev(values) if len(values) > 1 else None,
        "worst": min(values),
    }
