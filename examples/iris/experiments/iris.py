"""Tell three kinds of iris apart: logistic regression against a random forest."""

from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split


@dataclass
class Params(cf.ExperimentParameters):
    """What varies between the parameter sets."""

    model_type: type[ClassifierMixin] = LogisticRegression
    """The class of the model; it counts for the hash by its name."""
    balanced: bool = False
    """Whether rare kinds weigh as much as common ones."""
    n_trees: int = 100
    """Size of a random forest; other models ignore it."""
    seed: int = 42
    """Decides which flowers are held back for the test, and what is random in the training."""


@cf.stage(inputs=None, outputs=["training_data", "testing_data"], cachers=[PickleCacher] * 2)
def load_data(record):
    """Hold back a third of the 150 flowers for the test."""
    measures, kinds = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        measures, kinds, test_size=1 / 3, stratify=kinds, random_state=record.params.seed
    )
    return (train_x, train_y), (test_x, test_y)


@cf.stage(inputs=["training_data"], outputs=["model"], cachers=[PickleCacher])
def train_model(record, training_data):
    """Train the kind of model that the parameter set names."""
    params = record.params
    options = {"class_weight": "balanced" if params.balanced else None, "random_state": params.seed}
    if issubclass(params.model_type, RandomForestClassifier):
        options["n_estimators"] = params.n_trees
    else:
        options["max_iter"] = 1000
    return params.model_type(**options).fit(*training_data)


# Without `inputs` an aggregate depends on all that its records hold, and takes from their states what it wants.
@cf.aggregate(outputs=["scores"], cachers=[JsonCacher])
def test_models(record, records):
    """Measure each model on the flowers it has not seen."""
    return {r.params.name: r.state["model"].score(*r.state["testing_data"]) for r in records}


def get_params():
    return [
        Params("logistic", model_type=LogisticRegression, balanced=True),
        Params("forest", model_type=RandomForestClassifier),
        Params("small forest", model_type=RandomForestClassifier, n_trees=5),
    ]


def run(param_sets, manager):
    for param_set in param_sets:
        train_model(load_data(cf.Record(manager, param_set)))

    # Without a list of records an aggregate gathers all the others.
    final = test_models(cf.Record(manager, None))

    scores = final.state["scores"]
    for name, score in sorted(scores.items(), key=lambda item: -item[1]):
        print(f"{name:<20} {score:.1%}")
    return scores
