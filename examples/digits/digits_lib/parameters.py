"""What can be varied, and a helper that makes lists of parameter sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import curidask as cf

from digits_lib.models import Forest, Logistic, Model, Neighbours, Svm

MODELS: Mapping[str, Model] = {
    "logistic": Logistic(),
    "svm": Svm(),
    "neighbours": Neighbours(),
    "forest": Forest(),
}
"""One model of each kind, by the short name that parameter sets carry."""


@dataclass
class Params(cf.ExperimentParameters):
    """One model, trained once.

    Attributes
    ----------
    model : Model
        The model with its settings.
    n_train : int
        How many scans to train on.
    n_test : int
        How many other scans to test on.
    seed : int
        Decides which scans are drawn, and whatever is random in the training.
    """

    model: Model = Logistic()  # noqa: RUF009  # frozen, so sets may share it
    n_train: int = 1200
    n_test: int = 500
    seed: int = 1

    @property
    def configuration(self) -> str:
        """What sets have in common that differ only in their seed."""
        return f"{self.model}, {self.n_train} scans"


def grid(models: Mapping[str, Model], sizes: Iterable[int], seeds: Iterable[int]) -> list[Params]:
    """A parameter set for every combination."""
    return [
        Params(f"{name}-{size}-seed{seed}", model=model, n_train=size, seed=seed)
        for (name, model), size, seed in product(models.items(), sizes, seeds)
    ]
