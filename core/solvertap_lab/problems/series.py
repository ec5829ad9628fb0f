"""Irregular series of patients on a common grid of times, split by patient and normalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS = 49
"""The points of the grid, as in Pal21: the hours of two days, their ends included."""

_SEED = 1999  # of the split, whatever the seed of a training run


@dataclass(frozen=True)
class Series:
    """Measurements of several patients.

    Attributes:
        values: what was observed; shape (times, patients, features).
        mask: 1 where something was observed, 0 elsewhere; the same shape.
    """

    values: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]

    def of(self, patients: np.ndarray[Any, Any]) -> Series:
        """Those of some patients."""
        return Series(self.values[:, patients], self.mask[:, patients])


def on_grid(
    point: np.ndarray[Any, Any],
    patient: np.ndarray[Any, Any],
    feature: np.ndarray[Any, Any],
    value: np.ndarray[Any, Any],
    features: int,
) -> Series:
    """Single measurements as series, the mean where several share a place.

    Args:
        point: of each measurement, its point of the grid; shape (measurements,).
        patient: its patient, counted from 0, each of whom has one at least.
        feature: what was measured.
        value: what was found.
        features: how many features there are.
    """
    shape = (POINTS, int(patient.max()) + 1, features)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (point, patient, feature), value)
    np.add.at(count, (point, patient, feature), 1)
    return Series(total / np.maximum(count, 1), np.minimum(count, 1))


def split(series: Series) -> tuple[Series, Series, Series]:
    """The training, the validation and the test split: 65, 15 and 20 in a hundred of the patients.

    The values of all three are scaled by the least and the largest of each feature in the training split, to which they
    become 0 and 1.
    """
    patients = np.random.default_rng(_SEED).permutation(series.values.shape[1])
    test, validation = len(patients) // 5, len(patients) * 35 // 100
    train = series.of(patients[validation:])
    low = np.where(train.mask > 0, train.values, np.inf).min(axis=(0, 1))
    high = np.where(train.mask > 0, train.values, -np.inf).max(axis=(0, 1))
    # Of a feature that never changes, or is never seen, in the training split, there is nothing to scale.
    constant = ~(low < high)
    low, width = np.where(constant, 0.0, low), np.where(constant, 1.0, high - low)
    scaled = Series((series.values - low) / width * series.mask, series.mask)
    return (
        scaled.of(patients[validation:]),
        scaled.of(patients[test:validation]),
        scaled.of(patients[:test]),
    )
