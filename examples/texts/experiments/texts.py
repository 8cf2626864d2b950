"""Which model tells the subject of a short text best, and how many texts does it need?"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import curidask as cf
import pandas as pd
from curidask.caching import JsonCacher, Lazy, PandasCsvCacher, PickleCacher
from curidask.reporting import DFReporter, JsonReporter, LinePlotReporter

from texts_lib import models
from texts_lib.corpus import Corpus, write_corpus
from texts_lib.parameters import LINEAR, Model, Texts, grid


# --- the shared data: one record goes through these, and every model starts with a copy of it -----------------
@cf.stage(None, ["corpus"], [PickleCacher])
def write(record: cf.Record) -> Corpus:
    """Write the texts."""
    params = record.params
    corpus = write_corpus(params.n_texts, params.noise, params.seed)
    examples = dict(zip(corpus.subjects[:4], corpus.texts[:4], strict=True))
    record.report(JsonReporter(examples, name="examples", group="data"))
    return corpus


@cf.stage(["corpus"], ["order", "n_test"], [JsonCacher, JsonCacher])
def split(record: cf.Record, corpus: Corpus) -> tuple[list[int], int]:
    """Shuffle the texts; the last quarter is kept for testing."""
    order = list(range(len(corpus.texts)))
    random.Random(record.params.seed).shuffle(order)
    return order, len(order) // 4


# --- one branch a kind of model -------------------------------------------------------------------------------------
# The matrix is large and needed by one stage after another, so it stays on disk and is loaded where it is used.
@cf.stage(["corpus"], [Lazy("features")], [PickleCacher])
def vectorise(record: cf.Record, corpus: Corpus) -> Any:
    """Turn the texts into numbers."""
    return models.vectorise(corpus.texts, record.params.n_words)


@cf.stage(["corpus", "order", "n_test", "features"], ["model"], [PickleCacher])
def train_bayes(record: cf.Record, corpus: Corpus, order: list[int], n_test: int, features: Any) -> Any:
    """Train a naive Bayes model."""
    places = order[:-n_test][: record.params.n_train]
    return models.fit_bayes(features[places], corpus.take(places).subjects, record.params.strength)


@cf.stage(["corpus", "order", "n_test", "features"], ["model"], [PickleCacher])
def train_linear(record: cf.Record, corpus: Corpus, order: list[int], n_test: int, features: Any) -> Any:
    """Train a linear model."""
    params = record.params
    places = order[:-n_test][: params.n_train]
    return models.fit_linear(features[places], corpus.take(places).subjects, params.kind, params.strength)


@cf.stage(["corpus", "order", "n_test", "features", "model"], ["scores"], [JsonCacher])
def evaluate(
    record: cf.Record, corpus: Corpus, order: list[int], n_test: int, features: Any, model: Any
) -> dict[str, float]:
    """Let the model guess the subjects of texts it has not seen."""
    places = order[-n_test:]
    subjects, guesses = corpus.take(places).subjects, list(model.predict(features[places]))
    record.report(DFReporter(models.confusion(subjects, guesses), name=record.params.name, group=record.params.kind))
    return models.score(subjects, guesses)


# --- over all of them -------------------------------------------------------------------------------------------------
@cf.aggregate(["scores"], ["table"], [PandasCsvCacher])
def compare(
    record: cf.Record, records: Sequence[cf.Record], scores: Mapping[cf.Record, dict[str, float]]
) -> pd.DataFrame:
    """Rank the models, and draw what more texts bring."""
    rows = [{"name": r.name, "kind": r.params.kind, "n_train": r.params.n_train, **s} for r, s in scores.items()]
    table = pd.DataFrame(rows).sort_values(["accuracy", "name"], ascending=[False, True], ignore_index=True)
    best = table.groupby(["kind", "n_train"])["accuracy"].max().unstack("kind")
    lines = {kind: best[kind].tolist() for kind in best.columns}
    record.report(DFReporter(table, name="ranking", group="result"))
    record.report(
        LinePlotReporter(
            lines, x=best.index.tolist(), name="accuracy over the number of training texts", group="result"
        )
    )
    return table


def get_params() -> list[Model]:
    """Three kinds of model, with words alone or in pairs, on little and on much data."""
    return grid(("bayes", *LINEAR), n_words=(1, 2), strengths=(0.3, 3.0), sizes=(100, 400, 1600))


def run(param_sets: list[Model], manager: cf.ArtifactManager) -> pd.DataFrame:
    """Write the texts once, then let every model learn from them."""
    data = split(write(cf.Record(manager, Texts("texts"))))
    records = []
    for params in param_sets:
        record = vectorise(data.make_copy(params))
        record = train_bayes(record) if params.kind == "bayes" else train_linear(record)
        records.append(evaluate(record))
    table: pd.DataFrame = compare(cf.Record(manager, None), records).state["table"]
    print(table.head(8).to_string(index=False))
    return table
