"""Pal21's MNIST SDE: a neural SDE on 32 numbers between two dense layers."""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .digits import Digits
from .key import Key
from .layers import apply, dense
from .optimiser import Optimiser
from .problem import Arrays, Batch, Parameters


class MnistSDE(Digits):
    """With the settings of Pal21's code, `mnist_nsde`: trained on one path, and tested on the mean logits of ten."""

    name = "mnist-sde"
    summary = "neural SDE on 32 numbers between two dense layers, on MNIST digits"
    stochastic = True
    trajectories = 1
    test_trajectories = 10
    tolerance = 0.14
    epochs = 40
    batch_size = 512
    optimiser = Optimiser("adam", 0.01, decay=1e-5)
    methods = ("vanilla", "pal21-mnist-sde-error", "pal21-mnist-sde-stiffness")

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return (
            dense(rng, 784, 32, "encoder")
            | dense(rng, 32, 64, "hidden")
            | dense(rng, 64, 32, "out")
            | dense(rng, 32, 32, "noise")
            | dense(rng, 32, 10, "head")
        )

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        return apply(parameters, "encoder", batch["images"])

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        return apply(parameters, "out", array_namespace(y).tanh(apply(parameters, "hidden", y)))

    def diffusion(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        return apply(parameters, "noise", y)

    def logits(self, parameters: Parameters, states: Array) -> Array:
        # (trajectories, times, batch, 32)
        return array_namespace(states).mean(apply(parameters, "head", states[:, -1, ...]), axis=0)
