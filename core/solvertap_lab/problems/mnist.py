"""The neural ODEs of Pal21 and Pal23 over the pixels of MNIST, with a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .digits import Digits
from .key import Key
from .layers import apply, dense
from .optimiser import Optimiser
from .problem import Arrays, Batch, Parameters


class Mnist(Digits):
    """With the settings of Pal21's code, `mnist_node`."""

    name = "mnist"
    summary = "neural ODE over the pixels of MNIST digits, a linear head"
    tolerance = 1.4e-8
    epochs = 75
    batch_size = 512
    optimiser = Optimiser("momentum", 0.1, decay=1e-5)
    methods: ClassVar[Sequence[str]] = (
        "vanilla",
        "pal21-mnist-ode-error",
        "pal21-mnist-ode-stiffness",
        "pal21-mnist-ode-both",
    )

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return (
            dense(rng, 784, 100, "hidden", time=True)
            | dense(rng, 100, 784, "out", time=True)
            | dense(rng, 784, 10, "head")
        )

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no encoder
        return batch["images"]

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        xp = array_namespace(y)
        hidden = xp.tanh(apply(parameters, "hidden", y, t))
        return xp.tanh(apply(parameters, "out", hidden, t))

    def logits(self, parameters: Parameters, states: Array) -> Array:
        return apply(parameters, "head", states[-1, ...])


class MnistPal23(Mnist):
    """With the settings of Pal23: the slope ends without tanh, and its terms are on one step of each solve."""

    name = "mnist-pal23"
    summary = "neural ODE over the pixels of MNIST digits, a linear head; settings of Pal23"
    epochs = 70  # 7500 steps of 512 of the 55 000 images of the full data set
    optimiser = Optimiser("adam", 1e-3)
    methods = ("vanilla", "local-unbiased", "local-biased")

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        return apply(parameters, "out", array_namespace(y).tanh(apply(parameters, "hidden", y, t)), t)
