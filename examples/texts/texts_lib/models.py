"""Models out of scikit-learn, and how they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.naive_bayes import MultinomialNB


def vectorise(texts: list[str], n_words: int) -> Any:
    """Texts as a sparse matrix of weights, texts x features."""
    return TfidfVectorizer(ngram_range=(1, n_words), sublinear_tf=True).fit_transform(texts)


def fit_bayes(features: Any, subjects: list[str], strength: float) -> MultinomialNB:
    """A naive Bayes model."""
    return MultinomialNB(alpha=strength).fit(features, subjects)


def fit_linear(features: Any, subjects: list[str], kind: str, strength: float) -> SGDClassifier:
    """A linear model trained by stochastic gradient descent."""
    loss = {"logistic": "log_loss", "hinge": "hinge"}[kind]
    return SGDClassifier(loss=loss, alpha=1e-4 / strength, random_state=0).fit(features, subjects)


def score(subjects: list[str], guesses: list[str]) -> dict[str, float]:
    """Accuracy, and F1 by subject."""
    names = sorted(set(subjects))
    _, _, f1, _ = precision_recall_fscore_support(subjects, guesses, labels=names, zero_division=0)
    right = float(np.mean([a == b for a, b in zip(subjects, guesses, strict=True)]))
    by_subject = {name: round(float(value), 4) for name, value in zip(names, f1, strict=True)}
    return {"accuracy": round(right, 4), **by_subject}


def confusion(subjects: list[str], guesses: list[str]) -> pd.DataFrame:
    """How often each subject was taken for each."""
    names = sorted(set(subjects))
    counts = confusion_matrix(subjects, guesses, labels=names)
    return pd.DataFrame(counts, index=pd.Index(names, name="is"), columns=pd.Index(names, name="was taken for"))
