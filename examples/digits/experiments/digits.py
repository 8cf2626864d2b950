"""Compare four kinds of model at reading handwritten digits, over several seeds and amounts of training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher

from digits_lib import data, models, scores, tables
from digits_lib.parameters import MODELS, Params, grid


# A stage is a function with named inputs and outputs. `record.params` is the parameter set it works for; the inputs
# come from the record's state, and what it returns goes there. A cacher for each output says how it is stored, and
# `params` which parameters the stage reads: sets that differ in others share what it computes.
@cf.stage(inputs=None, outputs=["scans"], cachers=[PickleCacher])
def load(record: cf.Record) -> data.Scans:
    """Read the scans."""
    return data.read_scans()


@cf.stage(
    inputs=["scans"],
    outputs=["train_scans", "test_scans"],
    cachers=[PickleCacher, PickleCacher],
    params=["n_train", "n_test", "seed"],
)
def split(record: cf.Record, scans: data.Scans) -> tuple[data.Scans, data.Scans]:
    """Draw scans to train on and scans to test on."""
    params = record.params
    return data.divide(scans, params.n_train, params.n_test, params.seed)


@cf.stage(["train_scans", "test_scans"], ["scaled_train", "scaled_test"], [PickleCacher, PickleCacher], params=[])
def scale(record: cf.Record, train_scans: data.Scans, test_scans: data.Scans) -> tuple[data.Scans, data.Scans]:
    """Bring all pixels to the same scale."""
    return data.standardise(train_scans, test_scans)


@cf.stage(["scaled_train"], ["classifier"], [PickleCacher], params=["model", "seed"])
def train(record: cf.Record, scaled_train: data.Scans) -> Any:
    """Train the model."""
    return models.fit(record.params.model, scaled_train, record.params.seed)


@cf.stage(["classifier", "scaled_test"], ["accuracy", "confusion"], [JsonCacher, JsonCacher], params=[])
def evaluate(record: cf.Record, classifier: Any, scaled_test: data.Scans) -> tuple[float, scores.Matrix]:
    """Let the model read the test scans."""
    confusion = scores.confusion(scaled_test.digits, models.predict(classifier, scaled_test))
    return scores.accuracy(confusion), confusion


# An aggregate works on several records at once: each input is a mapping from record to that record's value.
@cf.aggregate(["accuracy"], ["leaderboard"], [JsonCacher])
def compare(record: cf.Record, records: Sequence[cf.Record], accuracy: Mapping[cf.Record, float]) -> list[scores.Row]:
    """Rank the configurations by their mean accuracy over the seeds."""
    return scores.rank((r.params.configuration, value) for r, value in accuracy.items())


@cf.aggregate(["accuracy", "confusion"], ["best_confusion"], [JsonCacher])
def inspect_best(
    record: cf.Record,
    records: Sequence[cf.Record],
    accuracy: Mapping[cf.Record, float],
    confusion: Mapping[cf.Record, scores.Matrix],
) -> scores.Matrix:
    """Add up the confusion matrices of the best configuration over its seeds."""
    best = scores.rank((r.params.configuration, value) for r, value in accuracy.items())[0]["configuration"]
    return scores.add_up([confusion[r] for r in records if r.params.configuration == best])


def get_params() -> list[Params]:
    """Every model with little and with much training data, three seeds each."""
    return grid(MODELS, sizes=(300, 1200), seeds=(1, 2, 3))


def run(param_sets: list[Params], manager: cf.ArtifactManager) -> list[scores.Row]:
    """Send each parameter set through the stages, then compare."""
    # The scans are the same for every set: a record without parameters loads them once, the others start as its copy.
    loaded = load(cf.Record(manager, None))
    records = [evaluate(train(scale(split(loaded.make_copy(params))))) for params in param_sets]

    # One record may go through several stages, aggregates too; this one gathers the others twice.
    final = inspect_best(compare(cf.Record(manager, None), records), records)

    # Up to here nothing was computed: calling stages says what depends on what. Reading a value computes what it needs.
    leaderboard: list[scores.Row] = final.state["leaderboard"]
    best = leaderboard[0]
    print(tables.leaderboard_text(leaderboard))
    print(f"\nWhat {best['configuration']} read (all seeds together):\n")
    print(tables.confusion_text(final.state["best_confusion"]))
    return leaderboard
