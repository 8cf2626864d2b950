"""More of everything: other settings of the models, and two more seeds of the usual ones."""

from collections.abc import Mapping

from digits_lib.models import Forest, Logistic, Model, Neighbours, Svm
from digits_lib.parameters import MODELS, Params, grid

VARIANTS: Mapping[str, Model] = {
    "logistic-strict": Logistic(c=0.01),
    "logistic-loose": Logistic(c=100.0),
    "svm-tight": Svm(c=10.0),
    "neighbours-one": Neighbours(k=1),
    "neighbours-many": Neighbours(k=15),
    "forest-small": Forest(trees=20),
}


def get_params() -> list[Params]:
    return [*grid(VARIANTS, sizes=(1200,), seeds=(1, 2, 3)), *grid(MODELS, sizes=(300, 1200), seeds=(4, 5))]
