"""What all parameter files share."""

from copy import deepcopy
from dataclasses import dataclass

import curifactory as cf


@dataclass
class Params(cf.ExperimentParameters):
    model: str = "knn"
    seed: int = 0


def seeded(params, count):
    made = [deepcopy(params) for _ in range(count)]
    for seed, each in enumerate(made):
        each.name += f"_seed{seed}"
        each.seed = seed
    return made
