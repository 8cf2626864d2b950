"""The scans and how they are divided and scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scans:
    """Some scans with the digits they show.

    Attributes
    ----------
    pixels : array of shape (n, 64)
        8 x 8 grey values a scan; 0 to 16 as they were read, anything once they are scaled.
    digits : array of shape (n,)
        0 to 9.
    """

    pixels: Array
    digits: Array

    def __len__(self) -> int:
        return len(self.digits)


def read_scans() -> Scans:
    """All 1,797 scans that scikit-learn brings along."""
    bunch = load_digits()
    return Scans(bunch.data.astype(np.uint8), bunch.target.astype(np.uint8))


def divide(scans: Scans, n_train: int, n_test: int, seed: int) -> tuple[Scans, Scans]:
    """Draw training and test scans, with the same share of each digit in both."""
    rows = np.arange(len(scans))
    train, test = train_test_split(rows, train_size=n_train, test_size=n_test, stratify=scans.digits, random_state=seed)
    return _pick(scans, train), _pick(scans, test)


def standardise(train: Scans, test: Scans) -> tuple[Scans, Scans]:
    """Bring every pixel to mean 0 and variance 1, as measured on the training scans alone."""
    scaler = StandardScaler().fit(train.pixels.astype(float))
    return (
        Scans(scaler.transform(train.pixels.astype(float)), train.digits),
        Scans(scaler.transform(test.pixels.astype(float)), test.digits),
    )


def _pick(scans: Scans, rows: Array) -> Scans:
    return Scans(scans.pixels[rows], scans.digits[rows])
