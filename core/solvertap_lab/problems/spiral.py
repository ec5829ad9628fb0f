"""A neural ODE and a neural SDE on the damped cubic spiral."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .key import Key
from .layers import apply, dense
from .optimiser import Optimiser
from .problem import Arrays, Batch, Parameters, Problem

# Pal21: du1 = -a u1^3 + b u2^3, du2 = -b u1^3 - a u2^3.
_DAMPING, _TURNING, _NOISE = 0.1, 2.0, 0.2
_MATRIX = np.array([[-_DAMPING, -_TURNING], [_TURNING, -_DAMPING]])


class _CubicSpiral(Problem):
    """What both problems share: the network of the slope, its optimiser, and 30 times."""

    times = tuple(np.linspace(0.0, 1.0, 30).tolist())
    precision = 64
    optimiser = Optimiser("adam", 0.01)

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return dense(rng, 2, 50, "hidden") | dense(rng, 50, 2, "out")

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no encoder
        return batch["y0"]

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        xp = array_namespace(y)
        return apply(parameters, "out", xp.tanh(apply(parameters, "hidden", y * y * y)))


class Spiral(_CubicSpiral):
    """Learns the spiral from 32 trajectories; tested on 32 others, and validated on 32 more."""

    name = "spiral"
    summary = "neural ODE on the damped cubic spiral, 32 trajectories of 30 points"
    metric = "test error, rms"
    tolerance = 1e-7
    epochs = 300
    batch_size = 32
    methods = ("vanilla", "local-error=0.2")

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        order = rng.permutation(len(self._train["y0"]))[:size]
        yield {"y0": self._train["y0"][order], "states": self._train["states"][:, order]}

    def test_batch(self) -> Arrays:
        return self._test

    def validation_batch(self) -> Arrays:
        return self._validation

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no head
        return array_namespace(states).mean((states - batch["states"]) ** 2)

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        return array_namespace(states).sqrt(self.loss(parameters, states, batch, key))

    @cached_property
    def _train(self) -> Arrays:
        return self._trajectories(np.random.default_rng(1999))

    @cached_property
    def _test(self) -> Arrays:
        return self._trajectories(np.random.default_rng(2000))

    @cached_property
    def _validation(self) -> Arrays:
        return self._trajectories(np.random.default_rng(2001))

    def _trajectories(self, rng: np.random.Generator) -> Arrays:
        angle, radius = rng.uniform(0, 2 * np.pi, 32), rng.uniform(1.0, 2.0, 32)
        y0 = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        states, y = [y0], y0
        for start, stop in zip(self.times[:-1], self.times[1:], strict=True):
            y = _classical_runge_kutta(y, stop - start, substeps=50)
            states.append(y)
        return {"y0": y0, "states": np.stack(states)}


class SpiralSDE(_CubicSpiral):
    """Learns mean and variance of the noisy spiral over 100 trajectories, as in Pal21.

    There is one input, which training sees. Validation and test compare with mean and variance of other samples of
    the truth, each on Brownian paths of its own.
    """

    name = "spiral-sde"
    summary = "neural SDE on the noisy cubic spiral, mean and variance at 30 times"
    stochastic = True
    metric = "test error of mean and variance, mse"
    averaged = 0.2  # the last weights of a neural SDE are noise: one seed may have ten times the error of another
    tolerance = 0.3
    epochs = 250
    batch_size = 100
    methods = ("vanilla", "pal21-spiral-sde-error", "pal21-spiral-sde-stiffness")

    def parameters(self, rng: np.random.Generator) -> Arrays:
        return super().parameters(rng) | dense(rng, 2, 2, "noise")

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:  # noqa: ARG002  # one batch
        yield self._batch(size, self._train)

    def test_batch(self) -> Arrays:
        return self._batch(1000, self._test)

    def validation_batch(self) -> Arrays:
        return self._batch(2000, self._validation)  # more than of the test: they choose a weight

    def diffusion(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        return apply(parameters, "noise", y)

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # no head
        xp = array_namespace(states)
        mean = xp.mean(states, axis=1)
        variance = xp.mean((states - mean[:, None, :]) ** 2, axis=1)
        return xp.mean((mean - batch["mean"]) ** 2) + xp.mean((variance - batch["variance"]) ** 2)

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        return self.loss(parameters, states, batch, key)

    @cached_property
    def _train(self) -> Arrays:
        return self._moments(np.random.default_rng(1999))

    @cached_property
    def _test(self) -> Arrays:
        return self._moments(np.random.default_rng(2000))

    @cached_property
    def _validation(self) -> Arrays:
        return self._moments(np.random.default_rng(2001))

    def _batch(self, size: int, moments: Arrays) -> Arrays:
        return {"y0": np.tile([2.0, 0.0], (size, 1)), **moments}

    def _moments(self, rng: np.random.Generator) -> Arrays:
        """Mean and variance of 10 000 trajectories of the Ito truth, by Milstein's method."""
        y = np.tile([2.0, 0.0], (10_000, 1))
        mean, variance = [y.mean(0)], [y.var(0)]
        for start, stop in zip(self.times[:-1], self.times[1:], strict=True):
            substeps = 40
            h = (stop - start) / substeps
            for _ in range(substeps):
                dw = rng.normal(0.0, np.sqrt(h), y.shape)
                y = y + h * _truth(y) + _NOISE * y * dw + 0.5 * _NOISE**2 * y * (dw**2 - h)
            mean.append(y.mean(0))
            variance.append(y.var(0))
        return {"mean": np.stack(mean), "variance": np.stack(variance)}


def _truth(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(y**3 @ _MATRIX)


def _classical_runge_kutta(y: np.ndarray[Any, Any], time: float, substeps: int) -> np.ndarray[Any, Any]:
    h = time / substeps
    for _ in range(substeps):
        k1 = _truth(y)
        k2 = _truth(y + h / 2 * k1)
        k3 = _truth(y + h / 2 * k2)
        k4 = _truth(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y
