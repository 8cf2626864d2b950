"""The models: each is a small dataclass with its settings, which builds a scikit-learn classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from digits_lib.data import Array, Scans


class Model(Protocol):
    """What every model has."""

    def build(self, seed: int) -> Any:
        """A classifier that is not trained yet."""
        ...

    def __str__(self) -> str:
        """How tables name it."""
        ...


@dataclass(frozen=True)
class Logistic:
    """Logistic regression; a smaller `c` means a stronger penalty on large weights."""

    c: float = 1.0

    def build(self, seed: int) -> LogisticRegression:
        return LogisticRegression(C=self.c, max_iter=1000, random_state=seed)

    def __str__(self) -> str:
        return f"logistic regression C={self.c:g}"


@dataclass(frozen=True)
class Svm:
    """Support vector machine with a radial kernel; a larger `c` bends the boundary more."""

    c: float = 1.0

    def build(self, seed: int) -> SVC:
        return SVC(C=self.c, random_state=seed)

    def __str__(self) -> str:
        return f"SVM C={self.c:g}"


@dataclass(frozen=True)
class Neighbours:
    """The majority among the `k` nearest training scans."""

    k: int = 5

    def build(self, seed: int) -> KNeighborsClassifier:
        return KNeighborsClassifier(n_neighbors=self.k, n_jobs=1)

    def __str__(self) -> str:
        return f"k-nearest neighbours k={self.k}"


@dataclass(frozen=True)
class Forest:
    """Random forest of `trees` decision trees."""

    trees: int = 100

    def build(self, seed: int) -> RandomForestClassifier:
        return RandomForestClassifier(n_estimators=self.trees, random_state=seed, n_jobs=1)

    def __str__(self) -> str:
        return f"random forest {self.trees} trees"


# Numerical libraries add up in another order when they use another number of threads, which changes the last bits of a
# result. One thread makes the result the same on every machine, in this process and on a worker.


def fit(model: Model, train: Scans, seed: int) -> Any:
    """Train a model."""
    with threadpool_limits(1):
        return model.build(seed).fit(train.pixels, train.digits)


def predict(classifier: Any, scans: Scans) -> Array:
    """The digits that a trained classifier reads in the scans."""
    with threadpool_limits(1):
        digits: Array = classifier.predict(scans.pixels)
    return digits
