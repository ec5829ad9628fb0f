"""Fields that are measured beside those of the problems: deeper ones, and solves of which the end alone is read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from ..problems.layers import apply, dense
from ..problems.problem import Arrays, Parameters
from ..problems.spiral import Spiral, SpiralSDE

_LAYERS = 16


class Layered(Spiral):
    """A field of 16 dense layers on 20 numbers, as wide as that of Pal21's latent ODE; its batches are of 512."""

    name = "layered"

    def parameters(self, rng: np.random.Generator) -> Arrays:
        widths = [20, 50] * (_LAYERS // 2) + [20]
        layers = [dense(rng, a, b, f"layer{i}") for i, (a, b) in enumerate(pairwise(widths))]
        return {name: value for layer in layers for name, value in layer.items()}

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        for i in range(_LAYERS):
            y = array_namespace(y).tanh(apply(parameters, f"layer{i}", y))
        return y


class Two(Spiral):
    """A field of two dense layers on 2 numbers, of whose solve the end alone is read."""

    name = "two"
    times = (0.0, 1.0)
    widths = (2, 32)

    def parameters(self, rng: np.random.Generator) -> Arrays:
        size, hidden = self.widths
        return dense(rng, size, hidden, "hidden") | dense(rng, hidden, size, "out")

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        return apply(parameters, "out", array_namespace(y).tanh(apply(parameters, "hidden", y)))


class TwoWide(Two):
    """The same on 20 numbers."""

    name = "two-wide"
    widths = (20, 50)


class ShortSDE(SpiralSDE):
    """The spiral SDE, of whose solve the end alone is read."""

    name = "short-sde"
    times = (0.0, 1.0)
