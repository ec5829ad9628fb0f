"""A continuous normalizing flow on a density in the plane: Pal21's FFJORD, with the exact trace."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .batching import shuffled
from .key import Key
from .layers import dense, logistic
from .optimiser import Optimiser
from .problem import Arrays, Batch, Parameters, Problem

_LAYERS = ("first", "second", "third")
_HIDDEN = 16


class Cnf(Problem):
    """Learns a density by maximum likelihood: data flow from time 0 to a standard normal at time 1.

    The state is a point of the plane, and beside it by how much the log density has changed: shape (batch, 3).
    Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, FFJORD (ICLR 2019, arXiv 1810.01367), eq. 2. The network is that
    of Pal21's code, `ffjord_gaussian`.

    Not as in the code are: the trace of the Jacobian, which is computed, for in the plane that takes two products with
    the Jacobian, where the code estimates it; the density, eight normals that touch in the place of six far apart,
    since on those a solve takes as many steps after 20 epochs as after 150; more epochs, at a lower rate and without
    weight decay; the mean of the last weights, which predicts; and the tolerance, 1.4e-8 there, which is below the
    rounding of 32 bits.
    """

    name = "cnf"
    summary = "continuous normalizing flow on a mixture of eight normal densities in the plane"
    metric = "test negative log likelihood, nats"
    times = (0.0, 1.0)
    averaged = 0.2  # the last weights are noise: their likelihood differs by 4 % from seed to seed
    tolerance = 1e-5
    epochs = 150
    batch_size = 1024
    optimiser = Optimiser("adam", 0.03)
    methods = ("vanilla", "pal21-ffjord-gaussian-error")

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return (
            _squashed(rng, 2, _HIDDEN, "first")
            | _squashed(rng, _HIDDEN, _HIDDEN, "second")
            | _squashed(rng, _HIDDEN, 2, "third")
        )

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        for chosen in shuffled(rng, len(self._points), size):
            yield {"x": self._points[chosen]}

    def validation_batch(self) -> Arrays:
        return {"x": self.sample(np.random.default_rng(2001), 4000)}

    def test_batch(self) -> Arrays:
        return {"x": self.sample(np.random.default_rng(2000), 4000)}

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
        """Points of the density, (count, 2): eight normals of deviation 0.35 on a circle of radius 2.8."""
        angle = 2 * np.pi / 8 * rng.integers(8, size=count)
        centre = 2.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(centre + 0.35 * rng.normal(size=(count, 2)))

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        xp = array_namespace(batch["x"])
        return xp.concat([batch["x"], 0 * batch["x"][:, :1]], axis=1)

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        xp = array_namespace(y)
        slope, trace = velocity_and_trace(parameters, t, y[:, :2])
        return xp.concat([slope, -trace[:, None]], axis=1)

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no head
        return -array_namespace(states).mean(self.log_density(states))

    def log_density(self, states: Array) -> Array:
        """That of the points at which the states began, (batch,), in nats."""
        end, change = states[-1, :, :2], states[-1, :, 2]
        return -array_namespace(states).sum(end**2, axis=1) / 2 - float(np.log(2 * np.pi)) - change

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        return self.loss(parameters, states, batch, key)

    @cached_property
    def _points(self) -> np.ndarray[Any, Any]:
        return self.sample(np.random.default_rng(1999), 2048)


def velocity_and_trace(parameters: Parameters, t: Array, x: Array) -> tuple[Array, Array]:
    """The slope of points (batch, 2) and the trace of its Jacobian by the points, (batch,).

    Beside the points, two tangents pass through every layer: one for each axis of the plane.
    """
    xp = array_namespace(x)
    tangents: list[Array] = []
    for name in _LAYERS:
        gate = logistic(t * parameters[f"{name}.gate"])
        weight = parameters[f"{name}.weight"] * gate
        tangents = [tangent @ weight for tangent in tangents] or [weight[0, :], weight[1, :]]
        x = x @ weight + parameters[f"{name}.bias"] * gate + t * parameters[f"{name}.time"]
        if name != _LAYERS[-1]:
            tangents = [tangent * logistic(x) for tangent in tangents]
            x = xp.logaddexp(x, xp.zeros_like(x))  # softplus, whose derivative is the sigmoid
    return x, tangents[0][:, 0] + tangents[1][:, 1]


def _squashed(rng: np.random.Generator, inputs: int, outputs: int, name: str) -> Arrays:
    """The weights of FFJORD's `ConcatSquashLinear`: a dense layer with the time, whose outputs the time scales."""
    bound = np.sqrt(6 / (1 + outputs))
    return dense(rng, inputs, outputs, name, time=True) | {f"{name}.gate": rng.uniform(-bound, bound, outputs)}
