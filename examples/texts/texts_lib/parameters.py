"""The parameter sets: which texts, how they become numbers, which model learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curidask import ExperimentParameters

LINEAR = ("logistic", "hinge")


@dataclass
class Texts(ExperimentParameters):
    """Which texts are written. All models get the same."""

    n_texts: int = 2400
    noise: float = 0.55
    seed: int = 7


@dataclass
class Model(ExperimentParameters):
    """How a model learns."""

    kind: str = "bayes"
    """"bayes", or one of the linear models "logistic" and "hinge"."""
    n_words: int = 1
    """Longest run of words that counts as a feature."""
    strength: float = 1.0
    """Smoothing of "bayes"; of a linear model the inverse of its penalty."""
    n_train: int = 1200


def grid(kinds: Sequence[str], n_words: Sequence[int], strengths: Sequence[float], sizes: Sequence[int]) -> list[Model]:
    """Every combination."""
    return [
        Model(f"{kind}-{n}words-{strength:g}-{size}", kind=kind, n_words=n, strength=strength, n_train=size)
        for kind in kinds
        for n in n_words
        for strength in strengths
        for size in sizes
    ]
